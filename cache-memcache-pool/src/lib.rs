#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod cluster;
mod config;
mod connection;
mod meta;
mod multi;
mod protocol;
mod stats;

pub use backend::MemcachePoolBackend;
pub use cluster::Routing;
pub use config::{MemcachePoolBuilder, MemcachePoolConfig, Protocol, PythonClient, StoredFormat};
pub use protocol::{MetaRequest, MetaResponse, MetaStatus};
pub use stats::{MemcachePoolStats, ServerStats};

/// What errors call this backend.
const NAME: &str = env!("CARGO_PKG_NAME");
