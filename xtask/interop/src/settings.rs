//! What is compared with what: a backend of Python, and the one of Rust on the same servers.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cache_conformance::servers::{Etcd, Memcached};
use cache_core::{DynBackend, MapKeys};
use cache_etcd3::{Etcd3Backend, StoredFormat};
use cache_memcache_pool::{MemcachePoolBackend, Routing};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::pymemcache_route::server_of;
use super::python::Python;
use super::sides::{Format, Region, Rust};

/// The lifetime of values that are to expire.
pub(crate) const TTL: Duration = Duration::from_secs(5);

/// The lifetime of the others, where Python has to be told one.
const LONG: u64 = 3600;

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
    backend: Backend,
    pub(crate) rust: DynBackend<Vec<u8>>,
    /// Whether a payload may be any bytes; JSON otherwise.
    pub(crate) holds_bytes: bool,
}

/// A backend of Python, and how it is configured.
enum Backend {
    Dogpile {
        name: &'static str,
        servers: Vec<String>,
        sha1: bool,
    },
    OsloMemcachePool {
        servers: Vec<String>,
    },
    OsloEtcd {
        endpoint: String,
    },
}

impl Setting {
    /// Every pair that shares a cache.
    pub(crate) fn all(servers: &Servers) -> Result<Vec<Self>> {
        let urls = servers.urls();
        let one_dead = servers.urls_one_dead();
        let etcd = servers.etcd();
        Ok(vec![
            Self {
                name: "dogpile.cache.memcached, three servers",
                rust: memcached(&urls)?,
                backend: Backend::Dogpile {
                    name: "dogpile.cache.memcached",
                    servers: urls.clone(),
                    sha1: false,
                },
                holds_bytes: true,
            },
            Self {
                name: "dogpile.cache.pymemcache, three servers, sha1_mangle_key",
                rust: DynBackend::new(MapKeys::sha1(pymemcache(&urls)?)),
                backend: Backend::Dogpile {
                    name: "dogpile.cache.pymemcache",
                    servers: urls.clone(),
                    sha1: true,
                },
                holds_bytes: true,
            },
            Self {
                name: "oslo_cache.memcache_pool, three servers",
                rust: DynBackend::new(MapKeys::sha1(memcached(&urls)?)),
                backend: Backend::OsloMemcachePool { servers: urls },
                holds_bytes: true,
            },
            Self {
                name: "oslo_cache.memcache_pool, three servers, one of them dead",
                rust: DynBackend::new(MapKeys::sha1(memcached(&one_dead)?)),
                backend: Backend::OsloMemcachePool { servers: one_dead },
                holds_bytes: true,
            },
            Self {
                name: "oslo_cache.etcd3gw",
                rust: DynBackend::new(MapKeys::sha1(etcd_json(&etcd)?)),
                backend: Backend::OsloEtcd { endpoint: etcd },
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
        let name = format!("{} {format:?} {ttl:?}", self.name);
        let region = self.backend.region(python, name, format, ttl)?;
        Ok((rust, region))
    }
}

impl Backend {
    fn region<'a>(
        &self,
        python: &'a Python,
        name: String,
        format: Format,
        ttl: Option<Duration>,
    ) -> Result<Region<'a>> {
        let ttl = ttl.map(|ttl| ttl.as_secs());
        let format = match format {
            Format::Json => "json",
            Format::Bytes => "bytes",
        };
        let request = match self {
            Self::Dogpile {
                name: backend,
                servers,
                sha1,
            } => {
                let mut arguments = json!({ "url": servers });
                if let Some(ttl) = ttl {
                    arguments["memcached_expire_time"] = ttl.into();
                }
                json!({"do": "dogpile_region", "name": name, "backend": backend,
                    "arguments": arguments, "sha1": sha1, "format": format})
            }
            Self::OsloMemcachePool { servers } => {
                let mut options = oslo_memcache_pool(servers);
                if let Some(ttl) = ttl {
                    // Oslo refuses a lifetime on the server that is the shorter one.
                    options["expiration_time"] = ttl.into();
                    options["backend_expiration_time"] = ttl.into();
                }
                json!({"do": "oslo_region", "name": name, "options": options, "format": format})
            }
            Self::OsloEtcd { endpoint } => {
                let options = oslo_etcd(endpoint, ttl.unwrap_or(LONG))?;
                json!({"do": "oslo_region", "name": name, "options": options, "format": "native"})
            }
        };
        python.ask(&request)?;
        Ok(Region { python, name })
    }
}

/// The section `[cache]` of a service that uses the pool.
fn oslo_memcache_pool(servers: &[String]) -> Value {
    json!({
        "enabled": true,
        "backend": "oslo_cache.memcache_pool",
        "memcache_servers": servers,
        "memcache_dead_retry": 3600,
        "memcache_pool_maxsize": 4,
    })
}

/// The section `[cache]` of a service that uses etcd; `timeout` is the lifetime of its values.
pub(crate) fn oslo_etcd(endpoint: &str, timeout: u64) -> Result<Value> {
    let (host, port) = endpoint.split_once(':').context("no port")?;
    Ok(json!({
        "enabled": true,
        "backend": "oslo_cache.etcd3gw",
        "backend_argument": [
            format!("host:{host}"), format!("port:{port}"), format!("timeout:{timeout}"),
        ],
    }))
}

/// The pool with the routing of python-memcached.
pub(crate) fn memcached(urls: &[String]) -> Result<DynBackend<Vec<u8>>> {
    let pool = MemcachePoolBackend::builder()
        .url(urls)
        .routing(Routing::PythonMemcached);
    Ok(DynBackend::new(pool.build()?))
}

/// The pool with the routing of pymemcache.
pub(crate) fn pymemcache(urls: &[String]) -> Result<DynBackend<Vec<u8>>> {
    let servers = urls.to_vec();
    let pool = MemcachePoolBackend::builder()
        .url(urls)
        .routing_with(move |key, is_up| server_of(key, &servers, is_up));
    Ok(DynBackend::new(pool.build()?))
}

/// etcd as oslo.cache uses it.
pub(crate) fn etcd_json(endpoint: &str) -> Result<DynBackend<Vec<u8>>> {
    let etcd = Etcd3Backend::builder()
        .endpoints([endpoint])
        .stored_format(StoredFormat::PythonJson);
    Ok(DynBackend::new(etcd.build()?))
}

/// etcd with the envelope.
pub(crate) fn etcd(endpoint: &str) -> Result<DynBackend<Vec<u8>>> {
    let etcd = Etcd3Backend::builder().endpoints([endpoint]);
    Ok(DynBackend::new(etcd.build()?))
}
