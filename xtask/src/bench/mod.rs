//! `cargo xtask bench`: our backends beside their peers.
//!
//! A comparison is a file of its own (`dict.rs`, `memcache.rs`, `etcd.rs`) behind a feature of the
//! same name, since its peers take minutes to compile. It describes lines of work and who does
//! them; [`measure`] lets contestants take turns, [`report`] is what was measured, and
//! [`publish`] writes it into the crates' folders. `load` and `python` are the tasks and the
//! Python process that ask servers.

// What the comparisons share is compiled and tested always; only all of them together use it all.
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
    /// Measures cache-dict and other maps and caches in process
    Dict(Measure),
    /// Compares cache-memcache-pool with other memcached clients
    Memcache(Measure),
    /// Compares cache-etcd3 with the plain client and oslo.cache
    Etcd(EtcdOptions),
    /// Copies the last measurements to the crates and READMEs; requires a complete run with at
    /// least three rounds
    Publish {
        /// The comparisons: dict, memcache, etcd
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Regenerates charts and READMEs from each crate's speed.json
    Draw,
    /// Prints how many bytes one cache takes: `bench dict` starts it
    #[cfg(feature = "bench-dict")]
    #[command(hide = true)]
    MemoryOf(dict::MemoryOf),
}

/// A table, and JSON and a chart under target/bench/.
#[derive(Args)]
struct EtcdOptions {
    #[command(flatten)]
    measure: Measure,
    /// The version of etcd: 3.5, or that of the installed one
    #[arg(long, value_name = "VERSION", default_value = "3.5")]
    server: String,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    #[allow(unreachable_patterns)] // With its feature on, a comparison needs no second start.
    match &options.job {
        #[cfg(feature = "bench-dict")]
        Job::Dict(options) => dict::main(options),
        #[cfg(feature = "bench-dict")]
        Job::MemoryOf(cache) => cache.print(),
        #[cfg(feature = "bench-memcache")]
        Job::Memcache(options) => memcache::main(options),
        #[cfg(feature = "bench-etcd")]
        Job::Etcd(options) => etcd::main(&options.measure, &options.server),
        Job::Dict(_) => run_with_peers("bench-dict"),
        Job::Memcache(_) => run_with_peers("bench-memcache"),
        Job::Etcd(_) => run_with_peers("bench-etcd"),
        Job::Publish { names } => publish::publish(names),
        Job::Draw => publish::draw(),
    }
}

/// Starts this program once more, with the feature that has the peers.
fn run_with_peers(feature: &str) -> Result<()> {
    needs::provide(needs::EVERYTHING, |_| ())?;
    eprintln!("building the peers (feature {feature})");
    let mut cargo = process::cargo();
    cargo.args(["run", "--release", "--package", "xtask"]);
    cargo.args(["--features", feature, "--"]);
    process::stream(cargo.args(std::env::args_os().skip(1)))
}
