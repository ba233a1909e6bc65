//! The pairs to compare: a Python region and a Rust backend on the same servers.

use std::time::Duration;

use anyhow::Result;
use cache_core::{CacheBackendExt as _, DynBackend};
use cache_etcd3::{Etcd3Backend, StoredFormat};
use cache_memcache_pool::{MemcachePoolBackend, Routing};

use crate::recipe::Recipe;
use crate::servers::Servers;
use crate::sides::{Format, Side};

/// A Python region and a Rust backend that share servers.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) rust: Side,
    recipe: Recipe,
    set_lifetime: fn(Recipe, u64) -> Result<Recipe>,
    /// Whether payloads may be arbitrary bytes, not only JSON.
    pub(crate) holds_bytes: bool,
}

impl Setting {
    /// All pairs that share a cache.
    pub(crate) fn all(servers: &Servers) -> Result<Vec<Self>> {
        let (urls, one_dead) = (servers.urls(), servers.urls_one_dead());
        let endpoint = servers.etcd();
        let pymemcache_region = Recipe::dogpile(&urls)?
            .with("dogpile.cache.memcached", "dogpile.cache.pymemcache")?
            .with(
                "import json\n",
                "import json\nfrom dogpile.cache.util import sha1_mangle_key\n",
            )?
            .with(
                "make_region(\n",
                "make_region(key_mangler=sha1_mangle_key,\n",
            )?;
        Ok(vec![
            Self {
                name: "dogpile.cache.memcached",
                rust: memcached(&urls)?.blocking()?,
                recipe: Recipe::dogpile(&urls)?,
                set_lifetime: of_dogpile,
                holds_bytes: true,
            },
            Self {
                name: "dogpile.cache.pymemcache, sha1_mangle_key",
                rust: pymemcache(&urls)?.sha1_keys().into_dyn().blocking()?,
                recipe: pymemcache_region,
                set_lifetime: of_dogpile,
                holds_bytes: true,
            },
            Self {
                name: "oslo_cache.memcache_pool",
                rust: memcached(&urls)?.sha1_keys().into_dyn().blocking()?,
                recipe: Recipe::oslo_pool(&urls)?,
                set_lifetime: of_oslo_pool,
                holds_bytes: true,
            },
            Self {
                name: "oslo_cache.memcache_pool, one server dead",
                rust: memcached(&one_dead)?.sha1_keys().into_dyn().blocking()?,
                recipe: Recipe::oslo_pool(&one_dead)?,
                set_lifetime: of_oslo_pool,
                holds_bytes: true,
            },
            Self {
                name: "oslo_cache.etcd3gw",
                rust: etcd_json(&endpoint)?.sha1_keys().into_dyn().blocking()?,
                recipe: Recipe::oslo_etcd(&endpoint)?,
                set_lifetime: |recipe, ttl| recipe.with("timeout:600", &format!("timeout:{ttl}")),
                holds_bytes: false,
            },
        ])
    }

    /// The recipe of the region, with `ttl` as the lifetime of its values, if any.
    pub(crate) fn recipe(&self, format: Format, ttl: Option<Duration>) -> Result<Recipe> {
        let mut recipe = self.recipe.clone();
        if format == Format::Bytes && self.holds_bytes {
            recipe = recipe.of_bytes()?;
        }
        match ttl {
            Some(ttl) => (self.set_lifetime)(recipe, ttl.as_secs()),
            None => Ok(recipe),
        }
    }
}

fn of_dogpile(recipe: Recipe, ttl: u64) -> Result<Recipe> {
    recipe.with_argument(&format!("\"memcached_expire_time\": {ttl}"))
}

/// oslo.cache refuses a lifetime on the server that is shorter than the region's.
fn of_oslo_pool(recipe: Recipe, ttl: u64) -> Result<Recipe> {
    let lifetimes = format!("[cache]\nexpiration_time = {ttl}\nbackend_expiration_time = {ttl}\n");
    recipe.with("[cache]\n", &lifetimes)
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

/// The etcd backend with oslo.cache's format.
pub(crate) fn etcd_json(endpoint: &str) -> Result<DynBackend<Vec<u8>>> {
    let etcd = Etcd3Backend::builder().endpoints([endpoint]);
    let etcd = etcd.stored_format(StoredFormat::PythonJson);
    Ok(etcd.build()?.into_dyn())
}

/// The etcd backend with the envelope.
pub(crate) fn etcd(endpoint: &str) -> Result<DynBackend<Vec<u8>>> {
    let etcd = Etcd3Backend::builder().endpoints([endpoint]);
    Ok(etcd.build()?.into_dyn())
}
