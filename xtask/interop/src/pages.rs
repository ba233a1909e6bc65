//! Pages whose lines are run as they are written.

use anyhow::{Context as _, Result, bail, ensure};
use cache_core::{CacheBackend as _, CacheBackendExt as _, CachedValue, DynBackend, Json};
use serde_json::json;

use crate::checks::Context;
use crate::settings::{etcd_json, memcached};
use crate::sides::Region;

const POOL: &str = include_str!("../../../cache-memcache-pool/README.md");
const ETCD: &str = include_str!("../../../cache-etcd3/README.md");

/// How many keys are tried: some for each server.
const KEYS: usize = 12;

/// The blocks of a page in one language.
pub(crate) fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    // Every second piece is between two fences.
    let blocks = page.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.split_once('\n'));
    blocks
        .filter(|(name, _)| *name == language)
        .map(|(_, text)| text)
        .collect()
}

pub(crate) fn replaced(text: &str, written: &str, real: &str) -> Result<String> {
    ensure!(text.contains(written), "the page has no {written}");
    Ok(text.replace(written, real))
}

/// The text with the real addresses of the three servers.
pub(crate) fn on_farm(text: &str, urls: &[String]) -> Result<String> {
    let mut text = text.to_owned();
    for (number, url) in (1..).zip(urls) {
        text = replaced(&text, &format!("10.0.0.{number}:11211"), url)?;
    }
    Ok(text)
}

/// The region that lines of Python make, in a service with this configuration file.
pub(crate) fn region<'a>(context: &Context<'a>, lines: &str, ini: &str) -> Result<Region<'a>> {
    let request = json!({"do": "readme_region", "lines": lines, "ini": ini});
    Region::make(context.python, "page".to_owned(), request)
}

/// The Python lines of both READMEs, and Rust, find what the other one wrote.
pub(crate) fn readmes_work(context: &Context<'_>) -> Result<()> {
    let section = |readme: &'static str| {
        let (_, section) = readme
            .split_once("## Sharing a cache with Python\n")
            .context("the README says nothing about sharing a cache with Python")?;
        anyhow::Ok(section.split("\n## ").next().unwrap_or(section))
    };
    let pool = section(POOL)?;
    let ([ini], [dogpile, oslo]) = (&*blocks(pool, "ini"), &*blocks(pool, "python")) else {
        bail!("the README for memcached has other examples than are run");
    };
    let urls = context.servers.urls();
    let by_dogpile = region(context, &on_farm(dogpile, &urls)?, "")?;
    let cache = memcached(&urls)?.typed(Json).into_dyn();
    both_read_and_write(context, &by_dogpile, &cache)?;

    let by_oslo = region(context, oslo, &on_farm(ini, &urls)?)?;
    let cache = memcached(&urls)?.sha1_keys().typed(Json).into_dyn();
    both_read_and_write(context, &by_oslo, &cache)?;

    let page = section(ETCD)?;
    let ([ini], [lines]) = (&*blocks(page, "ini"), &*blocks(page, "python")) else {
        bail!("the README for etcd has other examples than are run");
    };
    let etcd = context.servers.etcd();
    let (host, port) = etcd.split_once(':').context("no port")?;
    let ini = replaced(ini, "host:10.0.0.1", &format!("host:{host}"))?;
    let ini = replaced(&ini, "port:2379", &format!("port:{port}"))?;
    let cache = etcd_json(&etcd)?.sha1_keys().typed(Json).into_dyn();
    both_read_and_write(context, &region(context, lines, &ini)?, &cache)
}

pub(crate) fn both_read_and_write(
    context: &Context<'_>,
    region: &Region<'_>,
    cache: &DynBackend<Vec<String>>,
) -> Result<()> {
    for number in 0..KEYS {
        let key = format!("page/{number}");
        // Some small, some so large that they are compressed where anything is.
        let payload = vec!["by Rust".to_owned(); 1 + number * number];
        let value = CachedValue::new(payload.clone());
        context.runtime.block_on(cache.set(&key, value))?;
        let found = region.ask("get", json!({"key": key}))?;
        ensure!(
            found["payload"] == json!(payload),
            "Python found {found} at {key}"
        );

        let payload = vec!["by Python".to_owned(); 1 + number * number];
        region.ask("set", json!({"key": key, "payload": payload}))?;
        let found = context.runtime.block_on(cache.get(&key))?;
        let found = found.map(CachedValue::into_payload);
        ensure!(
            found.as_ref() == Some(&payload),
            "Rust found {found:?} at {key}"
        );

        region.ask("delete", json!({"key": key}))?;
        let found = context.runtime.block_on(cache.get(&key))?;
        ensure!(found.is_none(), "Python deleted {key}, and Rust finds it");
    }
    Ok(())
}
