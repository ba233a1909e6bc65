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
//   backend (runtimes) → read_coalescer (loners) → rounds (coalescer), which send the gets of several
//   callers together → read_txn, which builds the request → endpoints (endpoints/roster,
//   endpoints/breaker, endpoints/pace), which select an endpoint and retry → endpoints/endpoint,
//   which holds the connection. The backend decodes the response (config/stored_format).
// A set takes the same path through `write_coalescer` and `write_txn`, with a lease from `leases`;
// `multi` calls the transactions directly. Decisions are made by plain types that take the time.
mod backend;
mod builder;
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
pub use builder::Etcd3Builder;
pub use config::{Consistency, Etcd3Config, StoredFormat};
pub use stats::{EndpointStats, Etcd3Stats};

/// The name of this backend in errors.
const NAME: &str = env!("CARGO_PKG_NAME");
