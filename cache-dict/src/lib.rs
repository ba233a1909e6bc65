#![doc = include_str!("../README.md")]

mod backend;
mod clock;
mod config;
mod expiry;
mod hash;
mod key;
mod lists;
mod multi;
mod shard;
mod table;
#[cfg(test)]
mod tests;

pub use backend::{DictBackend, DictStats};
pub use clock::{Clock, ManualClock};
pub use config::{DictBuilder, DictConfig};

/// What errors call this backend.
const NAME: &str = env!("CARGO_PKG_NAME");
