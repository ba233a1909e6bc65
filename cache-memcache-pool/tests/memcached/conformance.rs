//! The whole suite of the contract, in each of the ways in which memcached is reached.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use cache_conformance::servers::{Memcached, MemcachedBuilder};
use cache_conformance::{
    Capabilities, Fault, FaultControl, Faulty, Harness, OpenError, Options, Proxy,
};
use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolBuilder, Routing};

const PASSWORD: &str = "correct-horse-battery-staple";

/// Servers that all rules of one harness share.
struct Servers {
    running: OnceLock<Vec<Memcached>>,
    how_many: usize,
    /// How many of them the rules about faults use.
    faulty: usize,
    has_secret: bool,
    start: fn(MemcachedBuilder) -> MemcachedBuilder,
    configure: fn(MemcachePoolBuilder, &[Memcached]) -> MemcachePoolBuilder,
}

impl Servers {
    const fn new(
        how_many: usize,
        start: fn(MemcachedBuilder) -> MemcachedBuilder,
        configure: fn(MemcachePoolBuilder, &[Memcached]) -> MemcachePoolBuilder,
    ) -> Self {
        Self {
            running: OnceLock::new(),
            how_many,
            faulty: how_many,
            has_secret: false,
            start,
            configure,
        }
    }

    const fn with_faults_of(mut self, servers: usize) -> Self {
        self.faulty = servers;
        self
    }

    const fn with_a_secret(mut self) -> Self {
        self.has_secret = true;
        self
    }

    fn running(&self) -> &[Memcached] {
        self.running.get_or_init(|| {
            let start = || (self.start)(Memcached::builder()).start().unwrap();
            (0..self.how_many).map(|_| start()).collect()
        })
    }

    fn open(&self, urls: Vec<String>, options: &Options) -> Result<MemcachePoolBackend, OpenError> {
        let builder = MemcachePoolBackend::builder()
            .url(urls)
            .memcached_expire_time(options.default_ttl)
            .socket_timeout(Duration::from_millis(800))
            // Servers that return together are seen to do so: all are tried by the same call.
            .dead_retry(Duration::ZERO);
        Ok((self.configure)(builder, self.running()).build()?)
    }
}

/// Faults of several servers at once.
struct Proxies(Vec<Proxy>);

impl FaultControl for Proxies {
    fn inject(&mut self, fault: Fault) -> Result<(), OpenError> {
        self.0.iter_mut().try_for_each(|proxy| proxy.inject(fault))
    }

    fn heal(&mut self) -> Result<(), OpenError> {
        self.0.iter_mut().try_for_each(FaultControl::heal)
    }
}

impl Harness for &'static Servers {
    type Backend = MemcachePoolBackend;

    fn capabilities(&self) -> Capabilities {
        let capabilities = Capabilities::default()
            .with_max_key(250)
            .with_max_value(1_000_000)
            // A socket_timeout for the first server, another for all that follow, and a busy
            // machine.
            .with_call_limit(Duration::from_secs(10));
        let capabilities = match self.running().first().and_then(Memcached::port) {
            Some(_) => capabilities.with_faults(Fault::ALL),
            None => capabilities,
        };
        if self.has_secret {
            capabilities.with_secrets(&[PASSWORD])
        } else {
            capabilities
        }
    }

    async fn open(&self, options: &Options) -> Result<MemcachePoolBackend, OpenError> {
        let urls = self.running().iter().map(Memcached::url).collect();
        Servers::open(self, urls, options)
    }

    async fn open_faulty(
        &self,
        options: &Options,
    ) -> Result<Faulty<MemcachePoolBackend>, OpenError> {
        let mut proxies = Vec::new();
        for server in self.running().iter().take(self.faulty) {
            let address: SocketAddr = server.url().parse()?;
            proxies.push(Proxy::start(address)?);
        }
        let urls = proxies.iter().map(|proxy| proxy.address().to_string());
        let backend = Servers::open(self, urls.collect(), options)?;
        Ok(Faulty::new(backend, Proxies(proxies)))
    }
}

static ONE: Servers = Servers::new(1, |server| server, |cache, _| cache);

static THREE: Servers = Servers::new(3, |server| server, |cache, _| cache);

// python-memcached tries ten times to find a server that is up. It passes over some by chance,
// which would return after the others.
static PYTHON: Servers = Servers::new(
    3,
    |server| server,
    |cache, _| cache.routing(Routing::PythonMemcached),
)
.with_faults_of(1);

static AUTHENTICATED: Servers = Servers::new(
    1,
    |server| server.auth("me", PASSWORD),
    |cache, _| cache.username("me").password(PASSWORD),
)
.with_a_secret();

static UNIX: Servers = Servers::new(1, MemcachedBuilder::unix_socket, |cache, _| cache);

#[cfg(feature = "tls")]
static TLS: Servers = Servers::new(1, MemcachedBuilder::tls, |cache, servers| {
    cache.tls_enabled(true).tls_cafile(servers[0].certificate())
});

cache_conformance::tests! {
    one_server: &ONE,
    waive { faults::errors_show_no_secret: "there is no password" }
}
cache_conformance::tests! {
    three_servers: &THREE,
    waive { faults::errors_show_no_secret: "there is no password" }
}
cache_conformance::tests! {
    python_routing: &PYTHON,
    waive { faults::errors_show_no_secret: "there is no password" }
}
cache_conformance::tests!(authenticated: &AUTHENTICATED);
cache_conformance::tests! {
    unix_socket: &UNIX,
    waive { faults: "the proxy that brings faults about speaks TCP" }
}
#[cfg(feature = "tls")]
cache_conformance::tests! {
    tls: &TLS,
    waive { faults::errors_show_no_secret: "there is no password" }
}
