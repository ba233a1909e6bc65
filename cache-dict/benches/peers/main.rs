//! Compares cache-dict with in-process caches and maps: `cargo xtask bench dict`.
//!
//! The peers take minutes to compile, so only `--cfg peers`, which that command sets, adds them.

#[cfg(peers)]
mod bound;
#[cfg(peers)]
mod churn;
#[cfg(peers)]
mod contestants;
#[cfg(peers)]
mod lines;
#[cfg(peers)]
mod load;
#[cfg(peers)]
mod memory;
#[cfg(peers)]
mod tail;

#[cfg(peers)]
fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [memory::OF_ONE, name, prefix, count] => memory::print(name, prefix, count.parse()?),
        _ => lines::run(&clap::Parser::parse()),
    }
}

#[cfg(not(peers))]
fn main() -> std::process::ExitCode {
    eprintln!("run `cargo xtask bench dict`");
    std::process::ExitCode::FAILURE
}
