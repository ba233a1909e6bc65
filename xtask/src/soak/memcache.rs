//! cache-memcache-pool on three memcached servers, each behind a proxy.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cache_core::DynBackend;
use cache_memcache_pool::MemcachePoolBackend;
use test_servers::Memcached;
use tokio::runtime::Handle;

use super::faults::EVICTION;
use super::fleet::Store;
use super::nemesis::{Scene, Victim};
use super::network::{CUT, FULL, Network, REFUSE, SLOW};
use super::promises::{Order, Promises};
use super::rng::Rng;
use super::space::{Opened, Space};
use super::target::Target;
use super::time::Expiry;

const SERVERS: usize = 3;
/// Backends in each process.
const INSTANCES: usize = 3;

const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);
const DEAD_RETRY: Duration = Duration::from_secs(1);
const DEFAULT_TTL: Duration = Duration::from_secs(120);

struct Memcache {
    addresses: Vec<String>,
}

pub(crate) fn store(addresses: Vec<String>) -> Arc<dyn Store> {
    Arc::new(Memcache { addresses })
}

impl Memcache {
    fn open(&self) -> Result<Opened> {
        let backend = MemcachePoolBackend::builder()
            .url(self.addresses.iter().cloned())
            .pool_maxsize(4)
            .pool_unused_timeout(Duration::from_secs(5))
            .pool_connection_get_timeout(CONNECTION_TIMEOUT)
            .socket_timeout(SOCKET_TIMEOUT)
            .dead_retry(DEAD_RETRY)
            .memcached_expire_time(DEFAULT_TTL)
            .build()?;
        let watched = backend.clone();
        Ok(Opened {
            backend: DynBackend::new(backend),
            busy: Box::new(move || {
                let servers = watched.stats().servers.into_iter();
                servers
                    .filter(|server| server.in_flight > 0 || server.connections != server.idle)
                    .map(|server| {
                        format!(
                            "{}: {} calls in flight, {} of {} connections idle",
                            server.address, server.in_flight, server.idle, server.connections
                        )
                    })
                    .collect()
            }),
        })
    }
}

