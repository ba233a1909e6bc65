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

// The path of a `get`, downward only; in parentheses, what each file asks on the way:
//   backend → store (protocol/encode) → cluster/send (router), after a failed attempt cluster/call
//   → cluster/server (pool, breaker) → connection (queue, slots): here the caller waits for its slot.
//   The task of the connection writes what is queued and fills the slots; the caller takes its turn
//   (connection/turns) to write to an idle connection:
//   connection/driver (stream) → connection/pipeline → protocol/decode (protocol/response)

mod backend;
mod builder;
mod cluster;
mod config;
mod connection;
mod later;
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
