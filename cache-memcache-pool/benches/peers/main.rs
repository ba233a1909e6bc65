//! Compares cache-memcache-pool with other memcached clients, on real servers: `cargo xtask bench
//! memcache`.
//!
//! The peers take minutes to compile, so only `--cfg peers`, which that command sets, adds them.

#[cfg(peers)]
mod bare;
#[cfg(peers)]
mod clients;
#[cfg(peers)]
mod limit;
#[cfg(peers)]
mod lines;
#[cfg(peers)]
mod wire;

#[cfg(peers)]
fn main() -> anyhow::Result<()> {
    wire::tests::run();
    lines::run(&clap::Parser::parse())
}

#[cfg(not(peers))]
fn main() -> std::process::ExitCode {
    eprintln!("run `cargo xtask bench memcache`");
    std::process::ExitCode::FAILURE
}
