//! Bugs of other projects, each with its report.

use std::time::Duration;

use cache_core::{ErrorKind, Result, Ttl};
use tokio::task::yield_now;

use super::expiry::{lifetimes, prolong, reap, right};
use super::parallel::{answer_in_line, pause};
use super::servers::{fails_altogether, misses_under};
use crate::Fault;
use crate::mutants::backend::{self, Backend, error, pass};
use crate::mutants::mutant::{Mutant, wrong};
use crate::mutants::store::{Store, Value};

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn history() -> Vec<Mutant> {
    let mut all = lives();
    all.extend(connections());
    all.extend(keys_and_values());
    all
}

/// Timers that remove a key at its deadline. Replacing an entry may cancel its timer; deleting it
/// does not.
fn with_timers(replacing_cancels: bool) -> Backend {
    Backend::right()
        .set(move |store, key, value| {
            reap(store);
            if replacing_cancels && store.entry(key).is_some() {
                store.list().retain(|(_, other)| other != key);
            }
            if let Some(deadline) = store.deadline(&value) {
                store.list().push((deadline, key.to_owned()));
            }
            backend::set(store, key, value)
        })
        .get(|store, key| {
            reap(store);
            store.fetch(key)
        })
}

fn lives() -> Vec<Mutant> {
    vec![
        wrong(
            "expiry::a_longer_ttl_replaces_the_deadline",
            "lets the timer of the previous value remove the new one",
            with_timers(false),
        )
        .told("github.com/aio-libs/aiocache/issues/423"),
        wrong(
            "expiry::delete_removes_the_deadline",
            "does not cancel the timer of a deleted key",
            with_timers(true),
        )
        .told("github.com/TheBastionBot/Bastion/pull/1115"),
        wrong(
            "expiry::huge_ttls_do_not_expire",
            "sends TTLs of more than thirty days, which memcached treats as dates",
            lifetimes(|store, value| {
                let sent = |ttl: Duration| if ttl > 30 * DAY { Duration::ZERO } else { ttl };
                right(store, value).map(sent)
            }),
        )
        .told("github.com/apache/opendal/pull/8150"),
        wrong(
            "expiry::tiny_ttls_expire",
            "truncates TTLs to seconds, and treats zero as no expiry",
            lifetimes(|store, value| {
                let own = value.ttl();
                right(store, value)
                    .filter(|ttl| own == Ttl::For(Duration::ZERO) || ttl.as_secs() > 0)
            }),
        )
        .told("github.com/grafana/dskit/pull/530"),
        wrong(
            "expiry::not_lost_before_the_deadline",
            "removes a value at the start of the second in which it expires",
            lifetimes(|store, value| {
                let ttl = right(store, value);
                ttl.map(|ttl| match ttl.as_secs() {
                    1..=120 => ttl.saturating_sub(Duration::from_millis(600)),
                    _ => ttl,
                })
            }),
        )
        .told("github.com/memcached/memcached/issues/307"),
        wrong(
            "expiry::own_ttl_expires",
            "sends a date instead of seconds",
            lifetimes(|store, value| {
                let since_1970 = 20_000 * DAY;
                right(store, value).map(|ttl| ttl.saturating_add(since_1970))
            }),
        )
        .told("github.com/sonata-project/SonataCacheBundle/issues/50"),
        wrong(
            "expiry::own_ttl_of_zero_removes_the_old_value",
            "keeps the old value when the new one has already expired",
            Backend::right().set(|store, key, value| {
                if value.ttl() == Ttl::For(Duration::ZERO) {
                    return Ok(());
                }
                backend::set(store, key, value)
            }),
        )
        .told("github.com/tkem/cachetools/issues/406"),
        wrong(
            "expiry::set_without_ttl_removes_the_deadline",
            "keeps the TTL when a value without one is set",
            Backend::right().write(|store, key, value| {
                let old = store.read(key).and(store.entry(key));
                let deadline = store.deadline(&value);
                let deadline = deadline.or_else(|| old.and_then(|(_, deadline)| deadline));
                store.write_until(key, value, deadline);
                Ok(())
            }),
        )
        .told("github.com/arangodb/arangodb/pull/8667"),
        wrong(
            "expiry::reading_does_not_extend",
            "moves a value that is read to the newest bucket",
            Backend::right().get(prolong),
        )
        .told("github.com/naugtur/safe-memory-cache/issues/3"),
        wrong(
            "expiry::not_lost_before_the_deadline",
            "overwrites the deadline with the time left on a read",
            Backend::right().get(|store, key| {
                let found = store.read(key);
                if let (Some(_), Some((value, Some(_)))) = (&found, store.entry(key)) {
                    store.write_until(key, value, Some(store.now()));
                }
                Ok(found)
            }),
        )
        .told("github.com/elixir-nebulex/nebulex/issues/46"),
        wrong(
            "expiry::an_expired_key_can_be_set_again",
            "ignores the TTL when the previous value has just expired",
            Backend::right().set(|store, key, value| {
                if store.entry(key).is_some() && store.read(key).is_none() {
                    store.write_until(key, value, None);
                    return Ok(());
                }
                backend::set(store, key, value)
            }),
        )
        .told("github.com/whitfin/cachex/issues/304"),
        wrong(
            "races::a_read_at_the_deadline_changes_nothing",
            "fails the second of two reads that find the same expired value",
            Backend::right().async_get(async |store: Store, key: String| {
                let found = store.read(&key);
                if found.is_none() && store.entry(&key).is_some() {
                    pause().await;
                    if !store.remove(&key) {
                        return Err(error(ErrorKind::Backend, "no such entry"));
                    }
                }
                Ok(found)
            }),
        )
        .told("github.com/yahoo/dnscache/pull/21"),
    ]
}

