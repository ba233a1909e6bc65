//! cache-memcache-pool with three memcached servers, each behind a proxy.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use cache_conformance::Proxy;
use cache_core::DynBackend;
use cache_memcache_pool::MemcachePoolBackend;
use test_servers::{Memcached, Server};

use crate::judge::{Linearizable, Promises};
use crate::load::Space;
use crate::target::{Servers, Target, wall};

const SERVERS: usize = 3;
/// Backends that share the servers.
const BACKENDS: usize = 3;

const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);
const DEAD_RETRY: Duration = Duration::from_secs(1);
const DEFAULT_TTL: Duration = Duration::from_secs(120);
/// Additional latency allowed for a busy machine.
const SLACK: Duration = Duration::from_secs(1);

fn open(servers: &[SocketAddr]) -> Result<DynBackend<Vec<u8>>> {
    let backend = MemcachePoolBackend::builder()
        .url(servers.iter().map(SocketAddr::to_string))
        .pool_maxsize(4)
        .pool_unused_timeout(Duration::from_secs(5))
        .pool_connection_get_timeout(CONNECTION_TIMEOUT)
        .socket_timeout(SOCKET_TIMEOUT)
        .dead_retry(DEAD_RETRY)
        .memcached_expire_time(DEFAULT_TTL)
        .build()?;
    Ok(DynBackend::new(backend))
}

pub(crate) fn target() -> Result<Target> {
    // With enough memory for all values, since an eviction would look like a lost value.
    let start = || Memcached::builder().args(["-m", "1024", "-t", "2"]).start();
    let servers: io::Result<Vec<Memcached>> = (0..SERVERS).map(|_| start()).collect();
    let servers = servers.context("cannot start memcached")?;
    let proxy = |server: &Memcached| {
        let port = server.port().context("memcached has no port")?;
        Ok(Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?)
    };
    let proxies: Vec<Proxy> = servers.iter().map(proxy).collect::<Result<_>>()?;
    let addresses: Vec<SocketAddr> = proxies.iter().map(Proxy::address).collect();
    let backends: Result<Vec<_>> = (0..BACKENDS).map(|_| open(&addresses)).collect();
    Ok(Target {
        spaces: vec![Space::new(wall, backends?)],
        open: Some(Box::new(move || open(&addresses))),
        bounded: None,
        promises: Promises {
            linearizable: Linearizable::BetweenFaults,
            bound: CONNECTION_TIMEOUT + SOCKET_TIMEOUT * 2 + SLACK,
            // The server is left alone, then the next call probes it within that call's time.
            settle: DEAD_RETRY + SOCKET_TIMEOUT * 2 + SLACK,
            default_ttl: DEFAULT_TTL,
            largest: 1024 * 1024 - 1024,
        },
        clients: 48,
        rate: 600.0,
        servers: Some((Box::new(servers), proxies)),
    })
}

impl Servers for Vec<Memcached> {
    fn processes(&mut self) -> Vec<&mut Server> {
        self.iter_mut().map(|memcached| &mut **memcached).collect()
    }

    fn restart(&mut self) -> io::Result<()> {
        let mut killed = self.iter_mut().filter(|memcached| memcached.id().is_none());
        killed.try_for_each(Memcached::restart)
    }
}
