//! The lines of the READMEs that make a region in Python, run as they stand there.

use anyhow::{Context as _, Result, ensure};
use cache_core::{CachedValue, DynBackend, MapKeys};
use serde_json::json;

use crate::checks::Context;
use crate::settings::{etcd_json, memcached};
use crate::sides::Region;

const POOL: &str = include_str!("../../../cache-memcache-pool/README.md");
const ETCD: &str = include_str!("../../../cache-etcd3/README.md");

/// The Python lines of both READMEs, and Rust, find what the other one wrote.
pub(crate) fn lines_work(context: &Context<'_>) -> Result<()> {
    let urls = context.servers.urls();
    let etcd = context.servers.etcd();
    let pool = examples(POOL)?;
    ensure!(
        pool.len() == 2,
        "{} examples for memcached, not 2",
        pool.len()
    );
    for example in pool {
        let cache = memcached(&urls)?;
        // Oslo's regions mangle their keys, those of dogpile.cache do not.
        let cache = if example.ini.is_empty() {
            cache
        } else {
            DynBackend::new(MapKeys::sha1(cache))
        };
        let mut example = example;
        for (number, url) in (1..).zip(&urls) {
            example.replace(&format!("10.0.0.{number}:11211"), url)?;
        }
        example.shares(context, &cache)?;
    }
    let examples = examples(ETCD)?;
    ensure!(
        examples.len() == 1,
        "{} examples for etcd, not 1",
        examples.len()
    );
    for mut example in examples {
        let (host, port) = etcd.split_once(':').context("no port")?;
        example.replace("host:10.0.0.1", &format!("host:{host}"))?;
        example.replace("port:2379", &format!("port:{port}"))?;
        let cache = DynBackend::new(MapKeys::sha1(etcd_json(&etcd)?));
        example.shares(context, &cache)?;
    }
    Ok(())
}

/// One block of Python, and the configuration file that it reads, if there is one.
struct Example {
    lines: String,
    ini: String,
}

/// The examples of the section on Python.
fn examples(readme: &str) -> Result<Vec<Example>> {
    let (_, section) = readme
        .split_once("## Sharing a cache with Python\n")
        .context("the README says nothing about sharing a cache with Python")?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let mut ini = String::new();
    let mut examples = Vec::new();
    // Every second piece stands between two fences.
    for block in section.split("```").skip(1).step_by(2) {
        match block.split_once('\n') {
            Some(("ini", text)) => text.clone_into(&mut ini),
            Some(("python", lines)) => examples.push(Example {
                lines: lines.to_owned(),
                ini: std::mem::take(&mut ini),
            }),
            _ => {}
        }
    }
    Ok(examples)
}

impl Example {
    fn replace(&mut self, written: &str, real: &str) -> Result<()> {
        ensure!(
            self.lines.contains(written) || self.ini.contains(written),
            "the README's example has no {written}"
        );
        self.lines = self.lines.replace(written, real);
        self.ini = self.ini.replace(written, real);
        Ok(())
    }

    fn shares(&self, context: &Context<'_>, cache: &DynBackend<Vec<u8>>) -> Result<()> {
        let request = json!({"do": "readme_region", "lines": self.lines, "ini": self.ini});
        let region = Region::make(context.python, "README".to_owned(), request)?;
        for i in 0..12 {
            let payload = json!({ "number": i });
            let key = format!("readme/rust/{i}");
            context.set(cache, &key, CachedValue::new(serde_json::to_vec(&payload)?))?;
            let found = region.ask("get", json!({ "key": key }))?;
            ensure!(found["payload"] == payload, "Python found {found} at {key}");

            let key = format!("readme/python/{i}");
            region.ask("set", json!({ "key": key, "payload": payload }))?;
            let found = context.get(cache, &key)?;
            let found: serde_json::Value = serde_json::from_slice(found.payload())?;
            ensure!(found == payload, "Rust found {found} at {key}");
        }
        Ok(())
    }
}
