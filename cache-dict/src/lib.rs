#![doc = include_str!("../README.md")]

mod backend;
mod clock;
mod config;
mod entries;
mod expiry;
mod hash;
mod key;
mod lists;
mod multi;
mod shard;
mod stats;
mod sweep;
mod table;
#[cfg(test)]
mod tests;

pub use backend::DictBackend;
pub use clock::{Clock, ManualClock};
pub use config::{DictBuilder, DictConfig};
pub use stats::DictStats;

/// What errors call this backend.
const NAME: &str = env!("CARGO_PKG_NAME");
