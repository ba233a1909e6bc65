//! `cargo xtask bench`: our backends beside their peers.
//!
//! A comparison is a file of its own (`dict.rs`, `memcache.rs`, `etcd.rs`) behind a feature of the
//! same name, since its peers take minutes to compile. They share [`harness`].

// The harness is compiled and tested always; only the comparisons use all of it.
#![cfg_attr(
    not(all(
        feature = "bench-dict",
        feature = "bench-memcache",
        feature = "bench-etcd"
    )),
    allow(dead_code)
)]

mod chart;
#[cfg(feature = "bench-core")]
mod core;
mod cpu;
#[cfg(feature = "bench-dict")]
mod dict;
#[cfg(feature = "bench-etcd")]
mod etcd;
mod harness;
mod machine;
#[cfg(feature = "bench-memcache")]
mod memcache;
mod publish;
mod readme;
mod report;
mod words;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::process;

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Measures what the wrappers of cache-core add to a hit
    Core(Measure),
    /// Measures cache-dict and other maps and caches in process
    Dict(Measure),
    /// Measures cache-memcache-pool and other clients of memcached
    Memcache(Measure),
    /// Measures cache-etcd3, the plain client and oslo.cache
    Etcd(Measure),
    /// Puts what was measured last into the crates and the READMEs. It takes a run of all lines
    /// and of three rounds or more
    Publish {
        /// dict, memcache, etcd
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Draws charts and READMEs anew from each crate's speed.json
    Draw,
}

/// A table, and JSON and a chart under target/bench/.
#[derive(Args)]
#[command(disable_help_flag = true)]
struct Measure {
    /// `--rounds N` of each line, interleaved; `--only LINE`, a part of the lines; etcd:
    /// `--seconds S` for each contestant in each round; memcache: `--runtime
    /// workers` or `current_thread` alone, `--without-python`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: Options) -> Result<()> {
    #[allow(unreachable_patterns)] // With its feature on, a comparison needs no second start.
    match options.job {
        #[cfg(feature = "bench-core")]
        Job::Core(measure) => core::main(&measure.arguments),
        #[cfg(feature = "bench-dict")]
        Job::Dict(measure) => dict::main(&measure.arguments),
        #[cfg(feature = "bench-memcache")]
        Job::Memcache(measure) => memcache::main(&measure.arguments),
        #[cfg(feature = "bench-etcd")]
        Job::Etcd(measure) => etcd::main(&measure.arguments),
        Job::Core(measure) => run_with_peers("core", &measure),
        Job::Dict(measure) => run_with_peers("dict", &measure),
        Job::Memcache(measure) => run_with_peers("memcache", &measure),
        Job::Etcd(measure) => run_with_peers("etcd", &measure),
        Job::Publish { names } => publish::publish(&names),
        Job::Draw => publish::draw(),
    }
}

/// Starts this program once more, with the feature that has the peers.
fn run_with_peers(backend: &str, measure: &Measure) -> Result<()> {
    let feature = format!("bench-{backend}");
    eprintln!("building the peers (feature {feature})");
    let mut cargo = process::cargo();
    cargo.args([
        "run",
        "--release",
        "--package",
        "xtask",
        "--features",
        &feature,
    ]);
    process::stream(
        cargo
            .args(["--", "bench", backend])
            .args(&measure.arguments),
    )
}
