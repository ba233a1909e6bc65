//! `cargo xtask bench`: compares our backends with their peers.
//!
//! Each comparison is a separate file (`dict.rs`, `memcache.rs`, `etcd.rs`) behind its own feature,
//! because the peers take minutes to compile. It defines the lines (workloads) and their
//! contestants; [`measure`] runs the contestants in turn, [`report`] holds the results, and
//! [`publish`] writes them into the crates' folders. `load` and `python` generate the load on
//! servers, from Rust tasks and from a Python process.

// The shared code is always compiled and tested, but some of it is unused unless every comparison
// is enabled.
#![cfg_attr(
    not(all(
        feature = "bench-dict",
        feature = "bench-memcache",
        feature = "bench-etcd"
    )),
    allow(dead_code)
)]

mod chart;
#[cfg(feature = "bench-dict")]
mod dict;
mod digits;
#[cfg(feature = "bench-etcd")]
mod etcd;
#[cfg(any(feature = "bench-memcache", feature = "bench-etcd"))]
mod load;
mod machine;
mod measure;
#[cfg(feature = "bench-memcache")]
mod memcache;
mod publish;
#[cfg(any(feature = "bench-memcache", feature = "bench-etcd"))]
mod python;
mod readme;
mod report;
#[cfg(test)]
mod tests;
mod words;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{needs, process};
use measure::Measure;

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Compares cache-dict with other in-process maps and caches
    Dict(Measure),
    /// Compares cache-memcache-pool with other memcached clients
    Memcache(Measure),
    /// Compares cache-etcd3 with the plain client and oslo.cache
    Etcd(EtcdOptions),
    /// Publishes the last results to the crates and READMEs; requires a complete run of at least
    /// three rounds
    Publish {
        /// The comparisons: dict, memcache, etcd
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Regenerates charts and READMEs from each crate's speed.json
    Draw,
    /// Prints the memory one cache uses, in bytes; run by `bench dict`
    #[cfg(feature = "bench-dict")]
    #[command(hide = true)]
    MemoryOf(dict::MemoryOf),
}

/// Prints a table and writes JSON and a chart to target/bench/.
#[derive(Args)]
struct EtcdOptions {
    #[command(flatten)]
    measure: Measure,
    /// The etcd version: 3.5, or that of the installed etcd
    #[arg(long, value_name = "VERSION", default_value = "3.5")]
    server: String,
    /// The members of the cluster, except where a line requires a single node
    #[arg(long, default_value_t = 3)]
    members: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    #[allow(unreachable_patterns)] // The fallback arms are for comparisons whose feature is off.
    match &options.job {
        #[cfg(feature = "bench-dict")]
        Job::Dict(options) => dict::main(options),
        #[cfg(feature = "bench-dict")]
        Job::MemoryOf(cache) => cache.print(),
        #[cfg(feature = "bench-memcache")]
        Job::Memcache(options) => memcache::main(options),
        #[cfg(feature = "bench-etcd")]
        Job::Etcd(options) => etcd::main(&options.measure, &options.server, options.members),
        Job::Dict(_) => run_with_peers("bench-dict"),
        Job::Memcache(_) => run_with_peers("bench-memcache"),
        Job::Etcd(_) => run_with_peers("bench-etcd"),
        Job::Publish { names } => publish::publish(names),
        Job::Draw => publish::draw(),
    }
}

/// Reruns this program with the feature that enables the peers.
fn run_with_peers(feature: &str) -> Result<()> {
    needs::provide(needs::EVERYTHING, |_| ())?;
    eprintln!("building the peers (feature {feature})");
    let mut cargo = process::cargo();
    cargo.args(["run", "--release", "--package", "xtask"]);
    cargo.args(["--features", feature, "--"]);
    process::stream(cargo.args(std::env::args_os().skip(1)))
}
