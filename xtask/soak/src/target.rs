//! [`Target`]: a backend under load, and its [`Servers`].

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_conformance::Proxy;
use test_servers::Server;

use crate::judge::Promises;
use crate::load::{Open, Space};

/// A backend, its servers, and the load that suits them.
pub(crate) struct Target {
    pub(crate) spaces: Vec<Space>,
    pub(crate) open: Option<Open>,
    /// The index of a space whose number of entries is bounded.
    pub(crate) bounded: Option<usize>,
    pub(crate) promises: Promises,
    pub(crate) clients: usize,
    /// Calls a second.
    pub(crate) rate: f64,
    /// With a proxy in front of each; `None` in process.
    pub(crate) servers: Option<(Box<dyn Servers>, Vec<Proxy>)>,
}

/// The server processes of a backend.
pub(crate) trait Servers: Send {
    fn processes(&mut self) -> Vec<&mut Server>;

    /// Starts those that were killed, and waits until all serve.
    fn restart(&mut self) -> io::Result<()>;
}

/// The wall clock since 1970, by which values expire that servers hold.
pub(crate) fn wall() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
