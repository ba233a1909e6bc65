#![doc = include_str!("../README.md")]
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

// One get, downward: `backend` checks the key and decodes the value; `read_coalescer` and `rounds`
// send it together with others, as `coalescer` decides; `read_txn` makes the request; `endpoints`
// sends it until it is answered, to whom `roster` and `breaker` choose, over the client of an
// `endpoint`. A set goes the same way by `write_coalescer` and `write_txn`, on a lease of `leases`;
// `multi` goes straight to the transactions. What decides is a plain type that is told the time.
mod backend;
mod coalescer;
mod config;
mod endpoints;
mod events;
mod failure;
mod leases;
mod limits;
mod local;
mod loners;
mod multi;
mod read_coalescer;
mod read_txn;
mod revision;
mod rounds;
mod runtimes;
mod shared;
#[cfg(test)]
mod simulation;
mod stats;
mod sync;
mod tasks;
mod write;
mod write_coalescer;
mod write_txn;

pub use backend::Etcd3Backend;
pub use config::{
    Consistency, DEFAULT_HOST, DEFAULT_MAX_REQUEST_BYTES, DEFAULT_PORT, DEFAULT_TIMEOUT,
    Etcd3Builder, Etcd3Config, StoredFormat,
};
pub use stats::{EndpointStats, Etcd3Stats};

/// What errors call this backend.
const NAME: &str = env!("CARGO_PKG_NAME");
