//! The contract, on one node and on three.

use std::sync::OnceLock;
use std::time::Duration;

use cache_conformance::{Capabilities, Fault, Faulty, Harness, OpenError, Options, Proxy};
use cache_etcd3::{Etcd3Backend, Etcd3Builder};
use test_servers::{Etcd, EtcdCluster};

const PASSWORD: &str = "correct horse battery staple";

/// What both promise: values up to etcd's default limit of a request.
fn capabilities() -> Capabilities {
    Capabilities::default()
        .with_max_key(64 * 1024)
        .with_max_value(1024 * 1024)
        .with_faults(Fault::ALL)
        .with_secrets(&[PASSWORD])
        .with_unreadable_values()
        .with_batched_reads()
        .with_brief_polls()
        .with_no_tasks_left()
        .with_no_connections_left()
}

/// In front of a server that asks for no password, and is told one all the same.
fn faulty(options: &Options, proxies: Vec<Proxy>) -> Result<Faulty<Etcd3Backend>, OpenError> {
    let endpoints = proxies.iter().map(|proxy| proxy.address().to_string());
    let backend = builder(options)
        .endpoints(endpoints)
        .call_timeout(Duration::from_secs(4))
        .username("root")
        .password(PASSWORD)
        .build()?;
    Ok(Faulty::new(backend, proxies))
}

fn builder(options: &Options) -> Etcd3Builder {
    Etcd3Backend::builder()
        .ttl(options.default_ttl)
        .call_timeout(Duration::from_secs(10))
}

/// What another program might keep under the key.
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
        promises::given_up_writes_leave_no_value_behind: "cannot tell how many values it holds",
        promises::the_wall_clock_ends_no_life: "goes by the machine's clock",
        promises::a_full_cache_is_right: "etcd has no bound, and refuses writes when it is full",
        promises::immediate_calls_end_at_once: "waits for a server",
    }
}
cache_conformance::tests! {
    three_nodes: ThreeNodes,
    waive {
        promises::get_multi_asks_for_a_key_once: "sends keys as it is given them",
        promises::given_up_writes_leave_no_value_behind: "cannot tell how many values it holds",
        promises::the_wall_clock_ends_no_life: "goes by the machine's clock",
        promises::a_full_cache_is_right: "etcd has no bound, and refuses writes when it is full",
        promises::immediate_calls_end_at_once: "waits for a server",
    }
}
