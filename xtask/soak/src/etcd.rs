//! cache-etcd3 on a cluster of three, each member behind a proxy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cache_conformance::Proxy;
use cache_core::DynBackend;
use cache_etcd3::Etcd3Backend;
use fastrand::Rng;
use test_servers::{Etcd, EtcdCluster};

use crate::judge::{Linearizable, Promises};
use crate::load::Space;
use crate::run::{Servers, Target, wall};

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
            // What a busy machine may add.
            bound: CALL_TIMEOUT + Duration::from_secs(1),
            // A member that was silent is left alone for 5 s; an election takes up to 2 s.
            settle: Duration::from_secs(8),
            default_ttl: DEFAULT_TTL,
            largest: 1024 * 1024,
        },
        clients: 32,
        rate: 150.0,
        servers: Box::new(cluster),
        proxies,
    })
}

const KILLED: &str = "member killed, then restarted";
const LEADER_KILLED: &str = "leader killed, then restarted";
const STOPPED: &str = "member stopped, then continued";
const LEADER_STOPPED: &str = "leader stopped, then continued";
const QUORUM_LOST: &str = "two members killed, then restarted";
const RESTARTED: &str = "all restarted with their data";

/// Does the same to all members at once: one alone does not serve.
fn all(members: &mut [Etcd], act: impl Fn(&mut Etcd) -> std::io::Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let start = |member| scope.spawn(|| act(member));
        let threads: Vec<_> = members.iter_mut().map(start).collect();
        threads.into_iter().try_for_each(|thread| {
            let done = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
            Ok(done?)
        })
    })
}

impl Servers for EtcdCluster {
    fn faults(&self) -> &'static [&'static str] {
        &[
            KILLED,
            LEADER_KILLED,
            STOPPED,
            LEADER_STOPPED,
            QUORUM_LOST,
            RESTARTED,
        ]
    }

    fn inflict(&mut self, fault: &str, rng: &mut Rng, hold: &dyn Fn()) -> Result<()> {
        let which = match fault {
            LEADER_KILLED | LEADER_STOPPED => self.leader()?,
            _ => rng.usize(..MEMBERS),
        };
        let members = self.members_mut();
        members.rotate_left(which);
        let affected = match fault {
            KILLED | LEADER_KILLED | STOPPED | LEADER_STOPPED => 1,
            QUORUM_LOST => 2,
            _ => MEMBERS,
        };
        let chosen = members.get_mut(..affected).context("no such member")?;
        if fault == STOPPED || fault == LEADER_STOPPED {
            all(chosen, |member| member.pause())?;
            hold();
            all(chosen, |member| member.resume())?;
        } else {
            all(chosen, |member| member.kill())?;
            hold();
            all(chosen, Etcd::restart)?;
        }
        all(members, Etcd::wait_until_serving)
    }
}
