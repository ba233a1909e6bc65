//! `cargo xtask interop`: Rust and Python share one cache.
//!
//! Real servers, the real Python packages, and every pair of writer and reader. A table says what
//! the one reads of what the other wrote.

#![allow(
    clippy::indexing_slicing,
    reason = "a serde_json::Value is null where it has no such field"
)]

mod cases;
mod checks;
mod matrix;
mod operations;
mod pymemcache_route;
mod python;
mod readme;
mod run;
mod settings;
mod sides;
mod vectors;
pub(crate) mod venv;

pub(crate) use run::main;
