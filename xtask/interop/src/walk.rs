//! The walk of a migrating service, step by step as `MIGRATING.md` has it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use cache_core::{
    CacheBackend as _, CacheBackendExt as _, CachedValue, DynBackend, ErrorKind, Json,
};
use cache_memcache_pool::{MemcachePoolBackend, PythonClient, Routing};
use serde_json::json;
use test_servers::Memcached;

use crate::checks::Context;
use crate::pages::{blocks, both_read_and_write, on_farm, region, replaced};
use crate::sides::Region;

const PAGE: &str = include_str!("../MIGRATING.md");
const SOURCE: &str = include_str!("walk.rs");

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

pub(crate) fn is_as_the_page_says(context: &Context<'_>) -> Result<()> {
    for block in blocks(PAGE, "rust") {
        ensure!(
            SOURCE.contains(block),
            "the page has other Rust than is run:\n{block}"
        );
    }
    let (configurations, python) = (blocks(PAGE, "ini"), blocks(PAGE, "python"));
    let ([farm, tls], [pickles, shares]) = (&*configurations, &*python) else {
        bail!("the page has more or fewer configurations and lines of Python than are run");
    };
    let urls = context.servers.urls();
    let farm = on_farm(farm, &urls)?;
    as_it_is(context, &region(context, pickles, &farm)?, &urls)?;
    let farm = region(context, shares, &farm)?;
    both_read_and_write(context, &farm, &on_the_new_keys(&urls)?).context("step 3")?;

    let server = Memcached::builder().tls().start()?;
    let certificate = server.certificate();
    let tls = replaced(tls, "10.0.0.1:11211", &server.url())?;
    let tls = replaced(&tls, "/etc/ssl/cache.pem", &certificate.to_string_lossy())?;
    let secured = region(context, shares, &tls)?;
    let cache = over_tls(&server.url(), certificate)?;
    both_read_and_write(context, &secured, &cache).context("step 4")
}

/// Neither reads what the other wrote, and both say so.
fn as_it_is(context: &Context<'_>, region: &Region<'_>, urls: &[String]) -> Result<()> {
    let cache = on_the_same_keys(urls)?;
    region.ask("set", json!({"key": "walk", "payload": ["by Python"]}))?;
    let Err(error) = context.runtime.block_on(cache.get("walk")) else {
        bail!("Rust reads what Python pickled");
    };
    ensure!(error.kind() == ErrorKind::Decode, "{error}");
    let page = PAGE.replace("\n> ", " ");
    ensure!(
        page.contains(error.message()),
        "the page has another message than {error}"
    );

    let value = CachedValue::new(vec!["by Rust".to_owned()]);
    context.runtime.block_on(cache.set("walk", value))?;
    let Err(error) = region.ask("get", json!({"key": "walk"})) else {
        bail!("a region that pickles reads what Rust wrote");
    };
    ensure!(error.to_string().contains("AttributeError"), "{error:#}");
    Ok(())
}
