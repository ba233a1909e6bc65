//! The backends that can be soaked.

use std::sync::Arc;

use anyhow::{Result, bail};
use tokio::runtime::Handle;

use super::fleet::Store;
use super::nemesis::Victim;
use super::{dict, etcd, memcache};

/// The servers of a backend, where clients reach them, and how to open it.
pub(crate) struct Target {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) victim: Box<dyn Victim>,
    /// What a second process has to know to reach the same servers; `None` if none can.
    pub(crate) addresses: Option<Vec<String>>,
    /// Calls a second, unless something else is asked for.
    pub(crate) rate: f64,
    pub(crate) clients: u32,
}

/// Starts the servers. `proxies` is where the proxies in front of them run.
pub(crate) fn target(backend: &str, proxies: &Handle) -> Result<Target> {
    match backend {
        "dict" => dict::target(),
        "memcache" => memcache::target(proxies),
        "etcd" => etcd::target(proxies),
        other => bail!("there is no backend `{other}`"),
    }
}

/// How a process opens a backend whose servers another one has started.
pub(crate) fn store(backend: &str, addresses: Vec<String>) -> Result<Arc<dyn Store>> {
    match backend {
        "memcache" => Ok(memcache::store(addresses)),
        "etcd" => Ok(etcd::store(addresses)),
        other => bail!("`{other}` has no second process"),
    }
}
