#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// What a caller or a server controls must not be able to panic the process. Tests may panic.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

// The path of a `get`, downward only:
//   backend      the trait's futures, complete at the first poll
//   sharded_map  hashes the key (`key`, `hash`), takes the lock of one shard, clones the payload
//   shard        the entries of one lock, by key, by deadline and by age
//   table        finds the slot by tag, then by key
//   clock        reads the time only if the entry has a deadline
mod backend;
mod bound;
mod builder;
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
pub use builder::DictBuilder;
pub use clock::{Clock, ManualClock};
pub use config::DictConfig;
pub use stats::DictStats;
