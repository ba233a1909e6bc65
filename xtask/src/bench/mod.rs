//! `cargo xtask bench`: our backends beside their peers.
//!
//! A comparison is a file of its own (`dict.rs`, `memcache.rs`, `etcd.rs`) behind a feature of the
//! same name, since its peers take minutes to compile. It stands on [`harness`].

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
mod speed;
mod table;
mod words;

use anyhow::{Result, bail};

use crate::feature;

pub(crate) const HELP: &str = "  \
  core                 what the wrappers of cache-core add to a hit
  dict|memcache|etcd   measures: a table, and JSON and a chart under target/bench/
    --rounds N         of each line, interleaved (7; etcd 5)
    --only LINE        a part of the lines; such a run cannot be published
    --seconds S        etcd: how long each contestant has in each round
    --runtime R        memcache: on `workers` or `current_thread` alone
    --without-python   memcache: without the clients of Python; not to be published either
  publish NAME…        what was measured last becomes speed.json and speed.svg of the crate, and
                       the figures in its README and in that of the workspace; takes a run of
                       all lines, and of three rounds or more
  draw                 charts and READMEs anew, from each crate's speed.json";

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let Some((backend, rest)) = arguments.split_first() else {
        bail!(
            "which backend? `cargo xtask bench dict`, `memcache` or `etcd`; \
             `cargo xtask bench --help` tells how the figures get into the READMEs"
        );
    };
    #[allow(unreachable_patterns)] // With its feature on, a comparison needs no second start.
    match backend.as_str() {
        #[cfg(feature = "bench-dict")]
        "dict" => dict::main(rest),
        #[cfg(feature = "bench-core")]
        "core" => core::main(rest),
        #[cfg(feature = "bench-memcache")]
        "memcache" => memcache::main(rest),
        #[cfg(feature = "bench-etcd")]
        "etcd" => etcd::main(rest),
        "core" | "dict" | "memcache" | "etcd" => {
            let feature = format!("bench-{backend}");
            eprintln!("building the peers (feature {feature})");
            let arguments = [&["bench".to_owned()], arguments].concat();
            feature::run_again_with(&feature, &["--release"], &arguments)
        }
        "publish" => publish::publish(rest),
        "draw" => publish::draw(rest),
        other => bail!(
            "there is no benchmark `{other}`; there are dict, memcache and etcd, publish and draw"
        ),
    }
}
