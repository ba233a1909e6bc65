//! The contract, on one node and on three.

use std::sync::OnceLock;
use std::time::Duration;

use cache_conformance::servers::{Etcd, EtcdCluster};
use cache_conformance::{
    Capabilities, Fault, FaultControl, Faulty, Harness, OpenError, Options, Proxy,
};
use cache_etcd3::{Etcd3Backend, Etcd3Builder};

const PASSWORD: &str = "correct horse battery staple";

/// What both promise: values up to etcd's default limit of a request.
fn capabilities() -> Capabilities {
    Capabilities::default()
        .with_max_key(64 * 1024)
        .with_max_value(1024 * 1024)
        .with_faults(Fault::ALL)
        .with_secrets(&[PASSWORD])
}

/// One for each member: all fail together.
struct Proxies(Vec<Proxy>);

impl FaultControl for Proxies {
    fn inject(&mut self, fault: Fault) -> Result<(), OpenError> {
        self.0.iter_mut().try_for_each(|proxy| proxy.inject(fault))
    }

    fn heal(&mut self) -> Result<(), OpenError> {
        self.0.iter_mut().try_for_each(Proxy::heal)
    }
}

/// In front of a server that asks for no password, and is told one all the same.
fn faulty(options: &Options, proxies: Vec<Proxy>) -> Result<Faulty<Etcd3Backend>, OpenError> {
    let endpoints = proxies.iter().map(|proxy| proxy.address().to_string());
    let backend = builder(options)
        .endpoints(endpoints)
        .call_timeout(Duration::from_secs(2))
        .username("root")
        .password(PASSWORD)
        .build()?;
    Ok(Faulty::new(backend, Proxies(proxies)))
}

fn builder(options: &Options) -> Etcd3Builder {
    Etcd3Backend::builder()
        .ttl(options.default_ttl)
        .call_timeout(Duration::from_secs(10))
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
}

struct ThreeNodes;

fn cluster() -> &'static EtcdCluster {
    static CLUSTER: OnceLock<EtcdCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| EtcdCluster::start().unwrap())
}

impl Harness for ThreeNodes {
    type Backend = Etcd3Backend;

    fn capabilities(&self) -> Capabilities {
        capabilities()
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
}

cache_conformance::tests!(one_node: OneNode);
cache_conformance::tests!(three_nodes: ThreeNodes);
