//! How the suite gets hold of our backends. What a rule asks for beyond this, the tests of each
//! crate cover: TLS, authentication, other routings.

use std::time::Duration;

use anyhow::Result;
use cache_conformance::{
    Capabilities, Fault, FaultControl, Faulty, Harness, OpenError, Options, Proxy, Suite,
};
use cache_dict::DictBackend;
use cache_etcd3::{Etcd3Backend, Etcd3Builder};
use cache_memcache_pool::MemcachePoolBackend;
use test_servers::{Etcd, EtcdCluster, Memcached};

const NO_SERVER: &str = "lives in this process and has no server";
const NO_LIMIT: &str = "takes keys and values of any length";
const NO_PASSWORD: &str = "runs without a password here";

/// The suites of one backend, each with a name.
pub(crate) fn suites(backend: &str) -> Result<Vec<Suite>> {
    Ok(match backend {
        "dict" => vec![
            Suite::new(Dict)
                .name("dict")
                .waive("faults", NO_SERVER)
                .waive("limits", NO_LIMIT),
        ],
        "memcache" => vec![memcache(1)?, memcache(3)?],
        _ => vec![
            etcd("etcd", Node::One(Etcd::start()?)),
            etcd("etcd × 3", Node::Three(EtcdCluster::start()?)),
        ],
    })
}

struct Dict;

impl Harness for Dict {
    type Backend = DictBackend<Vec<u8>>;

    async fn open(&self, options: &Options) -> Result<Self::Backend, OpenError> {
        let builder = DictBackend::builder().expiration_time(options.default_ttl);
        Ok(builder.build()?)
    }

    async fn again(&self, cache: &Self::Backend, _: &Options) -> Result<Self::Backend, OpenError> {
        Ok(cache.clone())
    }
}

fn memcache(servers: usize) -> Result<Suite> {
    let name = if servers == 1 {
        "memcache".to_owned()
    } else {
        format!("memcache × {servers}")
    };
    let servers = (0..servers)
        .map(|_| Ok(Memcached::start()?))
        .collect::<Result<_>>()?;
    Ok(Suite::new(Memcache(servers))
        .name(name)
        .waive("faults::errors_show_no_secret", NO_PASSWORD))
}

struct Memcache(Vec<Memcached>);

fn open_memcache(urls: Vec<String>, options: &Options) -> Result<MemcachePoolBackend, OpenError> {
    let builder = MemcachePoolBackend::builder()
        .url(urls)
        .memcached_expire_time(options.default_ttl)
        .socket_timeout(Duration::from_millis(800))
        // Servers that return together are seen to do so.
        .dead_retry(Duration::ZERO);
    Ok(builder.build()?)
}

impl Harness for Memcache {
    type Backend = MemcachePoolBackend;

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
            .with_max_key(250)
            .with_max_value(1_000_000)
            .with_faults(Fault::ALL)
    }

    async fn open(&self, options: &Options) -> Result<MemcachePoolBackend, OpenError> {
        open_memcache(self.0.iter().map(Memcached::url).collect(), options)
    }

    async fn open_faulty(
        &self,
        options: &Options,
    ) -> Result<Faulty<MemcachePoolBackend>, OpenError> {
        let proxies = Proxies::before(self.0.iter().map(Memcached::url))?;
        let backend = open_memcache(proxies.addresses(), options)?;
        Ok(Faulty::new(backend, proxies))
    }
}

fn etcd(name: &str, node: Node) -> Suite {
    Suite::new(node)
        .name(name)
        .waive("faults::errors_show_no_secret", NO_PASSWORD)
}

enum Node {
    One(Etcd),
    Three(EtcdCluster),
}

impl Node {
    fn endpoints(&self) -> Vec<String> {
        match self {
            Self::One(node) => vec![node.endpoint()],
            Self::Three(cluster) => cluster.endpoints(),
        }
    }
}

fn etcd_builder(options: &Options) -> Etcd3Builder {
    Etcd3Backend::builder()
        .ttl(options.default_ttl)
        .call_timeout(Duration::from_secs(10))
}

impl Harness for Node {
    type Backend = Etcd3Backend;

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
            .with_max_key(64 * 1024)
            .with_max_value(1024 * 1024)
            .with_faults(Fault::ALL)
    }

    async fn open(&self, options: &Options) -> Result<Etcd3Backend, OpenError> {
        Ok(etcd_builder(options).endpoints(self.endpoints()).build()?)
    }

    async fn open_faulty(&self, options: &Options) -> Result<Faulty<Etcd3Backend>, OpenError> {
        let proxies = Proxies::before(self.endpoints())?;
        let backend = etcd_builder(options)
            .endpoints(proxies.addresses())
            .call_timeout(Duration::from_secs(2))
            .build()?;
        Ok(Faulty::new(backend, proxies))
    }
}

/// One in front of each server; all fail together.
struct Proxies(Vec<Proxy>);

impl Proxies {
    fn before(servers: impl IntoIterator<Item = String>) -> Result<Self, OpenError> {
        let mut proxies = Vec::new();
        for server in servers {
            proxies.push(Proxy::start(server.parse()?)?);
        }
        Ok(Self(proxies))
    }

    fn addresses(&self) -> Vec<String> {
        let addresses = self.0.iter().map(|proxy| proxy.address().to_string());
        addresses.collect()
    }
}

impl FaultControl for Proxies {
    fn inject(&mut self, fault: Fault) -> Result<(), OpenError> {
        self.0.iter_mut().try_for_each(|proxy| proxy.inject(fault))
    }

    fn heal(&mut self) -> Result<(), OpenError> {
        self.0.iter_mut().try_for_each(FaultControl::heal)
    }
}
