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

// The path of a `get`, downward only. In the task of the caller:
//   backend              checks the key
//   store                encodes the command (`protocol/encode`), and decodes the value
//   cluster/call         asks the `router` for a server, retries, and fails over
//   cluster/server       selects a connection of its `pool`, judges failures by its `breaker`
//   connection           queues the request (`queue`), and has a slot for the response (`slots`)
// In the task of the connection, which takes it from there and puts the response there:
//   connection/driver    does the I/O (`stream`)
//   connection/pipeline  matches responses to requests, and watches the deadlines
//   protocol/decode      parses the bytes into replies (`protocol/response`)

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
