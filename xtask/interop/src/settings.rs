//! What is compared with what: a backend of Python, and the one of Rust on the same servers.

use std::time::Duration;

use anyhow::Result;
use cache_core::{CacheBackendExt as _, DynBackend, MapKeys};
use cache_etcd3::{Etcd3Backend, StoredFormat};
use cache_memcache_pool::{MemcachePoolBackend, Routing};
use serde_json::{Value, json};
use test_servers::{Etcd, Memcached};
use tokio::runtime::Runtime;

use crate::python::Python;
use crate::sides::{Format, Region, Rust};

/// The lifetime of values that are not to expire, where Python has to be told one.
const LONG: Duration = Duration::from_secs(3600);

/// The servers that all settings share.
pub(crate) struct Servers {
    memcached: Vec<Memcached>,
    /// Killed, so that nobody listens there.
    dead: Memcached,
    etcd: Etcd,
}

impl Servers {
    pub(crate) fn start() -> Result<Self> {
        let mut dead = Memcached::start()?;
        let memcached = vec![
            Memcached::start()?,
            Memcached::start()?,
            Memcached::start()?,
        ];
        dead.kill()?;
        Ok(Self {
            memcached,
            dead,
            etcd: Etcd::start()?,
        })
    }

    /// The addresses of three memcached.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.memcached.iter().map(Memcached::url).collect()
    }

    /// Three memcached as well, the second of them dead.
    fn urls_one_dead(&self) -> Vec<String> {
        let mut urls = self.urls();
        if let Some(second) = urls.get_mut(1) {
            *second = self.dead.url();
        }
        urls
    }

    /// The address of the etcd.
    pub(crate) fn etcd(&self) -> String {
        self.etcd.endpoint()
    }
}

/// A backend of Python and one of Rust that share servers.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) rust: DynBackend<Vec<u8>>,
    /// What the driver is asked for a region whose values live so long.
    region: Box<dyn Fn(Option<Duration>) -> Value>,
    /// Whether a payload may be any bytes; JSON otherwise.
    pub(crate) holds_bytes: bool,
}

impl Setting {
    fn on_memcached(
        name: &'static str,
        rust: DynBackend<Vec<u8>>,
        region: impl Fn(Option<Duration>) -> Value + 'static,
    ) -> Self {
        Self {
            name,
            rust,
            region: Box::new(region),
            holds_bytes: true,
        }
    }

    /// Every pair that shares a cache.
    pub(crate) fn all(servers: &Servers) -> Result<Vec<Self>> {
        let (urls, one_dead) = (servers.urls(), servers.urls_one_dead());
        let endpoint = servers.etcd();
        let mangled = MapKeys::<DynBackend<Vec<u8>>>::sha1;
        Ok(vec![
            Self::on_memcached(
                "dogpile.cache.memcached",
                memcached(&urls)?,
                dogpile("dogpile.cache.memcached", &urls, false),
            ),
            Self::on_memcached(
                "dogpile.cache.pymemcache, sha1_mangle_key",
                DynBackend::new(mangled(pymemcache(&urls)?)),
                dogpile("dogpile.cache.pymemcache", &urls, true),
            ),
            Self::on_memcached(
                "oslo_cache.memcache_pool",
                DynBackend::new(mangled(memcached(&urls)?)),
                oslo_memcache_pool(&urls),
            ),
            Self::on_memcached(
                "oslo_cache.memcache_pool, one server dead",
                DynBackend::new(mangled(memcached(&one_dead)?)),
                oslo_memcache_pool(&one_dead),
            ),
            Self {
                name: "oslo_cache.etcd3gw",
                rust: DynBackend::new(mangled(etcd_json(&endpoint)?)),
                region: Box::new(move |ttl| oslo_etcd(&endpoint, ttl.unwrap_or(LONG))),
                holds_bytes: false,
            },
        ])
    }

    /// Both sides; what they write lives for `ttl`, if there is one.
    pub(crate) fn sides<'a>(
        &'a self,
        runtime: &'a Runtime,
        python: &'a Python,
        format: Format,
        ttl: Option<Duration>,
    ) -> Result<(Rust<'a>, Region<'a>)> {
        let rust = Rust {
            runtime,
            cache: &self.rust,
            format,
            ttl,
        };
        let mut request = (self.region)(ttl);
        if self.holds_bytes {
            request["format"] = format.name().into();
        }
        let name = format!("{} {format:?} {ttl:?}", self.name);
        Ok((rust, Region::make(python, name, request)?))
    }
}

fn dogpile(
    backend: &'static str,
    urls: &[String],
    sha1: bool,
) -> impl Fn(Option<Duration>) -> Value + 'static {
    let urls = urls.to_vec();
    move |ttl| {
        let mut arguments = json!({ "url": urls });
        if let Some(ttl) = ttl {
            arguments["memcached_expire_time"] = ttl.as_secs().into();
        }
        json!({"do": "dogpile_region", "backend": backend, "arguments": arguments, "sha1": sha1})
    }
}

/// The section `[cache]` of a service that uses the pool.
fn oslo_memcache_pool(urls: &[String]) -> impl Fn(Option<Duration>) -> Value + 'static {
    let urls = urls.to_vec();
    move |ttl| {
        let mut options = json!({
            "enabled": true,
            "backend": "oslo_cache.memcache_pool",
            "memcache_servers": urls,
            "memcache_dead_retry": 3600,
            "memcache_pool_maxsize": 4,
        });
        if let Some(ttl) = ttl {
            // Oslo refuses a lifetime on the server that is the shorter one.
            options["expiration_time"] = ttl.as_secs().into();
            options["backend_expiration_time"] = ttl.as_secs().into();
        }
        json!({"do": "oslo_region", "options": options})
    }
}

/// The section `[cache]` of a service that uses etcd; `timeout` is the lifetime of its values.
pub(crate) fn oslo_etcd(endpoint: &str, timeout: Duration) -> Value {
    let (host, port) = endpoint.split_once(':').unwrap_or((endpoint, ""));
    let timeout = timeout.as_secs();
    let arguments = [
        format!("host:{host}"),
        format!("port:{port}"),
        format!("timeout:{timeout}"),
    ];
    json!({"do": "oslo_region", "format": "native", "options": {
        "enabled": true,
        "backend": "oslo_cache.etcd3gw",
        "backend_argument": arguments,
    }})
}

/// The pool with the routing of python-memcached.
pub(crate) fn memcached(urls: &[String]) -> Result<DynBackend<Vec<u8>>> {
    pool(urls, Routing::PythonMemcached)
}

/// The pool with the routing of pymemcache.
pub(crate) fn pymemcache(urls: &[String]) -> Result<DynBackend<Vec<u8>>> {
    pool(urls, Routing::Pymemcache)
}

fn pool(urls: &[String], routing: Routing) -> Result<DynBackend<Vec<u8>>> {
    let pool = MemcachePoolBackend::builder().url(urls).routing(routing);
    Ok(pool.build()?.into_dyn())
}

/// etcd as oslo.cache uses it.
pub(crate) fn etcd_json(endpoint: &str) -> Result<DynBackend<Vec<u8>>> {
    let etcd = Etcd3Backend::builder().endpoints([endpoint]);
    let etcd = etcd.stored_format(StoredFormat::PythonJson);
    Ok(etcd.build()?.into_dyn())
}

/// etcd with the envelope.
pub(crate) fn etcd(endpoint: &str) -> Result<DynBackend<Vec<u8>>> {
    let etcd = Etcd3Backend::builder().endpoints([endpoint]);
    Ok(etcd.build()?.into_dyn())
}
