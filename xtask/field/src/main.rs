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

use std::marker::PhantomData;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use cache_conformance::{Rule, Server, Suite};
use opendal::services;
use test_servers::{Etcd, Memcached};

use entry::Entry;
use in_process::{Map, Opens};
use over_wire::hitbox::Hitbox;
use over_wire::opendal::OpenDal;
use over_wire::{Client, OnServer};

const NO_SERVER: &str = "lives in this process";
const NO_LIMIT: &str = "takes keys and values of any length";

/// The crate and what is tested of it, as in `opendal redis`, and how.
type Entrant = (&'static str, Suite);

fn in_process<M: Map>(name: &'static str) -> Entrant {
    let suite = Suite::new(Opens::<M>(PhantomData)).name(name);
    let suite = suite.waive("faults", NO_SERVER).waive("limits", NO_LIMIT);
    (name, suite)
}

/// `address`: of its server, if it has one.
fn over_wire<C: Client>(name: &'static str, address: &Option<String>) -> Entrant {
    let client = PhantomData;
    let address = address.clone();
    let is_local = address.is_none();
    let mut suite = Suite::new(OnServer::<C> { address, client }).name(name);
    if is_local {
        suite = suite.waive("faults", NO_SERVER);
    }
    if C::MAX_KEY.or(C::MAX_VALUE).is_none() {
        suite = suite.waive("limits", NO_LIMIT);
    }
    (name, suite)
}

fn memcache(address: &Option<String>) -> Entrant {
    let (name, suite) = over_wire::<over_wire::memcache::Legacy>("memcache", address);
    // While answers are broken it reconnects without a pause, until no suite here can open a file.
    let all = cache_conformance::rules().iter().map(Rule::id);
    let harmless = all.filter(|id| {
        !["garbage", "half", "broken"]
            .iter()
            .any(|word| id.contains(word))
    });
    (name, harmless.fold(suite, Suite::only))
}

fn opendal_etcd(address: &Option<String>) -> Entrant {
    let (name, suite) = over_wire::<OpenDal<services::Etcd>>("opendal etcd", address);
    let slow = "one by one, and each after a check of the connection, thousands take a minute";
    (name, suite.waive("multi::thousands_of_keys_in_one_call", slow))
}

fn opendal_memcached(address: &Option<String>) -> Entrant {
    let (name, suite) = over_wire::<OpenDal<services::Memcached>>("opendal memcached", address);
    // A call takes 40 to 90 ms, since requests are written in pieces without TCP_NODELAY.
    let groups = ["basic", "errors", "faults", "keys", "limits", "metadata"];
    let dropped =
        ["get", "set", "delete"].map(|call| format!("cancellation::{call}_may_be_dropped"));
    let suite = groups.into_iter().fold(suite, Suite::only);
    (name, dropped.into_iter().fold(suite, Suite::only))
}

fn main() -> Result<()> {
    let redis = Server::start(|port| {
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--port", &port.to_string()]);
        command
    })?;
    let (memcached, etcd) = (Memcached::start()?, Etcd::start()?);
    let redis = Some(redis.address().to_string());
    let memcached = Some(memcached.url());
    let etcd = Some(etcd.endpoint().trim_start_matches("http://").to_owned());
    // A suite remembers which calls hang, so each round has suites of its own.
    let entrants = || {
        [
            in_process::<moka::sync::Cache<String, Entry>>("moka"),
            in_process::<mini_moka::sync::Cache<String, Entry>>("mini-moka"),
            in_process::<Arc<quick_cache::sync::Cache<String, Entry>>>("quick_cache"),
            in_process::<foyer_memory::Cache<String, Entry>>("foyer-memory"),
            in_process::<in_process::cached::Expiring>("cached"),
            in_process::<Arc<papaya::HashMap<String, Entry>>>("papaya"),
            in_process::<stretto::Cache<String, Entry>>("stretto"),
            in_process::<cachet_memory::InMemoryCache<String, Entry>>("cachet_memory"),
            over_wire::<Hitbox<hitbox_moka::MokaBackend>>("hitbox-moka", &None),
            over_wire::<OpenDal<services::Memory>>("opendal memory", &None),
            over_wire::<Arc<memcache::exp::AsyncMetaClient>>("memcache exp", &memcached),
            memcache(&memcached),
            over_wire::<over_wire::async_memcached::Single>("async-memcached", &memcached),
            opendal_memcached(&memcached),
            over_wire::<redis::aio::ConnectionManager>("redis", &redis),
            over_wire::<fred::clients::Client>("fred", &redis),
            over_wire::<Hitbox<hitbox_redis::RedisBackend>>("hitbox-redis", &redis),
            over_wire::<OpenDal<services::Redis>>("opendal redis", &redis),
            opendal_etcd(&etcd),
        ]
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runs = match arguments.as_slice() {
        [] => 5,
        [option, runs] if option == "--runs" => runs.parse().context("--runs takes a number")?,
        [only] => {
            let entrant = entrants().into_iter().find(|(name, _)| name == only);
            let (_, suite) = entrant.with_context(|| format!("there is no adapter {only}"))?;
            println!("{}", suite.run());
            return Ok(());
        }
        _ => bail!("`field`, `field --runs N` or `field NAME`"),
    };
    let date = Command::new("date").arg("+%F").output()?;
    let date = String::from_utf8(date.stdout)?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let named = entrants().into_iter().map(|(name, _)| page::Row::new(name));
    let mut rows: Vec<page::Row> = named.collect();
    for run in 1..=runs {
        let queue = Mutex::new(rows.iter_mut().zip(entrants()));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((row, (_, suite))) = next() {
                let report = suite.run();
                println!("{}, run {run}: {} kept", row.name, report.passed());
                row.reports.push(report);
            }
        };
        // Suites wait more than they work.
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(work);
            }
        });
        page::write(&file, &rows, run, date.trim())?;
    }
    println!("{}", file.display());
    Ok(())
}
