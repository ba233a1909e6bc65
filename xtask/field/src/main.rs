//! The conformance suite over other people's caches: `cargo xtask conformance field`.
//!
//! ```text
//! field [--runs N]     all of them, N times (5), and the page
//! field moka           only this one, with the whole report
//! ```

mod entry;
mod in_process;
mod over_wire;
mod page;
mod servers;

use std::marker::PhantomData;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use cache_conformance::Suite;
use test_servers::Memcached;

use entry::Entry;
use in_process::{Map, Opens};
use over_wire::{Client, OnServer};

const NO_SERVER: &str = "lives in this process";
const NO_LIMIT: &str = "takes keys and values of any length";

fn in_process<M: Map>(name: &str) -> Suite {
    Suite::new(Opens::<M>(PhantomData))
        .name(name)
        .waive("faults", NO_SERVER)
        .waive("limits", NO_LIMIT)
}

fn over_wire<C: Client>(name: &str, address: &str) -> Suite {
    let client = PhantomData;
    let address = address.to_owned();
    let suite = Suite::new(OnServer::<C> { address, client }).name(name);
    match C::MAX_KEY.or(C::MAX_VALUE) {
        None => suite.waive("limits", NO_LIMIT),
        Some(_) => suite,
    }
}

fn main() -> Result<()> {
    let redis = servers::Redis::start()?;
    let memcached = Memcached::start()?;
    let memcached = memcached.url();
    let suites = [
        (
            "moka",
            "moka",
            in_process::<moka::sync::Cache<String, Entry>>("moka"),
        ),
        (
            "mini-moka",
            "mini-moka",
            in_process::<mini_moka::sync::Cache<String, Entry>>("mini-moka"),
        ),
        (
            "quick_cache",
            "quick_cache",
            in_process::<Arc<quick_cache::sync::Cache<String, Entry>>>("quick_cache"),
        ),
        (
            "foyer-memory",
            "foyer-memory",
            in_process::<foyer_memory::Cache<String, Entry>>("foyer-memory"),
        ),
        (
            "cached",
            "cached",
            in_process::<in_process::cached::Expiring>("cached"),
        ),
        (
            "papaya",
            "papaya",
            in_process::<Arc<papaya::HashMap<String, Entry>>>("papaya"),
        ),
        (
            "stretto",
            "stretto",
            in_process::<stretto::Cache<String, Entry>>("stretto"),
        ),
        (
            "memcache-exp",
            "memcache",
            over_wire::<Arc<memcache::exp::AsyncMetaClient>>("memcache::exp", &memcached),
        ),
        (
            "memcache",
            "memcache",
            over_wire::<over_wire::memcache::Legacy>("memcache", &memcached),
        ),
        (
            "async-memcached",
            "async-memcached",
            over_wire::<over_wire::async_memcached::Single>("async-memcached", &memcached),
        ),
        (
            "redis",
            "redis",
            over_wire::<redis::aio::ConnectionManager>("redis", &redis.address),
        ),
        (
            "fred",
            "fred",
            over_wire::<fred::clients::Client>("fred", &redis.address),
        ),
        (
            "opendal-redis",
            "opendal",
            over_wire::<over_wire::opendal::Redis>("opendal redis", &redis.address),
        ),
        (
            "opendal-memcached",
            "opendal",
            over_wire::<over_wire::opendal::Memcached>("opendal memcached", &memcached),
        ),
    ];
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runs = match arguments.as_slice() {
        [] => 5,
        [option, runs] if option == "--runs" => runs.parse().context("--runs takes a number")?,
        [only] => {
            let suite = suites.iter().find(|(name, ..)| name == only);
            let (.., suite) = suite.with_context(|| format!("there is no adapter {only}"))?;
            println!("{}", suite.run());
            return Ok(());
        }
        _ => bail!("`field`, `field --runs N` or `field NAME`"),
    };
    let mut rows = Vec::new();
    for (name, package, suite) in &suites {
        let mut reports = Vec::new();
        for run in 1..=runs {
            let report = suite.run();
            println!(
                "{name}, run {run}: {} kept, ok: {}",
                report.passed(),
                report.is_ok()
            );
            reports.push(report);
        }
        rows.push(page::Row { package, reports });
    }
    let date = Command::new("date").arg("+%F").output()?;
    let date = String::from_utf8(date.stdout)?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    page::write(&file, &rows, runs, date.trim())?;
    println!("{}", file.display());
    Ok(())
}
