//! Compares cache-etcd3 with the plain client, oslo.cache's approach in Rust, and oslo.cache itself:
//! `cargo xtask bench etcd`.
//!
//! What it needs takes minutes to compile, so only `--cfg peers`, which that command sets, adds it.

#[cfg(peers)]
mod contestants;
#[cfg(peers)]
mod expiry;
#[cfg(peers)]
mod leases;
#[cfg(peers)]
mod lines;
#[cfg(peers)]
mod tenants;
#[cfg(peers)]
mod workload;

#[cfg(peers)]
fn main() -> anyhow::Result<()> {
    lines::run(&clap::Parser::parse())
}

#[cfg(not(peers))]
fn main() -> std::process::ExitCode {
    eprintln!("run `cargo xtask bench etcd`");
    std::process::ExitCode::FAILURE
}
