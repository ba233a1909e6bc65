//! Performs the migration of a service step by step, as described in `MIGRATING.md`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use cache_core::{CacheBackendExt as _, CachedValue, DynBackend, ErrorKind, Json};
use cache_memcache_pool::{MemcachePoolBackend, PythonClient, Routing};
use serde_json::json;
use test_servers::Memcached;

use crate::context::Context;
use crate::recipe::{Recipe, blocks};
use crate::sides::{Region, Side, value_of};

const PAGE: &str = include_str!("../MIGRATING.md");
const SOURCE: &str = include_str!("walk.rs");

/// Enough keys for each server to get some.
const KEYS: usize = 12;

fn on_the_same_keys(servers: &[String]) -> cache_core::Result<DynBackend<Vec<String>>> {
    let pool = MemcachePoolBackend::builder()
        .url(servers)
        .routing(Routing::PythonMemcached)
        .build()?;
    Ok(pool.sha1_keys().typed(Json).into_dyn())
}

fn on_the_new_keys(servers: &[String]) -> cache_core::Result<DynBackend<Vec<String>>> {
    let pool = MemcachePoolBackend::builder()
        .url(servers)
        .routing(Routing::PythonMemcached)
        .build()?;
    Ok(pool.sha1_keys().namespace("2").typed(Json).into_dyn())
}

fn over_tls(server: &str, authority: PathBuf) -> cache_core::Result<DynBackend<Vec<String>>> {
    let pool = MemcachePoolBackend::builder()
        .url([server])
        .python_client(PythonClient::Bmemcached)
        .min_compress_len(128)
        .tls_enabled(true)
        .tls_cafile(authority)
        .build()?;
    Ok(pool.sha1_keys().namespace("2").typed(Json).into_dyn())
}

pub(crate) fn is_as_the_page_says(context: &Context) -> Result<()> {
    for block in blocks(PAGE, "rust") {
        ensure!(
            SOURCE.contains(block),
            "the page has Rust code that differs from the code run here:\n{block}"
        );
    }
    let (configurations, python) = (blocks(PAGE, "ini"), blocks(PAGE, "python"));
    let ([farm, tls], [pickles, shares]) = (&*configurations, &*python) else {
        bail!("the page does not have the expected configurations and Python examples");
    };
    let urls = context.servers.urls();
    let pickles = Recipe::new(pickles, farm).on_farm(&urls)?;
    as_it_is(
        &context.region(&pickles)?,
        &on_the_same_keys(&urls)?.blocking()?,
    )?;
    let farm = context.region(&Recipe::new(shares, farm).on_farm(&urls)?)?;
    both_read_and_write(&farm, &on_the_new_keys(&urls)?.blocking()?).context("step 3")?;

    let server = Memcached::builder().tls().start()?;
    let certificate = server.certificate();
    let secured = Recipe::new(shares, tls)
        .with("10.0.0.1:11211", &server.url())?
        .with("/etc/ssl/cache.pem", &certificate.to_string_lossy())?;
    let cache = over_tls(&server.url(), certificate)?.blocking()?;
    both_read_and_write(&context.region(&secured)?, &cache).context("step 4")
}

/// Checks that neither side reads what the other wrote, and that both report an error.
fn as_it_is(region: &Region, cache: &Side<Vec<String>>) -> Result<()> {
    region.ask("set", json!({"key": "walk", "payload": ["by Python"]}))?;
    let Err(error) = cache.get("walk") else {
        bail!("Rust reads what Python pickled");
    };
    ensure!(error.kind() == ErrorKind::Decode, "{error}");
    let page = PAGE.replace("\n> ", " ");
    ensure!(
        page.contains(error.message()),
        "the page does not have the message {error}"
    );

    let value = CachedValue::new(vec!["by Rust".to_owned()]);
    cache.set("walk", value)?;
    let Err(error) = region.ask("get", json!({"key": "walk"})) else {
        bail!("a region that pickles reads what Rust wrote");
    };
    ensure!(error.to_string().contains("AttributeError"), "{error:#}");
    Ok(())
}

fn both_read_and_write(region: &Region, cache: &Side<Vec<String>>) -> Result<()> {
    for number in 0..KEYS {
        let key = format!("page/{number}");
        // Some small, some large enough to be compressed.
        let payload = vec!["by Rust".to_owned(); 1 + number * number];
        let value = CachedValue::new(payload.clone());
        cache.set(&key, value)?;
        let found = region.ask("get", json!({"key": key}))?;
        ensure!(
            found["payload"] == json!(payload),
            "Python found {found} at {key}"
        );

        let payload = vec!["by Python".to_owned(); 1 + number * number];
        region.ask("set", json!({"key": key, "payload": payload}))?;
        let found = value_of(cache, &key)?.into_payload();
        ensure!(found == payload, "Rust found {found:?} at {key}");

        region.ask("delete", json!({"key": key}))?;
        let found = cache.get(&key)?;
        ensure!(found.is_none(), "Python deleted {key}, and Rust finds it");
    }
    Ok(())
}
