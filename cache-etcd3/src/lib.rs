#![doc = include_str!("../README.md")]

mod backend;
mod coalescer;
mod config;
mod endpoints;
mod events;
mod failure;
mod leases;
mod local;
mod loners;
mod multi;
mod read_coalescer;
mod revision;
mod rounds;
#[cfg(test)]
mod simulation;
mod stats;
mod sync;
mod tasks;
mod txn;
mod write_coalescer;

pub use backend::Etcd3Backend;
pub use config::{
    Consistency, DEFAULT_HOST, DEFAULT_MAX_REQUEST_BYTES, DEFAULT_PORT, DEFAULT_TIMEOUT,
    Etcd3Builder, Etcd3Config, StoredFormat,
};
pub use stats::{EndpointStats, Etcd3Stats};

/// What errors call this backend.
const NAME: &str = env!("CARGO_PKG_NAME");
