//! cache-etcd3 on a cluster of three, each member behind a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cache_conformance::Proxy;
use cache_core::DynBackend;
use cache_etcd3::Etcd3Backend;
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, ConnectOptions,
};
use fastrand::Rng;
use test_servers::{Etcd, EtcdCluster};
use tokio::runtime::{Builder, Runtime};

use crate::faults::FaultLog;
use crate::nemesis::{CUT, REFUSED, SILENT, Victim, disturb, hold};
use crate::run::Target;
use crate::store::{Opened, Order, Promises, Space, Store};
use crate::time::Expiry;

const MEMBERS: usize = 3;
/// Backends that share the cluster.
const INSTANCES: usize = 2;

const CALL_TIMEOUT: Duration = Duration::from_secs(6);
const DEFAULT_TTL: Duration = Duration::from_secs(120);
const QUOTA: u64 = 96 * 1024 * 1024;

struct Etcd3 {
    addresses: Vec<String>,
}

impl Etcd3 {
    fn open(&self) -> Result<Opened> {
        let backend = Etcd3Backend::builder()
            .endpoints(self.addresses.iter().cloned())
            .ttl(DEFAULT_TTL)
            .call_timeout(CALL_TIMEOUT)
            .prefix("soak/")
            .build()?;
        Ok(Opened {
            backend: DynBackend::new(backend),
            busy: Box::new(Vec::new),
        })
    }
}

impl Store for Etcd3 {
    fn promises(&self) -> Promises {
        Promises {
            order: Order::ButForRepeats,
            evicting: None,
            bound: CALL_TIMEOUT + Duration::from_secs(1),
            // A quarter of the call's time is what one member gets.
            slow: CALL_TIMEOUT / 5,
            // A member that was silent is left alone for 5 s; an election takes up to 2 s.
            settle: Duration::from_secs(8),
            default_ttl: DEFAULT_TTL,
            max_value: 1024 * 1024,
            why: &[
                "atomic per key at all times, for all backends together, but for repetitions:",
                "a write in flight during a fault may be applied again until the fault is recovered from",
                "a value is there until its deadline, but over faults (one of them empties the cluster)",
                "nothing is served at or after its deadline by the wall clock, which nobody can step",
                "a call ends within call_timeout (+ 1 s of the machine's)",
                "calls succeed again 8 s after a fault: 5 s of quarantine, an election, a probe",
            ],
        }
    }

    fn spaces(&self) -> Result<Vec<Space>> {
        let instances: Result<Vec<Opened>> = (0..INSTANCES).map(|_| self.open()).collect();
        Ok(vec![Space::new(Expiry::Wall, instances?)])
    }

    fn again(&self) -> Option<Result<Opened>> {
        Some(self.open())
    }
}

pub(crate) fn target() -> Result<Target> {
    let members = Etcd::builder()
        .arg(format!("--quota-backend-bytes={QUOTA}"))
        .arg("--snapshot-count=5000")
        .start_cluster(MEMBERS)
        .context("cannot start etcd")?;
    let mut proxies = Vec::new();
    for endpoint in members.endpoints() {
        let member: SocketAddr = endpoint.parse().context("the address of a member")?;
        proxies.push(Proxy::start(member)?);
    }
    let addresses = proxies
        .iter()
        .map(|proxy| proxy.address().to_string())
        .collect();
    Ok(Target {
        store: Arc::new(Etcd3 { addresses }),
        victim: Box::new(Cluster {
            members,
            proxies,
            runtime: Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?,
            tended: 0,
            leases: None,
        }),
        rate: 150.0,
        clients: 32,
    })
}

struct Cluster {
    members: EtcdCluster,
    proxies: Vec<Proxy>,
    /// For our own dealings with the members.
    runtime: Runtime,
    /// How many seconds it was tended.
    tended: u32,
    leases: Option<(usize, usize)>,
}

const KILL: &str = "follower killed and restarted";
const KILL_LEADER: &str = "leader killed and restarted";
const PAUSE: &str = "follower stopped and continued";
const PAUSE_LEADER: &str = "leader stopped and continued";
const MOVE_LEADER: &str = "leadership moved";
const QUORUM: &str = "quorum lost";
const RESTART_ALL: &str = "all restarted with their data";
const EMPTY: &str = "all restarted without data";
const SPACE: &str = "space quota reached";

