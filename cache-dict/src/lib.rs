#![doc = include_str!("../README.md")]

mod backend;
mod bound;
mod clock;
mod config;
mod hash;
mod index;
mod index_lists;
mod key;
mod lock;
mod multi;
mod shard;
mod sharded_map;
mod slots;
mod stats;
mod sweep;
mod timing_wheel;
#[cfg(test)]
mod tests;

pub use backend::DictBackend;
pub use clock::{Clock, ManualClock};
pub use config::{DictBuilder, DictConfig};
pub use stats::DictStats;

/// What errors call this backend.
const NAME: &str = env!("CARGO_PKG_NAME");
