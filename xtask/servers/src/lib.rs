//! Real servers for tests: each a process of its own on a free loopback port, which ends when
//! its handle is dropped.
//!
//! Nothing here is a substitute for a server. A binary that is not installed is an error that
//! says what to install.

mod certificate;
mod etcd;
mod memcached;
mod process;

pub use etcd::{Etcd, EtcdBuilder, EtcdCluster};
pub use memcached::{Memcached, MemcachedBuilder};
