//! What the matrix does not show: values that cannot be shared, metadata, and READMEs.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use cache_core::{CacheBackend as _, CachedValue, DynBackend, ErrorKind, MapKeys};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::python::Python;
use crate::settings::{Servers, etcd, etcd_json, memcached, oslo_etcd, pymemcache};
use crate::sides::Region;
use crate::{pages, vectors, walk};

/// A sentence that has to be true, and what proves it.
type Check = (&'static str, fn(&Context<'_>) -> Result<()>);

pub(crate) const CHECKS: &[Check] = &[
    (
        "what Python pickled is refused in Rust, with the cure",
        pickled,
    ),
    (
        "what Python compressed is read in Rust, unless it was pickled before",
        compressed,
    ),
    (
        "the envelope and oslo.cache's JSON in etcd are refused by each other's readers",
        two_formats_in_etcd,
    ),
    (
        "expiration_time of a region counts from when Rust cached the value",
        expiration_time,
    ),
    (
        "get_or_create takes what Rust wrote, and Rust what it created",
        get_or_create,
    ),
    (
        "the packages store the vectors that the crates are tested with",
        vectors::are_what_is_stored,
    ),
    (
        "the Python lines of the READMEs share a cache with Rust",
        pages::readmes_work,
    ),
    (
        "a service migrates as MIGRATING.md says",
        walk::is_as_the_page_says,
    ),
];

/// What a check works with.
pub(crate) struct Context<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) runtime: &'a Runtime,
    pub(crate) python: &'a Python,
}

impl Context<'_> {
    /// A region of `dogpile.cache.memcached` over the three servers.
    pub(crate) fn memcached_region(&self, name: &str, format: &str) -> Result<Region<'_>> {
        self.dogpile_region(name, "dogpile.cache.memcached", format, json!({}))
    }

    /// A region of dogpile.cache over the three servers.
    fn dogpile_region(
        &self,
        name: &str,
        backend: &str,
        format: &str,
        mut arguments: Value,
    ) -> Result<Region<'_>> {
        arguments["url"] = json!(self.servers.urls());
        let request = json!({"do": "dogpile_region", "backend": backend, "format": format,
            "arguments": arguments});
        Region::make(self.python, name.to_owned(), request)
    }

    pub(crate) fn etcd_region(&self, name: &str) -> Result<Region<'_>> {
        let request = oslo_etcd(&self.servers.etcd(), Duration::from_secs(3600));
        Region::make(self.python, name.to_owned(), request)
    }

    pub(crate) fn set(
        &self,
        cache: &DynBackend<Vec<u8>>,
        key: &str,
        value: CachedValue<Vec<u8>>,
    ) -> Result<()> {
        Ok(self.runtime.block_on(cache.set(key, value))?)
    }

    pub(crate) fn get(
        &self,
        cache: &DynBackend<Vec<u8>>,
        key: &str,
    ) -> Result<CachedValue<Vec<u8>>> {
        let found = self.runtime.block_on(cache.get(key))?;
        found.with_context(|| format!("Rust misses {key}"))
    }

    /// Rust refuses to read `bad`, alone and between others, and says all of `words`.
    fn refuses(&self, cache: &DynBackend<Vec<u8>>, bad: &str, words: &[&str]) -> Result<()> {
        let alone = self.runtime.block_on(cache.get(bad)).err();
        let among = self.runtime.block_on(cache.get_multi(&["not-there", bad]));
        let among = among.into_iter().find_map(Result::err);
        for error in [alone, among] {
            let error = error.with_context(|| format!("Rust takes {bad} for a value"))?;
            ensure!(error.kind() == ErrorKind::Decode, "{bad}: {error}");
            ensure!(
                error.keys() == [bad],
                "the error names {:?}: {error}",
                error.keys()
            );
            for word in words {
                ensure!(
                    error.to_string().contains(word),
                    "{bad}: {error}: nothing of {word}"
                );
            }
        }
        Ok(())
    }
}

