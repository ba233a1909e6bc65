//! The contract, on one node and on three.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;
use std::time::Duration;

use cache_conformance::servers::{Etcd, EtcdCluster};
use cache_conformance::{Capabilities, Harness, OpenError, Options};
use cache_etcd3::{Etcd3Backend, Etcd3Builder};

/// What both promise: values up to etcd's default limit of a request.
fn capabilities() -> Capabilities {
    Capabilities::default()
        .with_max_key(64 * 1024)
        .with_max_value(1024 * 1024)
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
}

cache_conformance::tests!(one_node: OneNode);
cache_conformance::tests!(three_nodes: ThreeNodes);
