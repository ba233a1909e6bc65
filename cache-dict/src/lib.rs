#![doc = include_str!("../README.md")]

mod backend;
mod bound;
mod clock;
mod config;
mod hash;
mod index_lists;
mod key;
mod lock;
mod shard;
mod sharded_map;
mod stats;
mod sweep;
mod system_clock;
mod table;
#[cfg(test)]
mod tests;
mod timing_wheel;

pub use backend::DictBackend;
pub use clock::{Clock, ManualClock};
pub use config::{DictBuilder, DictConfig};
pub use stats::DictStats;