fn pickled(context: &Context<'_>) -> Result<()> {
    let urls = context.servers.urls();
    for (backend, cache) in [
        ("dogpile.cache.memcached", memcached(&urls)?),
        ("dogpile.cache.pymemcache", pymemcache(&urls)?),
    ] {
        let name = format!("pickled by {backend}");
        let region = context.dogpile_region(&name, backend, "native", json!({}))?;
        let payloads = [json!({"a": 1}), json!("text|bar"), json!(null)];
        for (number, payload) in payloads.iter().enumerate() {
            let key = format!("pickled/{backend}/{number}");
            region.ask("set", json!({"key": key, "payload": payload}))?;
            context.refuses(&cache, &key, &["pickled", "serializer", "json.dumps"])?;
        }
    }
    Ok(())
}

fn compressed(context: &Context<'_>) -> Result<()> {
    let cache = memcached(&context.servers.urls())?;
    let region = |format| {
        context.dogpile_region(
            &format!("compressed {format}"),
            "dogpile.cache.memcached",
            format,
            json!({"min_compress_len": 10}),
        )
    };
    let payload = "x".repeat(1000);
    let request = json!({"key": "compressed", "payload": payload});
    region("json")?.ask("set", request.clone())?;
    let found = context.get(&cache, "compressed")?;
    ensure!(
        *found.payload() == serde_json::to_vec(&payload)?,
        "Rust found {found:?}"
    );
    region("native")?.ask("set", request)?;
    context.refuses(&cache, "compressed", &["pickled", "serializer"])
}

fn two_formats_in_etcd(context: &Context<'_>) -> Result<()> {
    let endpoint = context.servers.etcd();
    let envelopes = DynBackend::new(MapKeys::sha1(etcd(&endpoint)?));
    let arrays = DynBackend::new(MapKeys::sha1(etcd_json(&endpoint)?));
    let region = context.etcd_region("two formats")?;

    context.set(
        &envelopes,
        "two/rust",
        CachedValue::new(b"\"text\"".to_vec()),
    )?;
    let Err(error) = region.ask("get", json!({"key": "two/rust"})) else {
        bail!("oslo.cache takes the envelope for its own JSON");
    };
    ensure!(error.to_string().contains("JSONDecodeError"), "{error:#}");
    context.refuses(&arrays, "two/rust", &[])?;

    region.ask("set", json!({"key": "two/python", "payload": "text"}))?;
    context.refuses(&envelopes, "two/python", &["JSON array", "configure"])
}

fn expiration_time(context: &Context<'_>) -> Result<()> {
    let cache = memcached(&context.servers.urls())?;
    let region = context.memcached_region("expiration_time", "json")?;
    let now = SystemTime::now();
    for (key, age, limit, is_there) in [
        ("young", 0, 1800, true),
        ("old", 3600, 7200, true),
        ("too-old", 3600, 1800, false),
    ] {
        let cached_at = now - Duration::from_secs(age);
        let value = CachedValue::new(b"1".to_vec()).with_cached_at(cached_at);
        context.set(&cache, key, value)?;
        let found = region.ask("get", json!({"key": key, "expiration_time": limit}))?;
        ensure!(found.is_null() != is_there, "{key}: Python found {found}");
    }
    Ok(())
}

fn get_or_create(context: &Context<'_>) -> Result<()> {
    let cache = memcached(&context.servers.urls())?;
    let region = context.memcached_region("get_or_create", "json")?;
    context.set(&cache, "written", CachedValue::new(b"\"by Rust\"".to_vec()))?;
    let created = |key| region.ask("get_or_create", json!({"key": key, "payload": "by Python"}));
    let found = created("written")?;
    ensure!(found == "by Rust", "Python created {found}");
    created("created")?;
    let found = context.get(&cache, "created")?;
    ensure!(
        found.payload() == b"\"by Python\"",
        "Rust found {:?}",
        found.payload()
    );
    Ok(())
}
