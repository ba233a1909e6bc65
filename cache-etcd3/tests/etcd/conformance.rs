//! The contract, on one node and on three.

use std::sync::OnceLock;
use std::time::Duration;

use cache_conformance::{Capabilities, Fault, Faulty, Harness, OpenError, Options, Proxy};
use cache_etcd3::{Etcd3Backend, Etcd3Builder, StoredFormat};
use test_servers::{Etcd, EtcdCluster};

/// Much longer than a call needs after a fault, so that no call fails on a slow machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long calls may take, and how long they may fail after a fault, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

const PASSWORD: &str = "correct horse battery staple";

/// The capabilities of both: values up to etcd's default request limit.
fn capabilities() -> Capabilities {
    Capabilities::default()
        .with_max_key(64 * 1024)
        .with_max_value(1024 * 1024)
        .with_call_limit(PATIENCE)
        .with_recovery(PATIENCE)
        .with_faults(Fault::ALL)
        .with_secrets(&[PASSWORD])
        .with_unreadable_values()
        .with_batched_reads()
        .with_brief_polls()
        .with_no_tasks_left()
        .with_no_connections_left()
}

/// Behind proxies, with a password that the server does not require.
fn faulty(options: &Options, proxies: Vec<Proxy>) -> Result<Faulty<Etcd3Backend>, OpenError> {
    let endpoints = proxies.iter().map(|proxy| proxy.address().to_string());
    let backend = builder(options)
        .endpoints(endpoints)
        .call_timeout(CALL_TIMEOUT)
        .username("root")
        .password(PASSWORD)
        .build()?;
    Ok(Faulty::new(backend, proxies))
}

fn builder(options: &Options) -> Etcd3Builder {
    Etcd3Backend::builder()
        .ttl(options.default_ttl)
        .call_timeout(CALL_TIMEOUT)
}

/// Stores a value as another program might.
async fn put_garbage(endpoints: Vec<String>, key: &str) -> Result<(), OpenError> {
    let mut client = etcd_client::Client::connect(endpoints, None).await?;
    client.put(key, "garbage", None).await?;
    Ok(())
}

struct OneNode;

fn node() -> &'static Etcd {
    static NODE: OnceLock<Etcd> = OnceLock::new();
    NODE.get_or_init(|| Etcd::start().unwrap())
}

impl Harness for OneNode {
    type Backend = Etcd3Backend;

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    async fn open(&self, options: &Options) -> Result<Etcd3Backend, OpenError> {
        Ok(builder(options).endpoints([node().endpoint()]).build()?)
    }

    async fn open_faulty(&self, options: &Options) -> Result<Faulty<Etcd3Backend>, OpenError> {
        faulty(options, vec![Proxy::start(node().endpoint().parse()?)?])
    }

    async fn make_unreadable(&self, _: &Etcd3Backend, key: &str) -> Result<(), OpenError> {
        put_garbage(vec![node().endpoint()], key).await
    }
}

/// Payloads without metadata: neither the deadline nor the cached time is stored.
struct RawOnOneNode;

impl Harness for RawOnOneNode {
    type Backend = Etcd3Backend;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = capabilities().with_faults(&[]).with_secrets(&[]);
        // Any bytes are a payload.
        capabilities.unreadable_values = false;
        capabilities
    }

    async fn open(&self, options: &Options) -> Result<Etcd3Backend, OpenError> {
        let builder = builder(options).stored_format(StoredFormat::Raw);
        Ok(builder.endpoints([node().endpoint()]).build()?)
    }
}

struct ThreeNodes;

fn cluster() -> &'static EtcdCluster {
    static CLUSTER: OnceLock<EtcdCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| EtcdCluster::start().unwrap())
}

impl Harness for ThreeNodes {
    type Backend = Etcd3Backend;

    fn capabilities(&self) -> Capabilities {
        capabilities().with_servers(3)
    }

    async fn open(&self, options: &Options) -> Result<Etcd3Backend, OpenError> {
        Ok(builder(options).endpoints(cluster().endpoints()).build()?)
    }

    async fn open_faulty(&self, options: &Options) -> Result<Faulty<Etcd3Backend>, OpenError> {
        let proxies = cluster()
            .endpoints()
            .iter()
            .map(|endpoint| Ok(Proxy::start(endpoint.parse()?)?))
            .collect::<Result<_, OpenError>>()?;
        faulty(options, proxies)
    }

