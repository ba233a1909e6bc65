//! The conformance suite with each protocol, routing and transport.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use cache_conformance::{Capabilities, Fault, Faulty, Harness, OpenError, Options, Proxy};
use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolBuilder, Routing, StoredFormat};
use test_servers::{Memcached, MemcachedBuilder};

const PASSWORD: &str = "correct-horse-battery-staple";

/// The servers shared by all rules of one harness.
struct Servers {
    running: OnceLock<Vec<Memcached>>,
    how_many: usize,
    /// How many of them the fault rules use.
    faulty: usize,
    has_secret: bool,
    /// Whether they accept connections without TLS and authentication.
    is_plain: bool,
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
            is_plain: false,
            start,
            configure,
        }
    }

    const fn with_faults_of(mut self, servers: usize) -> Self {
        self.faulty = servers;
        self
    }

    const fn in_the_clear(mut self) -> Self {
        self.is_plain = true;
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
            // Servers that return together are probed by the same call.
            .dead_retry(Duration::ZERO);
        Ok((self.configure)(builder, self.running()).build()?)
    }
}

impl Harness for &'static Servers {
    type Backend = MemcachePoolBackend;

    fn capabilities(&self) -> Capabilities {
        let capabilities = Capabilities::default()
            .with_max_key(250)
            .with_max_value(1_000_000)
            .with_servers(self.faulty)
            .with_batched_reads()
            .with_brief_polls()
            .with_no_tasks_left()
            // One socket_timeout for the first server and one for all others, on a busy machine.
            .with_call_limit(Duration::from_secs(10));
        let capabilities = match self.running().first().and_then(Memcached::port) {
            Some(_) => capabilities
                .with_faults(Fault::ALL)
                .with_no_connections_left(),
            None => capabilities,
        };
        let capabilities = if self.is_plain {
            capabilities.with_unreadable_values()
        } else {
            capabilities
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
        Ok(Faulty::new(backend, proxies))
    }

    /// Stores a value without an envelope on every server.
    async fn make_unreadable(&self, _: &MemcachePoolBackend, key: &str) -> Result<(), OpenError> {
        for server in self.running() {
            let mut stream = TcpStream::connect(server.url())?;
            write!(stream, "set {key} 0 0 7\r\ngarbage\r\n")?;
            let mut answer = [0; b"STORED\r\n".len()];
            stream.read_exact(&mut answer)?;
        }
        Ok(())
    }
}

static ONE: Servers = Servers::new(1, |server| server, |cache, _| cache).in_the_clear();

// If several servers return one after another, each takes back its keys, and values written to
// others in the meantime are misses; so the fault rules use one server.
static THREE: Servers = Servers::new(3, |server| server, |cache, _| cache)
    .with_faults_of(1)
    .in_the_clear();

// Each key has one home server, and is unavailable while that is down.
static HOMES: Servers =
    Servers::new(3, |server| server, |cache, _| cache.failover(false)).in_the_clear();

// python-memcached tries ten times to find a server that is up, and may miss some by chance, which
// would then return after the others.
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

// Payloads without metadata: neither the deadline nor the cached time is stored.
static RAW: Servers = Servers::new(
    1,
    |server| server,
    |cache, _| cache.stored_format(StoredFormat::Raw),
);

static UNIX: Servers = Servers::new(1, MemcachedBuilder::unix_socket, |cache, _| cache);

#[cfg(feature = "tls")]
static TLS: Servers = Servers::new(1, MemcachedBuilder::tls, |cache, servers| {
    cache.tls_enabled(true).tls_cafile(servers[0].certificate())
});

/// The suite, without the rules that do not apply to memcached.
macro_rules! memcached_tests {
    ($name:ident: $servers:ident $(, waive { $($waivers:tt)* })?) => {
        cache_conformance::tests! {
            $name: &$servers,
            waive {
                $($($waivers)*)?
                promises::get_multi_asks_for_a_key_once: "sends keys as it is given them",
                promises::cancelled_writes_release_their_values: "cannot tell how many values it holds",
                promises::lifetimes_ignore_the_wall_clock: "goes by the machine's clock",
                promises::a_full_cache_is_right: "the servers have more room than the rules fill",
                promises::immediate_calls_end_at_once: "waits for a server",
            }
        }
    };
}