/// The rest of the response to a dropped multi call is treated as the next response.
async fn answers_in_line(store: Store, keys: Vec<String>) -> Result<Vec<Option<Value>>> {
    let now = store.now();
    let asked = keys.len();
    store.list().extend(keys.into_iter().map(|key| (now, key)));
    yield_now().await;
    let answered: Vec<_> = {
        let mut line = store.list();
        let end = asked.min(line.len());
        line.drain(..end).collect()
    };
    Ok(answered.iter().map(|(_, key)| store.read(key)).collect())
}

fn connections() -> Vec<Mutant> {
    vec![
        wrong(
            "cancellation::drops_do_not_disturb_other_callers",
            "reuses a connection whose call was cancelled",
            Backend::right().async_get(answer_in_line),
        )
        .told("github.com/Shopify/async-memcached/pull/88"),
        wrong(
            "cancellation::get_may_be_dropped",
            "is off by one response after a cancelled call",
            Backend::right().async_get(answer_in_line),
        )
        .told("github.com/redis/redis-py/issues/2624"),
        wrong(
            "cancellation::get_multi_may_be_dropped",
            "reads the rest of the response of an interrupted get_multi",
            Backend::right().async_get_multi(answers_in_line),
        )
        .told("github.com/petergoldstein/dalli/issues/956"),
        wrong(
            "cancellation::a_thousand_drops_leak_nothing",
            "counts a cancelled caller as waiting",
            Backend::right().pass(async |store: Store, _| {
                const MOST: usize = 300;
                if *store.count() >= MOST {
                    return Err(error(ErrorKind::PoolExhausted, "timed out in the pool"));
                }
                store.next();
                yield_now().await;
                *store.count() -= 1;
                Ok(())
            }),
        )
        .told("github.com/djc/bb8/issues/67"),
        wrong(
            "faults::many_calls_to_a_silent_server_all_end",
            "never releases a connection whose call timed out",
            Backend::right().pass(async |store: Store, _| {
                const MOST: usize = 16;
                if *store.count() >= MOST {
                    return Err(error(ErrorKind::PoolExhausted, "no connection is free"));
                }
                store.next();
                pass(store.clone()).await?;
                *store.count() -= 1;
                Ok(())
            }),
        )
        .told("github.com/aio-libs/aiocache/issues/196"),
        wrong(
            "faults::many_calls_to_a_silent_server_all_end",
            "does not wake a waiting caller when it closes a broken connection",
            Backend::right().pass(async |store: Store, _| {
                const MOST: usize = 8;
                if *store.count() >= MOST {
                    while !store.unmark("released") {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                store.next();
                let passed = pass(store.clone()).await;
                *store.count() -= 1;
                if passed.is_ok() {
                    store.mark("released");
                }
                passed
            }),
        )
        .told("github.com/djc/bb8/issues/167"),
        wrong(
            "faults::a_silent_server_ends_reads",
            "tries all servers again once all of them are dead",
            Backend::right().pass(async |store: Store, _| {
                loop {
                    let passed = pass(store.clone()).await;
                    if store.fault() != Some(Fault::Silent) {
                        return passed;
                    }
                }
            }),
        )
        .told("github.com/openstack/oslo.cache/commit/e34fbe2"),
        wrong(
            "promises::a_dropped_backend_closes_its_connections",
            "does not close its connections when it is dropped",
            Backend::right().on_drop(|_| {}),
        )
        .told("github.com/openstack/oslo.cache/commit/bae5561"),
        wrong(
            "faults::late_responses_reach_no_other_caller",
            "gives a response that arrives after a timeout to the next caller",
            Backend::right()
                .pass(async |store: Store, operation| {
                    if store.fault() == Some(Fault::Silent) && operation == "get" {
                        store.mark("late");
                    }
                    pass(store).await
                })
                .get(|store, key| {
                    if store.is_marked("late") && key.ends_with("k11") {
                        return Ok(store.read(&key.replace("k11", "k0")));
                    }
                    store.fetch(key)
                }),
        )
        .told("github.com/php-memcached-dev/php-memcached/issues/531"),
        wrong(
            "concurrency::callers_get_their_own_results",
            "treats the first response as that of the last request",
            Backend::right().async_get(async |store: Store, key: String| {
                let asked = Value::new(key.into_bytes());
                store.local().insert(String::new(), Some(asked));
                pause().await;
                let last = store.local().get("").cloned().flatten();
                let last = last.map(Value::into_payload).unwrap_or_default();
                Ok(store.read(&String::from_utf8_lossy(&last)))
            }),
        )
        .told("github.com/memcachier/memjs/issues/9"),
        wrong(
            "bounds::many_calls_at_once_all_end",
            "returns a miss when all connections are busy",
            Backend::right().async_get(async |store: Store, key: String| {
                let busy = store.next() > 10;
                pause().await;
                *store.count() -= 1;
                if busy {
                    return Ok(None);
                }
                store.fetch(&key)
            }),
        )
        .told("github.com/3rd-Eden/memcached/issues/50"),
        wrong(
            "outages::reads_past_a_dead_server",
            "leaves out the keys of a dead server",
            misses_under(Fault::Down),
        )
        .told("github.com/enyim/EnyimMemcached/issues/171"),
        wrong(
            "outages::reads_past_a_dead_server",
            "fails get_multi when one server cannot be reached",
            fails_altogether(Fault::Down, "get_multi"),
        )
        .told("github.com/bradfitz/gomemcache/pull/193"),
    ]
}

fn keys_and_values() -> Vec<Mutant> {
    vec![
        wrong(
            "multi::misses_stay_in_place",
            "returns only the values that it finds",
            Backend::right().get_multi(|store, keys| {
                let found = keys.iter().filter_map(|key| store.read(key));
                Ok(found.map(Some).collect())
            }),
        )
        .told("github.com/3rd-Eden/memcached/issues/2"),
        wrong(
            "multi::thousands_of_keys_in_one_call",
            "ignores a very long list of keys",
            Backend::right().get_multi(|store, keys| {
                if keys.iter().map(String::len).sum::<usize>() > 64 * 1024 {
                    return Err(error(ErrorKind::Protocol, "ERROR"));
                }
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        )
        .told("github.com/memcached/memcached/issues/849"),
        wrong(
            "keys::line_breaks_inject_nothing",
            "sends keys unescaped",
            Backend::right().set(|store, key, value| {
                if let Some((_, command)) = key.split_once("\r\ndelete ") {
                    store.remove(command.trim_end());
                }
                backend::set(store, key, value)
            }),
        )
        .told("github.com/pinterest/pymemcache/issues/99"),
        wrong(
            "keys::inner_space_is_kept",
            "adds a carriage return to the value when there is a tab in the key",
            Backend::right().get(|store, key| {
                let tab = key.contains('\t');
                let odd = |mut payload: Vec<u8>| {
                    payload.extend(tab.then_some(b'\r'));
                    payload
                };
                Ok(store.read(key).map(|found| found.map(odd)))
            }),
        )
        .told("github.com/lericson/pylibmc/issues/16"),
        wrong(
            "values::the_empty_payload_is_a_hit",
            "treats an empty value as a missing one",
            Backend::right()
                .read(|store, key| Ok(store.read(key).filter(|found| !found.payload().is_empty()))),
        )
        .told("github.com/kpn/cachetory/pull/12"),
    ]
}
