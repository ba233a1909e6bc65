//! `cargo xtask bench`: compares our backends with their peers.
//!
//! Each comparison is a benchmark of its crate, in `benches/peers`. What they share is in the crate
//! `comparison`; [`publish`] writes the results into the crates' folders.

mod publish;

use std::process::Command;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::programs::Arguments;
use crate::{needs, process, workspace};

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Compares cache-dict with other in-process maps and caches
    Dict(Arguments),
    /// Compares cache-memcache-pool with other memcached clients
    Memcache(Arguments),
    /// Compares cache-etcd3 with the plain client and oslo.cache
    Etcd(Arguments),
    /// Publishes the last results to the crates and READMEs; requires a complete run of at least
    /// three rounds
    Publish {
        /// The comparisons: dict, memcache, etcd
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Regenerates charts and READMEs from each crate's speed.json
    Draw,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.job {
        Job::Dict(arguments) => compare("cache-dict", arguments),
        Job::Memcache(arguments) => compare("cache-memcache-pool", arguments),
        Job::Etcd(arguments) => compare("cache-etcd3", arguments),
        Job::Publish { names } => publish::publish(names),
        Job::Draw => publish::draw(),
    }
}

/// Builds the comparison of this crate with its peers, and runs it in this terminal.
fn compare(package: &str, options: &Arguments) -> Result<()> {
    needs::provide(needs::EVERYTHING, |_| ())?;
    let mut cargo = process::cargo();
    cargo.args(["bench", "--package", package, "--bench", "peers", "--"]);
    cargo.args(&options.arguments);
    process::stream(&mut with_peers(cargo))
}

/// Adds the peers to the dependencies of the crates, in a target directory of its own: with other
/// flags for the compiler, cargo builds everything again.
pub(crate) fn with_peers(mut cargo: Command) -> Command {
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    cargo.env("RUSTFLAGS", format!("{flags} --cfg peers"));
    cargo.env("CARGO_TARGET_DIR", workspace::root().join("target/peers"));
    cargo
}
