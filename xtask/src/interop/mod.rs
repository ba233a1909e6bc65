//! `cargo xtask interop`: Rust and Python share one cache.
//!
//! Real servers, the real Python packages, and every pair of writer and reader. A table says what
//! the one reads of what the other wrote.

#![allow(
    clippy::indexing_slicing,
    reason = "a serde_json::Value is null where it has no such field"
)]

#[cfg(feature = "interop")]
mod cases;
#[cfg(feature = "interop")]
mod checks;
#[cfg(feature = "interop")]
mod matrix;
#[cfg(feature = "interop")]
mod operations;
#[cfg(feature = "interop")]
mod pymemcache_route;
#[cfg(feature = "interop")]
mod python;
#[cfg(feature = "interop")]
mod readme;
#[cfg(feature = "interop")]
mod run;
#[cfg(feature = "interop")]
mod settings;
#[cfg(feature = "interop")]
mod sides;
#[cfg(feature = "interop")]
mod vectors;
#[cfg(feature = "interop")]
pub(crate) mod venv;

#[cfg(feature = "interop")]
pub(crate) use run::main;

/// Runs this program once more with the backends compiled in.
#[cfg(not(feature = "interop"))]
pub(crate) fn main(arguments: &[String]) -> anyhow::Result<()> {
    // The backends take `protoc` to build.
    crate::needs::provide(|_| ())?;
    crate::process::stream(
        crate::process::cargo()
            .args(["run", "--quiet", "--package", "xtask"])
            .args(["--features", "interop", "--", "interop"])
            .args(arguments),
    )
}
