//! Real servers for tests. Each is a separate process on a free loopback port, and ends when its
//! handle is dropped.
//!
//! If a binary is not installed, the error names the package to install. [`Memcached`] and
//! [`Etcd`] dereference to [`Server`], whose methods pause, kill and stop them.
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
mod refusing;
mod server;

pub use etcd::{Etcd, EtcdBuilder, EtcdCluster};
pub use memcached::{Memcached, MemcachedBuilder};
pub use refusing::refusing;
pub use server::Server;
