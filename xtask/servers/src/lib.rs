//! Real servers for tests: each a process of its own on a free loopback port, which ends when
//! its handle is dropped.
//!
//! A binary that is not installed is an error that says what to install. [`Memcached`] and
//! [`Etcd`] share [`Server`]: they are paused, killed and ended the same way.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod etcd;
mod memcached;
mod server;

pub use etcd::{Etcd, EtcdBuilder, EtcdCluster};
pub use memcached::{Memcached, MemcachedBuilder};
pub use server::Server;
