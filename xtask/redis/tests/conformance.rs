use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use cache_conformance::{Capabilities, Fault, Faulty, Harness, OpenError, Options, Proxy, Server};
use redis_backend::RedisBackend;

/// One for all rules. It ends with the tests, though a `static` is never dropped.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let started = Server::start(|port| {
            let mut command = Command::new("redis-server");
            command.args(["--save", "", "--port", &port.to_string()]);
            command
        });
        started.unwrap_or_else(|error| panic!("{error} (apt-get install redis-server)"))
    })
}

struct RedisHarness;

impl Harness for RedisHarness {
    type Backend = RedisBackend;

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
            .with_faults(Fault::ALL)
            .with_unreadable_values()
            .with_batched_reads()
            .with_brief_polls()
            .with_no_tasks_left()
    }

    async fn open(&self, options: &Options) -> Result<RedisBackend, OpenError> {
        let url = format!("redis://{}", server().address());
        Ok(RedisBackend::open(&url, options.default_ttl, Duration::from_secs(10)).await?)
    }

    async fn open_faulty(&self, options: &Options) -> Result<Faulty<RedisBackend>, OpenError> {
        let proxy = Proxy::start(server().address())?;
        let url = format!("redis://{}", proxy.address());
        let timeout = Duration::from_millis(500);
        let backend = RedisBackend::open(&url, options.default_ttl, timeout).await?;
        Ok(Faulty::new(backend, proxy))
    }

    async fn make_unreadable(&self, _: &RedisBackend, key: &str) -> Result<(), OpenError> {
        let client = redis::Client::open(format!("redis://{}", server().address()))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let set = redis::cmd("SET").arg(key).arg("garbage").to_owned();
        Ok(set.exec_async(&mut connection).await?)
    }
}

cache_conformance::tests! {
    redis_backend_keeps: RedisHarness,
    waive {
        limits: "keys and values may be of any size that Redis has room for",
        outages: "the backend has one server",
        faults::errors_show_no_secret: "the server has no password",
        faults::broken_connections_are_replaced: "redis 1 keeps one whose answer broke off",
        promises::get_multi_asks_for_a_key_once: "sends keys as it is given them",
        promises::cancelled_writes_release_their_values: "the client does not tell what it holds",
        promises::a_dropped_backend_closes_its_connections: "is not promised",
        promises::lifetimes_ignore_the_wall_clock: "Redis goes by the machine's clock",
        promises::a_full_cache_is_right: "Redis has no bound unless it is configured",
        promises::immediate_calls_end_at_once: "it waits for a server",
    }
}
