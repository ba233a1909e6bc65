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

// The path of a get: `backend` checks the key, and `store` decodes the value;
// `cluster::call` asks `router` for a server and fails over to another one;
// `cluster::server` selects a connection of its `pool`, and handles those that end;
// `connection` queues the request, and has a slot for the response; its `driver` does the I/O that
// its `pipeline` decides; `protocol` encodes requests and decodes responses.

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

/// The name of this backend in errors.
const NAME: &str = env!("CARGO_PKG_NAME");
