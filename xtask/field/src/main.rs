//! `cargo xtask conformance field`: runs the conformance suite on third-party caches.
//!
//! ```text
//! field                   runs all caches five times and writes the page
//! field ROUNDS            the same, ROUNDS times
//! field moka [RULE …]     runs one cache, with these rules or groups, and prints the full report
//! ```

mod adapter;
mod caches;
mod entry;
mod page;

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use cache_conformance::{Rule, Server, Suite};
use test_servers::{Etcd, Memcached};

use adapter::{Store, suite};
use caches::{hitbox, in_process, memcached, opendal, redis};
use page::Row;

/// The name, a crate and optionally a part of it, such as `opendal redis`, and the suite.
type Entrant = (&'static str, Suite);

/// Creates the entrants, with the addresses of the servers to use.
fn entrants(redis_server: &str, memcached_server: &str, etcd_server: &str) -> Vec<Entrant> {
    let nowhere = Store::in_process();
    let redis_store = Store::new(redis_server, None, None);
    let mut memcached_store = Store::new(memcached_server, Some(250), Some(1_000_000));
    // Calls of two memcached clients never end if the server does not respond.
    memcached_store.call_limit = Duration::from_secs(60);
    // Paths are twice as long as their keys.
    let paths = Store::new(memcached_server, Some(124), Some(1_000_000));
    let etcd = Store::new(etcd_server, None, Some(1_000_000));
    let entrants = [
        ("moka", in_process::moka()),
        ("mini-moka", in_process::mini_moka()),
        ("quick_cache", in_process::quick_cache()),
        ("foyer-memory", in_process::foyer()),
        ("cached", in_process::cached()),
        ("papaya", in_process::papaya()),
        ("stretto", in_process::stretto()),
        ("cachet_memory", in_process::cachet()),
        ("hitbox-moka", suite(&nowhere, hitbox::moka)),
        ("opendal memory", suite(&nowhere, opendal::memory)),
        (
            "memcache exp",
            suite(&memcached_store, memcached::memcache_exp),
        ),
        ("memcache", suite(&memcached_store, memcached::memcache)),
        (
            "async-memcached",
            suite(&memcached_store, memcached::async_memcached),
        ),
        ("opendal memcached", suite(&paths, opendal::memcached)),
        ("redis", suite(&redis_store, redis::redis)),
        ("fred", suite(&redis_store, redis::fred)),
        ("hitbox-redis", suite(&redis_store, hitbox::redis)),
        ("opendal redis", suite(&redis_store, opendal::redis)),
        ("opendal etcd", suite(&etcd, opendal::etcd)),
    ];
    let named = entrants.map(|(name, suite)| (name, adjusted(name, suite.name(name))));
    named.into()
}

fn adjusted(name: &str, suite: Suite) -> Suite {
    match name {
        // It reconnects in a tight loop while answers are broken, until the process runs out of
        // file descriptors.
        "memcache" => {
            let breaks = |rule: &str| {
                ["garbage", "truncated", "broken", "errors_name"]
                    .iter()
                    .any(|w| rule.contains(w))
            };
            let all = cache_conformance::rules().iter().map(Rule::id);
            let suite = all.filter(|id| !breaks(id)).fold(suite, Suite::only);
            let by_chance = [
                "a_silent_server_ends_writes",
                "a_silent_server_is_transient",
                "many_calls_to_a_silent_server_all_end",
            ];
            by_chance.into_iter().fold(suite, |suite, rule| {
                suite.may_fail(
                    format!("faults::{rule}"),
                    "some calls to a silent server never end, and this rule does not always make one",
                )
            })
        }
        // Calls take 40 to 90 ms, because requests are written in pieces without TCP_NODELAY.
        "opendal memcached" => {
            let groups = ["basic", "errors", "faults", "keys", "limits", "metadata"];
            let dropped =
                ["get", "set", "delete"].map(|c| format!("cancellation::{c}_may_be_dropped"));
            let suite = groups.into_iter().fold(suite, Suite::only);
            let suite = dropped.into_iter().fold(suite, Suite::only);
            let by_chance = [
                "calls_to_a_silent_server_may_be_dropped",
                "many_calls_to_a_silent_server_all_end",
            ];
            by_chance.into_iter().fold(suite, |suite, rule| {
                suite.may_fail(
                    format!("faults::{rule}"),
                    "meets by chance the response to a call that was given up, which other rules find \
                     each time",
                )
            })
        }
        "opendal etcd" => suite.waive(
            "multi::thousands_of_keys_in_one_call",
            "one by one, and each after a check of the connection, thousands take a minute",
        ),
        "hitbox-redis" => suite.may_fail(
            "races::histories_with_deadlines_are_linearizable",
            "meets by chance the TTL that stays, which other rules find each time",
        ),
        _ => suite,
    }
}

fn main() -> Result<()> {
    let redis_server = Server::start(|port| {
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--port", &port.to_string()]);
        command
    })?;
    let (memcached, etcd) = (Memcached::start()?, Etcd::start()?);
    // Suites remember which calls hang, so create new ones for each round.
    let redis = redis_server.address().to_string();
    let entrants = || entrants(&redis, &memcached.url(), &etcd.endpoint());
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or("5".to_owned());
    let Ok(rounds) = first.parse() else {
        let entrant = entrants().into_iter().find(|(name, _)| *name == first);
        let (_, suite) = entrant.with_context(|| format!("unknown cache {first}"))?;
        println!("{}", arguments.fold(suite, Suite::only).run());
        return Ok(());
    };
    let named = entrants().into_iter().map(|(name, _)| Row {
        name,
        reports: Vec::new(),
    });
    let mut rows: Vec<Row> = named.collect();
    for round in 1..=rounds {
        let queue = Mutex::new(rows.iter_mut().zip(entrants()));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((row, (_, suite))) = next() {
                let report = suite.seed(round).run();
                println!("{}, round {round}: {} kept", row.name, report.passed());
                row.reports.push(report);
            }
        };
        // Suites mostly wait.
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(work);
            }
        });
        page::write(&rows)?;
    }
    Ok(())
}