impl Store for Memcache {
    fn promises(&self) -> Promises {
        Promises {
            order: Order::BetweenFaults,
            keeps: true,
            evicting: None,
            // Waiting for a connection, the first attempt, and all others together.
            bound: CONNECTION_TIMEOUT + SOCKET_TIMEOUT * 2 + Duration::from_secs(1),
            slow: SOCKET_TIMEOUT * 4 / 5,
            // Left alone, probed by the next call, and that call's time.
            settle: DEAD_RETRY + SOCKET_TIMEOUT * 2 + Duration::from_secs(1),
            default_ttl: DEFAULT_TTL,
            max_value: 1024 * 1024 - 1024,
            why: &[
                "linearizable per key between faults, for all processes together",
                "a fault may bring back older values: keys move to another server and back",
                "a value is there until its deadline, but over faults and while memcached evicts",
                "nothing is served at or after its deadline by the wall clock, which nobody can step",
                "a call ends within pool_connection_get_timeout + 2 × socket_timeout (+ 1 s of the machine's)",
                "all servers are in use again dead_retry + 2 × socket_timeout (+ 1 s) after a fault",
                "a restart keeps no data: memcached has none on disk",
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

pub(crate) fn target(proxies: &Handle) -> Result<Target> {
    let mut servers = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..SERVERS {
        let server = Memcached::builder()
            .args(["-m", "64", "-t", "2"])
            .start()
            .context("cannot start memcached")?;
        let port = server.port().context("memcached has no port")?;
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        servers.push(server);
    }
    let network = Network::start(&addresses, proxies)?;
    let addresses = network.addresses();
    let mut victim = Servers {
        memcached: servers,
        network,
        connections_before: 0,
        evictions: 0,
        looked: 0,
    };
    victim.connections_before = victim.connections()?;
    Ok(Target {
        store: store(addresses.clone()),
        victim: Box::new(victim),
        addresses: Some(addresses),
        rate: 600.0,
        clients: 48,
    })
}

struct Servers {
    memcached: Vec<Memcached>,
    network: Network,
    connections_before: u64,
    evictions: u64,
    /// When evictions were last counted.
    looked: u64,
}

const KILL: &str = "killed and restarted";
const RESTART: &str = "restarted at once";
const PAUSE: &str = "stopped and continued";
const PAUSE_ALL: &str = "all stopped and continued";
const FLOOD: &str = "memory limit reached";

const SECOND: Duration = Duration::from_secs(1);

impl Servers {
    fn server(&mut self, which: usize) -> Result<&mut Memcached> {
        self.memcached.get_mut(which).context("no such server")
    }

    /// The sum over all servers of something that memcached counts.
    fn total(&self, stat: &'static str) -> Result<u64> {
        let mut sum = 0;
        for server in &self.memcached {
            let stats = server.stats()?;
            sum += stats.get(stat).context(stat)?.parse::<u64>()?;
        }
        Ok(sum)
    }

    fn connections(&self) -> Result<u64> {
        self.total("curr_connections")
    }

    fn evicted(&self) -> Result<u64> {
        self.total("evictions")
    }

    /// More than the server may hold, then away with it again.
    fn flood(&mut self, which: usize) -> Result<()> {
        let port = self.server(which)?.port().context("no port")?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        let junk = vec![b'x'; 400_000];
        for number in 0..220 {
            write!(stream, "set junk{number} 0 60 {} noreply\r\n", junk.len())?;
            stream.write_all(&junk)?;
            stream.write_all(b"\r\n")?;
        }
        for number in 0..220 {
            write!(stream, "delete junk{number} noreply\r\n")?;
        }
        Ok(())
    }
}

impl Victim for Servers {
    fn kinds(&self) -> Vec<&'static str> {
        vec![
            KILL, RESTART, PAUSE, PAUSE_ALL, REFUSE, FULL, SLOW, CUT, FLOOD,
        ]
    }

    fn inflict(&mut self, kind: &'static str, rng: &mut Rng, scene: &Scene) -> Result<()> {
        let which = rng.below(SERVERS);
        let on = if kind == PAUSE_ALL {
            String::new()
        } else {
            format!("(server {which})")
        };
        scene.begin(kind, &on);
        match kind {
            KILL => {
                self.server(which)?.kill()?;
                Scene::hold(rng, SECOND / 10, SECOND * 3);
                self.server(which)?.restart()?;
            }
            RESTART => self.server(which)?.restart()?,
            PAUSE => {
                self.server(which)?.pause()?;
                Scene::hold(rng, SECOND / 10, SECOND * 3);
                self.server(which)?.resume()?;
            }
            PAUSE_ALL => {
                for server in &self.memcached {
                    server.pause()?;
                }
                Scene::hold(rng, SECOND / 10, SECOND * 3);
                for server in &self.memcached {
                    server.resume()?;
                }
            }
            FLOOD => self.flood(which)?,
            of_the_network => self
                .network
                .inflict(of_the_network, which, rng, SECOND * 3)?,
        }
        if kind == KILL || kind == RESTART {
            // The new process counts from zero.
            self.evictions = self.evicted()?;
        }
        Ok(())
    }

    fn tend(&mut self, scene: &Scene) -> Result<()> {
        let evictions = self.evicted()?;
        let now = scene.time.now();
        if evictions > self.evictions {
            scene
                .faults
                .accident(EVICTION, "by memcached", self.looked, now);
        }
        self.evictions = evictions;
        self.looked = now;
        Ok(())
    }

    fn left_over(&mut self) -> Result<Vec<String>> {
        let (before, now) = (self.connections_before, self.connections()?);
        if now <= before {
            return Ok(Vec::new());
        }
        Ok(vec![format!(
            "memcached has {} connections open that nobody uses",
            now - before
        )])
    }
}
