#![doc = include_str!("../README.md")]

mod address;
mod backend;
mod batch;
mod config;
mod endpoint;
mod failover;
mod failure;
mod format;
mod leases;
mod queue;
mod runtime;
mod settings;
mod stats;

pub use backend::Etcd3Backend;
pub use config::{
    Consistency, DEFAULT_HOST, DEFAULT_PORT, DEFAULT_TIMEOUT, Etcd3Builder, Etcd3Config,
    StoredFormat,
};
pub use stats::{EndpointStats, Etcd3Stats};

/// What errors call this backend.
const NAME: &str = env!("CARGO_PKG_NAME");
