//! cache-memcache-pool on three memcached servers, each behind a proxy.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cache_conformance::Proxy;
use cache_core::DynBackend;
use cache_memcache_pool::MemcachePoolBackend;
use fastrand::Rng;
use test_servers::Memcached;

use crate::faults::{EVICTION, FaultLog};
use crate::nemesis::{CUT, REFUSED, SILENT, Victim, disturb, hold};
use crate::run::Target;
use crate::store::{Opened, Order, Promises, Space, Store};
use crate::time::Expiry;

const SERVERS: usize = 3;
/// Backends that share the servers.
const INSTANCES: usize = 3;

const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);
const DEAD_RETRY: Duration = Duration::from_secs(1);
const DEFAULT_TTL: Duration = Duration::from_secs(120);

struct Memcache {
    addresses: Vec<String>,
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
            evicting: None,
            // Waiting for a connection, the first attempt, and all others together.
            bound: CONNECTION_TIMEOUT + SOCKET_TIMEOUT * 2 + Duration::from_secs(1),
            slow: SOCKET_TIMEOUT * 4 / 5,
            // Left alone, probed by the next call, and that call's time.
            settle: DEAD_RETRY + SOCKET_TIMEOUT * 2 + Duration::from_secs(1),
            default_ttl: DEFAULT_TTL,
            max_value: 1024 * 1024 - 1024,
            why: &[
                "atomic per key between faults, for all backends together",
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

pub(crate) fn target() -> Result<Target> {
    let mut memcached = Vec::new();
    let mut proxies = Vec::new();
    for _ in 0..SERVERS {
        let server = Memcached::builder().args(["-m", "64", "-t", "2"]).start();
        let server = server.context("cannot start memcached")?;
        let port = server.port().context("memcached has no port")?;
        proxies.push(Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?);
        memcached.push(server);
    }
    let addresses = proxies
        .iter()
        .map(|proxy| proxy.address().to_string())
        .collect();
    let mut victim = Servers {
        memcached,
        proxies,
        connections_before: 0,
        evictions: 0,
        looked: 0,
    };
    victim.connections_before = victim.connections()?;
    Ok(Target {
        store: Arc::new(Memcache { addresses }),
        victim: Box::new(victim),
        rate: 600.0,
        clients: 48,
    })
}

struct Servers {
    memcached: Vec<Memcached>,
    proxies: Vec<Proxy>,
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
        vec![KILL, RESTART, PAUSE, PAUSE_ALL, REFUSED, SILENT, CUT, FLOOD]
    }

    fn inflict(&mut self, kind: &'static str, rng: &mut Rng, faults: &FaultLog) -> Result<()> {
        let which = rng.usize(..SERVERS);
        let on = if kind == PAUSE_ALL {
            String::new()
        } else {
            format!("(server {which})")
        };
        faults.begin(kind, &on);
        match kind {
            KILL => {
                self.server(which)?.kill()?;
                hold(rng, 100, 3_000);
                self.server(which)?.restart()?;
            }
            RESTART => self.server(which)?.restart()?,
            PAUSE => {
                self.server(which)?.pause()?;
                hold(rng, 100, 3_000);
                self.server(which)?.resume()?;
            }
            PAUSE_ALL => {
                for server in &self.memcached {
                    server.pause()?;
                }
                hold(rng, 100, 3_000);
                for server in &self.memcached {
                    server.resume()?;
                }
            }
            FLOOD => self.flood(which)?,
            of_the_network => {
                let proxy = self.proxies.get_mut(which).context("no such proxy")?;
                disturb(proxy, of_the_network, rng, 3_000)?;
            }
        }
        if kind == KILL || kind == RESTART {
            // The new process counts from zero.
            self.evictions = self.evicted()?;
        }
        Ok(())
    }

    fn tend(&mut self, faults: &FaultLog) -> Result<()> {
        let evictions = self.evicted()?;
        let now = faults.time.now();
        if evictions > self.evictions {
            faults.accident(EVICTION, "by memcached", self.looked, now);
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