impl Cluster {
    fn member(&mut self, which: usize) -> Result<&mut Etcd> {
        self.members
            .members_mut()
            .get_mut(which)
            .context("no such member")
    }

    async fn client(endpoint: String) -> Result<Client> {
        let options = ConnectOptions::new()
            .with_timeout(Duration::from_secs(10))
            .with_connect_timeout(Duration::from_secs(2));
        Ok(Client::connect([endpoint], Some(options)).await?)
    }

    fn first_endpoint(&self) -> Result<String> {
        let mut endpoints = self.members.endpoints().into_iter();
        endpoints.next().context("no endpoint")
    }

    /// Does the same to all members at the same time.
    fn all(&mut self, act: impl Fn(&mut Etcd) -> std::io::Result<()> + Sync) -> Result<()> {
        let members = self.members.members_mut();
        std::thread::scope(|scope| {
            let threads: Vec<_> = members
                .iter_mut()
                .map(|member| scope.spawn(|| act(member)))
                .collect();
            for thread in threads {
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            Ok(())
        })
    }

    /// Does it again if it fails: a busy machine is slow, and leaders change by themselves.
    fn insist(&mut self, mut act: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        const TRIES: u32 = 5;
        for _ in 1..TRIES {
            if act(self).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        act(self)
    }

    fn move_leader(&mut self) -> Result<()> {
        let leader = self.members.leader()?;
        let endpoints = self.members.endpoints();
        let at = |which: usize| endpoints.get(which % MEMBERS).cloned().unwrap_or_default();
        self.runtime.block_on(async {
            let mut next = Self::client(at(leader + 1)).await?;
            let status = next.status().await?;
            let id = status.header().context("no header")?.member_id();
            Self::client(at(leader)).await?.move_leader(id).await?;
            Ok(())
        })
    }

    /// Writes until there is no space, and makes room again.
    fn fill(&mut self, rng: &mut Rng) -> Result<()> {
        let first = self.first_endpoint()?;
        let filled = self.runtime.block_on(async {
            let mut client = Self::client(first).await?;
            let mut failures = 0;
            for _ in 0..4 * QUOTA / 1_000_000 {
                match client.put("junk", vec![b'x'; 1_000_000], None).await {
                    Ok(_) => {}
                    Err(error) if error.to_string().contains("space exceeded") => return Ok(()),
                    Err(error) if failures > 20 => return Err(error).context("while filling up"),
                    Err(_) => failures += 1,
                }
            }
            bail!("the quota was never reached")
        });
        hold(rng, 500, 3_000);
        // Whether or not it could be filled up: what was written has to go.
        let freed = self.insist(Self::make_room);
        filled.and(freed)
    }

    fn make_room(&mut self) -> Result<()> {
        let endpoints = self.members.endpoints();
        let first = self.first_endpoint()?;
        self.compact()?;
        self.runtime.block_on(async {
            for endpoint in &endpoints {
                let mut client = Self::client(endpoint.clone()).await?;
                client.defragment().await.context("defragment")?;
            }
            let mut client = Self::client(first).await?;
            let alarms = client
                .alarm(AlarmAction::Get, AlarmType::None, None)
                .await?;
            for alarm in alarms.alarms() {
                let mut member = AlarmOptions::new();
                member.with_member(alarm.member_id());
                let none = client.alarm(AlarmAction::Deactivate, alarm.alarm(), Some(member));
                none.await.context("cannot disarm")?;
            }
            Ok(())
        })
    }

    /// Old revisions would fill up the space.
    fn compact(&mut self) -> Result<()> {
        let endpoint = self.first_endpoint()?;
        self.runtime.block_on(async {
            let mut client = Self::client(endpoint).await?;
            client.delete("junk", None).await.context("delete")?;
            let now = client.get("junk", None).await.context("get")?;
            let revision = now.header().context("no header")?.revision();
            let physical = CompactionOptions::new().with_physical();
            match client.compact(revision, Some(physical)).await {
                Ok(_) => Ok(()),
                Err(error) if error.to_string().contains("compacted") => Ok(()),
                Err(error) => Err(error).context("compact"),
            }
        })
    }

    /// All leases, and those among them that live no longer than `longest` seconds.
    fn leases(&mut self, longest: i64) -> Result<(usize, usize)> {
        let endpoint = self.first_endpoint()?;
        self.runtime.block_on(async {
            let mut client = Self::client(endpoint).await?;
            let leases = client.leases().await?;
            let mut short = 0;
            for lease in leases.leases() {
                // One that is gone by now has a TTL of -1 and is granted nothing.
                let life = client.lease_time_to_live(lease.id(), None).await?;
                short += usize::from(life.ttl() >= 0 && life.granted_ttl() <= longest);
            }
            Ok((leases.leases().len(), short))
        })
    }
}

impl Victim for Cluster {
    fn kinds(&self) -> Vec<&'static str> {
        vec![
            KILL,
            KILL_LEADER,
            PAUSE,
            PAUSE_LEADER,
            MOVE_LEADER,
            QUORUM,
            RESTART_ALL,
            EMPTY,
            SPACE,
            REFUSED,
            SILENT,
            CUT,
        ]
    }

    fn inflict(&mut self, kind: &'static str, rng: &mut Rng, faults: &FaultLog) -> Result<()> {
        let leader = self.members.leader()?;
        let follower = (leader + 1 + rng.usize(..MEMBERS - 1)) % MEMBERS;
        let which = match kind {
            KILL | PAUSE => follower,
            KILL_LEADER | PAUSE_LEADER | MOVE_LEADER => leader,
            _ => rng.usize(..MEMBERS),
        };
        let is_one = !matches!(kind, RESTART_ALL | EMPTY | SPACE);
        let on = if is_one {
            format!("(member {which})")
        } else {
            String::new()
        };
        faults.begin(kind, &on);
        match kind {
            KILL | KILL_LEADER => {
                self.member(which)?.kill()?;
                hold(rng, 500, 5_000);
                self.member(which)?.restart()?;
            }
            PAUSE | PAUSE_LEADER => {
                self.member(which)?.pause()?;
                hold(rng, 500, 5_000);
                self.member(which)?.resume()?;
            }
            MOVE_LEADER => self.insist(Self::move_leader)?,
            QUORUM => {
                let others = [(which + 1) % MEMBERS, (which + 2) % MEMBERS];
                for other in others {
                    self.member(other)?.kill()?;
                }
                hold(rng, 500, 4_000);
                for other in others {
                    self.member(other)?.launch()?;
                }
            }
            RESTART_ALL => {
                self.all(Etcd::kill)?;
                self.all(Etcd::restart)?;
            }
            EMPTY => {
                self.all(Etcd::kill)?;
                self.all(Etcd::restart_empty)?;
            }
            SPACE => self.fill(rng)?,
            of_the_network => {
                let proxy = self.proxies.get_mut(which).context("no such proxy")?;
                disturb(proxy, of_the_network, rng, 4_000)?;
            }
        }
        self.all(Etcd::wait_until_serving)
    }

    fn tend(&mut self, _faults: &FaultLog) -> Result<()> {
        self.tended += 1;
        if self.tended.is_multiple_of(8) {
            self.compact()?;
        }
        Ok(())
    }

    /// Leases may live as long as the longest TTL. Those of the shortest values have to be gone
    /// soon after the last client is.
    fn left_over(&mut self) -> Result<Vec<String>> {
        let (all, short) = self.leases(6)?;
        self.leases = Some((all, short));
        if short == 0 {
            return Ok(Vec::new());
        }
        Ok(vec![format!(
            "etcd still holds {short} leases of 6 s and less"
        )])
    }

    fn figures(&mut self) -> Vec<(String, String)> {
        let Some((all, _)) = self.leases else {
            return Vec::new();
        };
        vec![(
            "leases left".to_owned(),
            format!("{all}, none of 6 s and less"),
        )]
    }
}
