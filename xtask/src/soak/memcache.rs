//! cache-memcache-pool on three memcached servers, each behind a proxy.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cache_conformance::servers::Memcached;
use cache_core::DynBackend;
use cache_memcache_pool::MemcachePoolBackend;
use tokio::runtime::Handle;

use super::faults::EVICTION;
use super::fleet::Store;
use super::load::{Opened, Space};
use super::nemesis::{Scene, Victim};
use super::promises::{Order, Promises};
use super::proxy::{Mode, Proxy};
use super::rng::Rng;
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
    let _inside = proxies.enter();
    let mut doors = Vec::new();
    for _ in 0..SERVERS {
        let server = Memcached::builder()
            .args(["-m", "64", "-t", "2"])
            .start()
            .context("cannot start memcached")?;
        let port = server.port().context("memcached has no port")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        doors.push(Proxy::start(address)?);
        servers.push(server);
    }
    let addresses: Vec<String> = doors
        .iter()
        .map(|door| door.address().to_string())
        .collect();
    let mut victim = Servers {
        memcached: servers,
        doors,
        proxies: proxies.clone(),
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
    doors: Vec<Proxy>,
    proxies: Handle,
    connections_before: u64,
    evictions: u64,
    /// When evictions were last counted.
    looked: u64,
}

const KILL: &str = "killed and restarted";
const RESTART: &str = "restarted at once";
const PAUSE: &str = "stopped and continued";
const PAUSE_ALL: &str = "all stopped and continued";
const REFUSE: &str = "connections refused";
const FULL: &str = "accept queue full";
const SLOW: &str = "slowed down";
const CUT: &str = "connections cut halfway through an answer";
const FLOOD: &str = "memory limit reached";

const SECOND: Duration = Duration::from_secs(1);

impl Servers {
    fn door(&mut self, which: usize, mode: Mode) -> Result<()> {
        let door = self.doors.get_mut(which).context("no such proxy")?;
        self.proxies.block_on(door.set(mode))
    }

    fn server(&mut self, which: usize) -> Result<&mut Memcached> {
        self.memcached.get_mut(which).context("no such server")
    }

    fn connections(&self) -> Result<u64> {
        let mut sum = 0;
        for server in &self.memcached {
            let stats = server.stats()?;
            sum += stats
                .get("curr_connections")
                .context("no curr_connections")?
                .parse::<u64>()?;
        }
        Ok(sum)
    }

    fn evicted(&self) -> Result<u64> {
        let mut sum = 0;
        for server in &self.memcached {
            let stats = server.stats()?;
            sum += stats
                .get("evictions")
                .context("no evictions")?
                .parse::<u64>()?;
        }
        Ok(sum)
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
            _ => {
                let mode = match kind {
                    REFUSE => Mode::Refuse,
                    FULL => Mode::FullQueue,
                    CUT => Mode::CutAnswers,
                    _ => Mode::Slow(Duration::from_millis(rng.between(20, 500))),
                };
                self.door(which, mode)?;
                Scene::hold(rng, SECOND / 2, SECOND * 3);
                self.door(which, Mode::Pass)?;
            }
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
