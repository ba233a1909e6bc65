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

// A get, from the top down: `backend` checks the key, `store` makes a value of what it gets,
// `cluster::call` asks `router` for a server and tries another one after a failure,
// `cluster::server` picks a connection of its `pool`, and judges those that end,
// `connection` queues the request, and its `driver` moves bytes as its `pipeline` decides,
// `protocol` turns requests into bytes and bytes into responses.

mod backend;
mod builder;
mod cluster;
mod config;
mod connection;
mod meta;
mod multi;
mod protocol;
mod router;
mod stats;
mod store;

pub use backend::MemcachePoolBackend;
pub use builder::MemcachePoolBuilder;
pub use config::{MemcachePoolConfig, Protocol, PythonClient};
pub use protocol::{MetaRequest, MetaResponse, MetaStatus, StoredFormat};
pub use router::Routing;
pub use stats::{MemcachePoolStats, ServerStats};

/// What errors call this backend.
const NAME: &str = env!("CARGO_PKG_NAME");
