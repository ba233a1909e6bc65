//! What the matrix does not show: values that cannot be shared, metadata, and READMEs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use cache_core::{CacheBackend as _, CachedValue, DynBackend, ErrorKind, MapKeys};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::python::Python;
use crate::settings::{Servers, etcd, etcd_json, memcached, oslo_etcd, pymemcache};
use crate::sides::{Region, from_bytes, to_bytes};
use crate::{readme, vectors};

/// A sentence that has to be true, and what proves it.
type Check = (&'static str, fn(&Context<'_>) -> Result<()>);

pub(crate) const CHECKS: &[Check] = &[
    (
        "what Python pickled is refused in Rust, with the cure",
        pickled,
    ),
    (
        "a region that pickles refuses what Rust wrote",
        read_by_a_region_that_pickles,
    ),
    (
        "what Python compressed is refused in Rust, with the cure",
        compressed,
    ),
    (
        "what is no value of oslo.cache in etcd is refused in Rust",
        garbage_in_etcd,
    ),
    (
        "the envelope and oslo.cache's JSON in etcd are refused by each other's readers",
        two_formats_in_etcd,
    ),
    (
        "the deadline of a Rust value is one more field, which Python ignores",
        deadline_in_metadata,
    ),
    (
        "metadata that Rust does not know is stepped over",
        unknown_metadata,
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
        readme::lines_work,
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

fn read_by_a_region_that_pickles(context: &Context<'_>) -> Result<()> {
    let cache = memcached(&context.servers.urls())?;
    let region = context.memcached_region("pickles", "native")?;
    context.set(&cache, "for-pickles", CachedValue::new(b"1".to_vec()))?;
    let Err(error) = region.ask("get", json!({"key": "for-pickles"})) else {
        bail!("the region takes the envelope for a value");
    };
    ensure!(error.to_string().contains("AttributeError"), "{error:#}");
    Ok(())
}

fn compressed(context: &Context<'_>) -> Result<()> {
    let cache = memcached(&context.servers.urls())?;
    for format in ["json", "native"] {
        let region = context.dogpile_region(
            &format!("compressed {format}"),
            "dogpile.cache.memcached",
            format,
            json!({"min_compress_len": 10}),
        )?;
        let key = format!("compressed/{format}");
        region.ask("set", json!({"key": key, "payload": "x".repeat(1000)}))?;
        context.refuses(&cache, &key, &["compressed", "min_compress_len"])?;
    }
    Ok(())
}

fn garbage_in_etcd(context: &Context<'_>) -> Result<()> {
    let cache = DynBackend::new(MapKeys::sha1(etcd_json(&context.servers.etcd())?));
    let region = context.etcd_region("garbage")?;
    let pickle = b"\x80\x05\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01x\x94.";
    let all: [&[u8]; 11] = [
        b"",
        b"garbage",
        b"\"text\"",
        b"[\"no metadata\"]",
        b"[1, 2]",
        b"[1, {\"v\": 2}]",
        b"[1, {\"ct\": NaN, \"v\": 2}]",
        b"[NaN, {\"ct\": 1.5, \"v\": 2}]",
        b"[1, {\"ct\": 1.5, \"v\": 2}, 3]",
        b"[1, {\"ct\": 1.5, \"v\"",
        pickle,
    ];
    for (number, stored) in all.iter().enumerate() {
        let key = format!("garbage/{number}");
        region.ask(
            "set_stored",
            json!({"key": key, "stored": from_bytes(stored)}),
        )?;
        context.refuses(&cache, &key, &[])?;
    }
    Ok(())
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

fn deadline_in_metadata(context: &Context<'_>) -> Result<()> {
    let key = "deadline";
    for (cache, region) in [
        (
            memcached(&context.servers.urls())?,
            context.memcached_region("deadline", "json")?,
        ),
        (
            DynBackend::new(MapKeys::sha1(etcd_json(&context.servers.etcd())?)),
            context.etcd_region("deadline in etcd")?,
        ),
    ] {
        let value = CachedValue::new(b"7".to_vec()).with_ttl(Duration::from_secs(60));
        context.set(&cache, key, value)?;
        let stored = to_bytes(&region.ask("get_stored", json!({"key": key}))?)?;
        let stored = String::from_utf8_lossy(&stored);
        ensure!(stored.contains(", \"exp\": "), "no deadline in {stored}");
        let found = region.ask("get", json!({"key": key}))?;
        ensure!(found["payload"] == 7, "Python found {found} in {stored}");
    }
    Ok(())
}

fn unknown_metadata(context: &Context<'_>) -> Result<()> {
    let key = "metadata";
    let metadata = r#"{"by": ["me", {"x": null}], "v": 2, "ct": 1700000000.5}"#;
    let in_memcached = format!("{metadata}|\"text\"");
    let in_etcd = format!("[\"text\", {metadata}]");
    for (cache, region, stored) in [
        (
            memcached(&context.servers.urls())?,
            context.memcached_region("metadata", "json")?,
            in_memcached,
        ),
        (
            DynBackend::new(MapKeys::sha1(etcd_json(&context.servers.etcd())?)),
            context.etcd_region("metadata in etcd")?,
            in_etcd,
        ),
    ] {
        region.ask(
            "set_stored",
            json!({"key": key, "stored": from_bytes(stored.as_bytes())}),
        )?;
        let found = context.get(&cache, key)?;
        ensure!(
            found.payload() == b"\"text\"",
            "found {:?}",
            found.payload()
        );
        let cached_at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
        ensure!(
            found.cached_at() == cached_at,
            "cached at {:?}",
            found.cached_at()
        );
    }
    Ok(())
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
