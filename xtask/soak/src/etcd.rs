//! cache-etcd3 with a cluster of three members, each behind a proxy.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use cache_conformance::Proxy;
use cache_core::DynBackend;
use cache_etcd3::Etcd3Backend;
use test_servers::{Etcd, EtcdCluster, Server};

use crate::judge::{Linearizable, Promises};
use crate::load::Space;
use crate::target::{Servers, Target, wall};

const MEMBERS: usize = 3;
/// Backends that share the cluster.
const BACKENDS: usize = 2;

const CALL_TIMEOUT: Duration = Duration::from_secs(6);
const DEFAULT_TTL: Duration = Duration::from_secs(120);

fn open(endpoints: &[String]) -> Result<DynBackend<Vec<u8>>> {
    let backend = Etcd3Backend::builder()
        .endpoints(endpoints.iter().cloned())
        .ttl(DEFAULT_TTL)
        .call_timeout(CALL_TIMEOUT)
        .prefix("soak/")
        .build()?;
    Ok(DynBackend::new(backend))
}

pub(crate) fn target() -> Result<Target> {
    let cluster = Etcd::builder()
        .arg("--quota-backend-bytes=8000000000")
        .arg("--auto-compaction-retention=1m")
        .arg("--snapshot-count=5000")
        .start_cluster(MEMBERS)
        .context("cannot start etcd")?;
    let proxy = |endpoint: String| Ok(Proxy::start(endpoint.parse::<SocketAddr>()?)?);
    let proxies: Vec<Proxy> = cluster
        .endpoints()
        .into_iter()
        .map(proxy)
        .collect::<Result<_>>()?;
    let endpoints: Vec<String> = proxies
        .iter()
        .map(|proxy| proxy.address().to_string())
        .collect();
    let backends: Result<Vec<_>> = (0..BACKENDS).map(|_| open(&endpoints)).collect();
    Ok(Target {
        spaces: vec![Space::new(wall, backends?)],
        open: Some(Box::new(move || open(&endpoints))),
        bounded: None,
        promises: Promises {
            linearizable: Linearizable::Always,
            // The extra second allows for a busy machine.
            bound: CALL_TIMEOUT + Duration::from_secs(1),
            // An unresponsive member is left alone for 5 s; an election takes up to 2 s.
            settle: Duration::from_secs(8),
            default_ttl: DEFAULT_TTL,
            largest: 1024 * 1024,
        },
        clients: 32,
        rate: 150.0,
        servers: Some((Box::new(cluster), proxies)),
    })
}

impl Servers for EtcdCluster {
    fn processes(&mut self) -> Vec<&mut Server> {
        self.members_mut()
            .iter_mut()
            .map(|member| &mut **member)
            .collect()
    }

    fn restart(&mut self) -> io::Result<()> {
        // Launch all of them before waiting, since a single member does not serve.
        self.members_mut().iter_mut().try_for_each(Etcd::launch)?;
        self.members_mut()
            .iter_mut()
            .try_for_each(Etcd::wait_until_serving)
    }
}
