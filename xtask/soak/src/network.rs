//! [`Network`], what lies between the clients and the servers of a backend.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Handle;

use super::nemesis::Scene;
use super::proxy::{Mode, Proxy};
use super::rng::Rng;

pub(crate) const REFUSE: &str = "connections refused";
pub(crate) const FULL: &str = "accept queue full";
pub(crate) const SLOW: &str = "slowed down";
pub(crate) const CUT: &str = "connections cut halfway through an answer";

/// A proxy in front of each server.
pub(crate) struct Network {
    proxies: Vec<Proxy>,
    runtime: Handle,
}

impl Network {
    /// Starts the proxies, which run in `runtime`.
    pub(crate) fn start(servers: &[SocketAddr], runtime: &Handle) -> Result<Self> {
        let _inside = runtime.enter();
        let proxies: Result<Vec<Proxy>> = servers.iter().copied().map(Proxy::start).collect();
        Ok(Self {
            proxies: proxies?,
            runtime: runtime.clone(),
        })
    }

    /// Where clients reach the servers.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let addresses = self.proxies.iter().map(Proxy::address);
        addresses.map(|address| address.to_string()).collect()
    }

    /// Does one of the faults above to the connections of one server, waits no longer than
    /// `most`, and undoes it.
    pub(crate) fn inflict(
        &mut self,
        kind: &str,
        which: usize,
        rng: &mut Rng,
        most: Duration,
    ) -> Result<()> {
        let mode = match kind {
            REFUSE => Mode::Refuse,
            FULL => Mode::FullQueue,
            CUT => Mode::CutAnswers,
            _ => Mode::Slow(Duration::from_millis(rng.between(20, 500))),
        };
        let proxy = self.proxies.get_mut(which).context("no such proxy")?;
        self.runtime.block_on(proxy.set(mode))?;
        Scene::hold(rng, Duration::from_millis(500), most);
        self.runtime.block_on(proxy.set(Mode::Pass))
    }
}
