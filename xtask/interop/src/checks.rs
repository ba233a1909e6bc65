//! Checks that the matrix does not cover: values that cannot be shared, and the age of values.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use cache_core::{CacheBackendExt as _, CachedValue, ErrorKind};
use serde_json::json;

use crate::context::Context;
use crate::recipe::Recipe;
use crate::settings::{etcd, etcd_json, memcached, pymemcache};
use crate::sides::{Side, value_of};

/// Checks that Rust refuses to read `bad`, alone and among other keys, and that the error contains
/// all of `words`.
fn refuses(cache: &Side, bad: &str, words: &[&str]) -> Result<()> {
    let alone = cache.get(bad).err();
    let among = cache.get_multi(&["not-there", bad]);
    let among = among.into_iter().find_map(Result::err);
    for error in [alone, among] {
        let error = error.with_context(|| format!("Rust accepts {bad} as a value"))?;
        ensure!(error.kind() == ErrorKind::Decode, "{bad}: {error}");
        ensure!(
            error.keys() == [bad],
            "the error names {:?}: {error}",
            error.keys()
        );
        for word in words {
            ensure!(
                error.to_string().contains(word),
                "{bad}: {error}: does not mention {word}"
            );
        }
    }
    Ok(())
}

pub(crate) fn pickled(context: &Context) -> Result<()> {
    let urls = context.servers.urls();
    let memcached_name = "dogpile.cache.memcached";
    for (backend, cache) in [
        (memcached_name, memcached(&urls)?.blocking()?),
        ("dogpile.cache.pymemcache", pymemcache(&urls)?.blocking()?),
    ] {
        let recipe = Recipe::dogpile(&urls)?.with(memcached_name, backend)?;
        let region = context.region(&recipe.pickling()?)?;
        let payloads = [json!({"a": 1}), json!("text|bar"), json!(null)];
        for (number, payload) in payloads.iter().enumerate() {
            let key = format!("pickled/{backend}/{number}");
            region.ask("set", json!({"key": key, "payload": payload}))?;
            refuses(&cache, &key, &["pickled", "serializer", "json.dumps"])?;
        }
    }
    Ok(())
}

pub(crate) fn compressed(context: &Context) -> Result<()> {
    let urls = context.servers.urls();
    let cache = memcached(&urls)?.blocking()?;
    let recipe = Recipe::dogpile(&urls)?.with_argument("\"min_compress_len\": 10")?;
    let payload = "x".repeat(1000);
    let request = json!({"key": "compressed", "payload": payload});
    context.region(&recipe)?.ask("set", request.clone())?;
    let found = value_of(&cache, "compressed")?;
    ensure!(
        *found.payload() == serde_json::to_vec(&payload)?,
        "Rust found {found:?}"
    );
    let pickles = context.region(&recipe.pickling()?)?;
    pickles.ask("set", request)?;
    refuses(&cache, "compressed", &["pickled", "serializer"])
}

pub(crate) fn two_formats_in_etcd(context: &Context) -> Result<()> {
    let endpoint = context.servers.etcd();
    let envelopes = etcd(&endpoint)?.sha1_keys().into_dyn().blocking()?;
    let arrays = etcd_json(&endpoint)?.sha1_keys().into_dyn().blocking()?;
    let region = context.region(&Recipe::oslo_etcd(&endpoint)?)?;

    envelopes.set("two/rust", CachedValue::new(b"\"text\"".to_vec()))?;
    let Err(error) = region.ask("get", json!({"key": "two/rust"})) else {
        bail!("oslo.cache accepts the envelope as its own JSON");
    };
    ensure!(error.to_string().contains("JSONDecodeError"), "{error:#}");
    refuses(&arrays, "two/rust", &[])?;

    region.ask("set", json!({"key": "two/python", "payload": "text"}))?;
    refuses(&envelopes, "two/python", &["JSON array", "configure"])
}

pub(crate) fn expiration_time(context: &Context) -> Result<()> {
    let urls = context.servers.urls();
    let cache = memcached(&urls)?.blocking()?;
    let region = context.region(&Recipe::dogpile(&urls)?)?;
    let now = SystemTime::now();
    for (key, age, limit, is_there) in [
        ("young", 0, 1800, true),
        ("old", 3600, 7200, true),
        ("too-old", 3600, 1800, false),
    ] {
        let cached_at = now - Duration::from_secs(age);
        let value = CachedValue::new(b"1".to_vec()).with_cached_at(cached_at);
        cache.set(key, value)?;
        let found = region.ask("get", json!({"key": key, "expiration_time": limit}))?;
        ensure!(found.is_null() != is_there, "{key}: Python found {found}");
    }
    Ok(())
}

pub(crate) fn get_or_create(context: &Context) -> Result<()> {
    let urls = context.servers.urls();
    let cache = memcached(&urls)?.blocking()?;
    let region = context.region(&Recipe::dogpile(&urls)?)?;
    cache.set("written", CachedValue::new(b"\"by Rust\"".to_vec()))?;
    let created = |key| region.ask("get_or_create", json!({"key": key, "payload": "by Python"}));
    let found = created("written")?;
    ensure!(found == "by Rust", "Python created {found}");
    created("created")?;
    let found = value_of(&cache, "created")?;
    ensure!(
        found.payload() == b"\"by Python\"",
        "Rust found {:?}",
        found.payload()
    );
    Ok(())
}