memcached_tests! {
    one_server: ONE,
    waive {
        faults::errors_show_no_secret: "there is no password",
        outages: "there is one server",
    }
}
memcached_tests! {
    three_servers: THREE,
    waive {
        faults::errors_show_no_secret: "there is no password",
        outages: "the keys of a dead server go to the others",
    }
}
memcached_tests! {
    three_servers_without_failover: HOMES,
    waive { faults::errors_show_no_secret: "there is no password", }
}
memcached_tests! {
    python_routing: PYTHON,
    waive {
        faults::errors_show_no_secret: "there is no password",
        outages: "the keys of a dead server go to the others",
        unreadable: "tested without this routing",
    }
}
memcached_tests! {
    authenticated: AUTHENTICATED,
    waive {
        outages: "there is one server",
        unreadable: "tested without a password",
    }
}
memcached_tests! {
    raw: RAW,
    waive {
        faults::errors_show_no_secret: "there is no password",
        outages: "there is one server",
        unreadable: "any bytes are a payload",
        concurrency::metadata_goes_with_its_payload: "the cached time is not stored",
        expiry::a_shorter_ttl_replaces_the_deadline: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::an_expired_key_can_be_set_again: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::default_ttl_expires: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::every_value_expires: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::expired_values_stay_expired: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::get_multi_misses_the_expired: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::long_lifetimes_end_on_time: "the time left is not stored",
        expiry::many_expire_together: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::not_lost_before_the_deadline: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::own_ttl_expires: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::reading_does_not_extend: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::set_multi_applies_the_default: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::set_multi_keeps_each_ttl: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::shorter_own_ttl_beats_the_default: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::the_clock_starts_at_set: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::the_last_of_repeated_keys_sets_the_deadline: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        expiry::tiny_ttls_expire: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        metadata::every_value_has_its_metadata: "the cached time is not stored",
        metadata::multi_operations_keep_the_cached_time: "the cached time is not stored",
        metadata::old_and_future_times_are_kept: "the cached time is not stored",
        metadata::reading_does_not_touch_the_cached_time: "the cached time is not stored",
        metadata::set_replaces_the_cached_time: "the cached time is not stored",
        metadata::the_cached_time_comes_back: "the cached time is not stored",
        metadata::the_time_left_of_the_default_is_returned: "the time left is not stored",
        metadata::the_time_left_is_returned: "the time left is not stored",
        metadata::the_time_left_decreases: "the time left is not stored",
        model::sequences_in_time_agree: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        model::sequences_with_drops_agree: "the time left is not stored",
        races::a_deadline_goes_with_its_payload: "the time left is not stored",
        races::a_dropped_set_leaves_no_mixture: "the time left is not stored",
        races::a_read_at_the_deadline_changes_nothing: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        races::histories_with_deadlines_are_linearizable: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        sharing::deadlines_are_shared: may_fail("the deadline is not stored; memcached removes the value seconds later"),
        sharing::metadata_is_shared: "the cached time is not stored",
    }
}
memcached_tests! {
    unix_socket: UNIX,
    waive {
        faults: "the proxy that brings faults about speaks TCP",
        outages: "the proxy that brings faults about speaks TCP",
        unreadable: "tested by TCP",
        promises::a_dropped_backend_closes_its_connections: "the proxy that counts connections speaks TCP",
        promises::reads_are_batched: "the proxy that counts round trips speaks TCP",
    }
}
#[cfg(feature = "tls")]
memcached_tests! {
    tls: TLS,
    waive {
        faults::errors_show_no_secret: "there is no password",
        outages: "there is one server",
        unreadable: "tested in the clear",
    }
}