    async fn make_unreadable(&self, _: &Etcd3Backend, key: &str) -> Result<(), OpenError> {
        put_garbage(cluster().endpoints(), key).await
    }
}

cache_conformance::tests! {
    one_node: OneNode,
    waive {
        outages: "there is one server",
        promises::get_multi_asks_for_a_key_once: "sends keys as it is given them",
        promises::cancelled_writes_release_their_values: "cannot tell how many values it holds",
        promises::lifetimes_ignore_the_wall_clock: "goes by the machine's clock",
        promises::a_full_cache_is_right: "etcd has no bound, and refuses writes when it is full",
        promises::immediate_calls_end_at_once: "waits for a server",
    }
}
cache_conformance::tests! {
    three_nodes: ThreeNodes,
    waive {
        promises::get_multi_asks_for_a_key_once: "sends keys as it is given them",
        promises::cancelled_writes_release_their_values: "cannot tell how many values it holds",
        promises::lifetimes_ignore_the_wall_clock: "goes by the machine's clock",
        promises::a_full_cache_is_right: "etcd has no bound, and refuses writes when it is full",
        promises::immediate_calls_end_at_once: "waits for a server",
    }
}
cache_conformance::tests! {
    raw: RawOnOneNode,
    waive {
        faults: "tested with the envelope",
        outages: "there is one server",
        unreadable: "any bytes are a payload",
        concurrency::metadata_goes_with_its_payload: "the cached time is not stored",
        expiry::a_shorter_ttl_replaces_the_deadline: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::an_expired_key_can_be_set_again: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::default_ttl_expires: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::every_value_expires: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::expired_values_stay_expired: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::get_multi_misses_the_expired: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::long_lifetimes_end_on_time: "the time left is not stored",
        expiry::many_expire_together: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::not_lost_before_the_deadline: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::own_ttl_expires: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::reading_does_not_extend: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::set_multi_applies_the_default: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::set_multi_keeps_each_ttl: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::shorter_own_ttl_beats_the_default: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::the_clock_starts_at_set: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::the_last_of_repeated_keys_sets_the_deadline: may_fail("the deadline is not stored; etcd removes the value later"),
        expiry::tiny_ttls_expire: may_fail("the deadline is not stored; etcd removes the value later"),
        metadata::every_value_has_its_metadata: "the cached time is not stored",
        metadata::multi_operations_keep_the_cached_time: "the cached time is not stored",
        metadata::old_and_future_times_are_kept: "the cached time is not stored",
        metadata::reading_does_not_touch_the_cached_time: "the cached time is not stored",
        metadata::set_replaces_the_cached_time: "the cached time is not stored",
        metadata::the_cached_time_comes_back: "the cached time is not stored",
        metadata::the_time_left_of_the_default_is_returned: "the time left is not stored",
        metadata::the_time_left_is_returned: "the time left is not stored",
        metadata::the_time_left_decreases: "the time left is not stored",
        model::sequences_in_time_agree: may_fail("the deadline is not stored; etcd removes the value later"),
        model::sequences_with_drops_agree: "the time left is not stored",
        races::a_deadline_goes_with_its_payload: "the time left is not stored",
        races::a_dropped_set_leaves_no_mixture: "the time left is not stored",
        races::a_read_at_the_deadline_changes_nothing: may_fail("the deadline is not stored; etcd removes the value later"),
        races::histories_with_deadlines_are_linearizable: may_fail("the deadline is not stored; etcd removes the value later"),
        sharing::deadlines_are_shared: may_fail("the deadline is not stored; etcd removes the value later"),
        sharing::metadata_is_shared: "the cached time is not stored",
        promises::reads_are_batched: "tested with the envelope",
        promises::a_dropped_backend_closes_its_connections: "tested with the envelope",
        promises::get_multi_asks_for_a_key_once: "sends keys as it is given them",
        promises::cancelled_writes_release_their_values: "cannot tell how many values it holds",
        promises::lifetimes_ignore_the_wall_clock: "goes by the machine's clock",
        promises::a_full_cache_is_right: "etcd has no bound, and refuses writes when it is full",
        promises::immediate_calls_end_at_once: "waits for a server",
    }
}
