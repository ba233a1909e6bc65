//! [`Target`], a backend under load, and its [`Servers`].

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_conformance::Proxy;
use test_servers::Server;

use crate::judge::Promises;
use crate::load::{Open, Space};

/// A backend, its servers, and a suitable load.
pub(crate) struct Target {
    pub(crate) spaces: Vec<Space>,
    pub(crate) open: Option<Open>,
    /// The index of the space with bounded capacity.
    pub(crate) bounded: Option<usize>,
    pub(crate) promises: Promises,
    pub(crate) clients: usize,
    /// Calls per second.
    pub(crate) rate: f64,
    /// The servers, with a proxy in front of each; `None` for in-process backends.
    pub(crate) servers: Option<(Box<dyn Servers>, Vec<Proxy>)>,
}

/// The server processes of a backend.
pub(crate) trait Servers: Send {
    fn processes(&mut self) -> Vec<&mut Server>;

    /// Restarts the killed servers, and waits until all of them serve.
    fn restart(&mut self) -> io::Result<()>;
}

/// The time since the Unix epoch, which determines when values on servers expire.
pub(crate) fn wall() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
