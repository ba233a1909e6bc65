//! Mutants about failing servers, many calls, and bugs that only a sequence shows.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::Fault;
use cache_core::{Error, ErrorKind, Result, Ttl};
use tokio::task::yield_now;

use crate::mutants::backend::{self, Backend, SECRET, error, pass};
use crate::mutants::mutant::{Mutant, wrong};
use crate::mutants::store::{Store, Value, value};

const READS: [&str; 2] = ["get", "get_multi"];

/// A backend that returns an empty result during this fault.
pub(super) fn misses_under(fault: Fault) -> Backend {
    Backend::right()
        .pass(move |store: Store, operation| async move {
            match store.fault() {
                Some(current) if current == fault && READS.contains(&operation) => Ok(()),
                _ => pass(store).await,
            }
        })
        .read(|store, key| {
            Ok(match store.for_key(key).fault() {
                None => store.read(key),
                Some(_) => None,
            })
        })
}

/// A backend that keeps failing after this fault.
fn never_recovers_from(fault: Fault) -> Backend {
    Backend::right().pass(move |store: Store, _| async move {
        if store.fault() == Some(fault) {
            store.mark("broken");
        }
        pass(store.clone()).await?;
        if store.is_marked("broken") {
            return Err(error(ErrorKind::Unavailable, "the connection is closed"));
        }
        Ok(())
    })
}

/// A backend that reports this fault as permanent.
fn final_under(fault: Fault) -> Backend {
    Backend::right().pass(move |store: Store, _| async move {
        let current = store.fault();
        pass(store).await.map_err(|failure| match current {
            Some(current) if current == fault => error(ErrorKind::Backend, failure.message()),
            _ => failure,
        })
    })
}

/// A backend with its own way to wait for a silent server.
fn waits<F>(wait: impl Fn() -> F + Send + Sync + Copy + 'static) -> Backend
where
    F: Future<Output = ()> + Send + 'static,
{
    Backend::right().pass(move |store: Store, _| async move {
        if store.fault() != Some(Fault::Silent) {
            return pass(store).await;
        }
        wait().await;
        Err(error(ErrorKind::Timeout, "no answer"))
    })
}

const WAIT: Duration = Duration::from_millis(100);

pub(super) fn faults() -> Vec<Mutant> {
    let mut all = dead_servers();
    all.extend(silent_servers());
    all.extend(broken_answers());
    all
}

/// A backend whose `set` reports a fault like this.
fn under_faults(
    report: impl Fn(Error, &str, &Value) -> Error + Send + Sync + Copy + 'static,
) -> Backend {
    Backend::right()
        .pass(async |store: Store, operation| match operation {
            "set" => Ok(()),
            _ => pass(store).await,
        })
        .async_set(move |store: Store, key: String, value: Value| async move {
            match pass(store.clone()).await {
                Err(failure) => Err(report(failure, &key, &value)),
                Ok(()) => backend::set(&store, &key, value),
            }
        })
}

fn dead_servers() -> Vec<Mutant> {
    vec![
        wrong(
            "faults::reads_from_a_dead_server_are_errors",
            "treats a dead server as a miss",
            misses_under(Fault::Down),
        ),
        wrong(
            "faults::writes_to_a_dead_server_are_errors",
            "swallows writes to a dead server",
            Backend::right().pass(async |store: Store, operation| match store.fault() {
                Some(Fault::Down) if !READS.contains(&operation) => Ok(()),
                _ => pass(store).await,
            }),
        ),
        wrong(
            "faults::writes_to_a_dead_server_are_errors",
            "swallows deletions at a dead server",
            Backend::right().pass(async |store: Store, operation| match store.fault() {
                Some(Fault::Down) if operation == "delete" => Ok(()),
                _ => pass(store).await,
            }),
        ),
        wrong(
            "faults::a_dead_server_is_transient",
            "reports a dead server as a permanent error",
            final_under(Fault::Down),
        ),
        wrong(
            "faults::a_recovered_server_is_used",
            "never uses a dead server again",
            never_recovers_from(Fault::Down),
        ),
        wrong(
            "faults::writes_that_were_not_sent_are_not_sent_later",
            "sends what was set while the server was down when it is up again",
            Backend::right()
                .pass(async |store: Store, operation| match store.fault() {
                    Some(Fault::Down) if operation == "set" => Ok(()),
                    None => {
                        for (key, late) in store.local().drain() {
                            if let Some(value) = late {
                                store.write(&key, value);
                            }
                        }
                        Ok(())
                    }
                    Some(_) => pass(store).await,
                })
                .async_set(async |store: Store, key: String, value: Value| {
                    if store.fault().is_some() {
                        store.local().insert(key, Some(value));
                        yield_now().await;
                        return Err(error(ErrorKind::Unavailable, "connection refused"));
                    }
                    backend::set(&store, &key, value)
                }),
        ),
        wrong(
            "faults::errors_name_their_keys",
            "names no key when a server fails",
            under_faults(|failure, _, _| failure),
        ),
        wrong(
            "faults::errors_name_their_keys",
            "names its own name for a key when a server fails",
            under_faults(|failure, key, _| failure.with_key(format!("prefix:{key}"))),
        ),
        wrong(
            "faults::errors_name_their_keys",
            "shows the request that failed",
            under_faults(|failure, key, value| {
                let payload = String::from_utf8_lossy(value.payload()).into_owned();
                failure
                    .with_key(key)
                    .with_source(format!("set {key}: {payload}"))
            }),
        ),
        wrong(
            "faults::errors_show_no_secret",
            "shows its password when it cannot connect",
            Backend::right().pass(async |store: Store, _| {
                let attempt = pass(store).await;
                attempt.map_err(|failure| failure.with_source(format!("user:{SECRET}@host")))
            }),
        ),
    ]
}

fn silent_servers() -> Vec<Mutant> {
    vec![
        wrong(
            "faults::a_silent_server_ends_reads",
            "treats silence as a miss",
            misses_under(Fault::Silent),
        ),
        wrong(
            "faults::a_silent_server_ends_reads",
            "waits for a response without a timeout",
            waits(std::future::pending),
        ),
        wrong(
            "faults::a_silent_server_ends_writes",
            "has no timeout for writes",
            Backend::right().pass(async |store: Store, operation| {
                if store.fault() == Some(Fault::Silent) && !READS.contains(&operation) {
                    std::future::pending::<()>().await;
                }
                pass(store).await
            }),
        ),
        wrong(
            "faults::a_silent_server_is_transient",
            "reports silence as a permanent error",
            final_under(Fault::Silent),
        ),
        wrong(
            "faults::a_silent_server_blocks_no_thread",
            "sleeps on its thread",
            waits(async || thread::sleep(WAIT)),
        ),
        wrong(
            "faults::a_silent_server_causes_no_busy_loop",
            "polls for the response in a loop",
            waits(async || {
                let began = Instant::now();
                while began.elapsed() < WAIT {
                    yield_now().await;
                }
            }),
        ),
        wrong(
            "faults::many_calls_to_a_silent_server_all_end",
            "never releases the connection of a call that timed out",
            Backend::right().pass(async |store: Store, _| {
                if *store.count() >= 16 {
                    return Err(error(ErrorKind::PoolExhausted, "no connection is free"));
                }
                store.next();
                pass(store.clone()).await?;
                *store.count() -= 1;
                Ok(())
            }),
        ),
        wrong(
            "faults::late_responses_reach_no_other_caller",
            "gives a late response to the next caller",
            Backend::right()
                .check(|_, key| backend::check_key(key))
                .pass(async |store: Store, operation| {
                    let silent = store.fault() == Some(Fault::Silent);
                    if silent && operation == "get" {
                        store.mark("late");
                    }
                    pass(store).await
                })
                .get(|store, key| {
                    // The first get with a response receives that of another.
                    if store.is_marked("late") && key.ends_with("k11") {
                        return Ok(store.read(&key.replace("k11", "k0")));
                    }
                    Ok(store.read(key))
                }),
        ),
        wrong(
            "faults::calls_to_a_silent_server_may_be_dropped",
            "never releases the connection of a dropped call",
            Backend::right().pass(async |store: Store, _| {
                if *store.count() >= 100 {
                    return Err(error(ErrorKind::PoolExhausted, "no connection is free"));
                }
                store.next();
                let passed = pass(store.clone()).await;
                *store.count() -= 1;
                passed
            }),
        ),
    ]
}

fn broken_answers() -> Vec<Mutant> {
    vec![
        wrong(
            "faults::garbage_is_an_error",
            "treats garbage as a value",
            Backend::right()
                .pass(async |store: Store, operation| match store.fault() {
                    Some(Fault::Garbage) if operation == "get" => Ok(()),
                    _ => pass(store).await,
                })
                .get(|store, key| match store.fault() {
                    None => Ok(store.read(key)),
                    Some(_) => Ok(Some(value([0x93, 0x07, 0xe1]))),
                }),
        ),
        wrong(
            "faults::garbage_is_an_error",
            "treats garbage as a confirmation",
            Backend::right().pass(async |store: Store, operation| match store.fault() {
                Some(Fault::Garbage) if operation == "set" => Ok(()),
                _ => pass(store).await,
            }),
        ),
        wrong(
            "faults::garbage_does_not_last",
            "keeps a connection that sends garbage",
            never_recovers_from(Fault::Garbage),
        ),
        wrong(
            "faults::a_truncated_response_is_an_error",
            "treats a truncated response as a miss",
            misses_under(Fault::Cut),
        ),
        wrong(
            "faults::broken_connections_are_replaced",
            "keeps a connection that broke",
            never_recovers_from(Fault::Cut),
        ),
    ]
}

/// A backend that fails completely when one of its servers has this fault.
pub(super) fn fails_altogether(fault: Fault, operation: &'static str) -> Backend {
    Backend::right().pass(move |store: Store, current| async move {
        if current == operation && store.has_somewhere(fault) {
            return Err(error(ErrorKind::Unavailable, "a server failed"));
        }
        pass(store).await
    })
}

pub(super) fn outages() -> Vec<Mutant> {
    vec![
        wrong(
            "outages::reads_past_a_dead_server",
            "returns misses for the keys of a dead server",
            misses_under(Fault::Down),
        ),
        wrong(
            "outages::reads_past_a_dead_server",
            "fails all keys when a server is dead",
            fails_altogether(Fault::Down, "get_multi"),
        ),
        wrong(
            "outages::reads_past_a_silent_server",
            "returns misses for the keys of a silent server",
            misses_under(Fault::Silent),
        ),
        wrong(
            "outages::reads_past_a_silent_server",
            "fails all keys when a server is silent",
            fails_altogether(Fault::Silent, "get_multi"),
        ),
        wrong(
            "outages::reads_past_garbage",
            "returns misses for invalid responses",
            misses_under(Fault::Garbage),
        ),
        wrong(
            "outages::writes_past_a_dead_server",
            "does not report failed writes",
            Backend::right().merge(|merged| merged.done),
        ),
        wrong(
            "outages::writes_past_a_dead_server",
            "writes nothing when a server is dead",
            fails_altogether(Fault::Down, "set_multi"),
        ),
        wrong(
            "outages::writes_past_a_silent_server",
            "does not report unanswered writes",
            Backend::right().merge(|mut merged| {
                merged
                    .failed
                    .retain(|(_, error)| error.kind() != ErrorKind::Timeout);
                merged.right()
            }),
        ),
        wrong(
            "outages::deletions_past_a_dead_server",
            "does not report failed deletions",
            Backend::right()
                .pass(async |store: Store, operation| match operation {
                    "delete_multi" => Ok(()),
                    _ => pass(store).await,
                })
                .delete_multi(|store, keys| {
                    for key in keys {
                        if store.for_key(&key).fault().is_none() {
                            store.remove(&key);
                        }
                    }
                    Ok(())
                }),
        ),
        wrong(
            "outages::single_calls_past_a_dead_server",
            "uses no server while one is dead",
            fails_altogether(Fault::Down, "get"),
        ),
        wrong(
            "outages::a_recovered_server_serves_its_keys",
            "never uses a dead server again while others work",
            Backend::right().pass(async |store: Store, _| {
                let server = format!("server {}", store.server());
                if store.fault() == Some(Fault::Down) {
                    store.mark(&server);
                }
                pass(store.clone()).await?;
                if store.is_marked(&server) {
                    return Err(error(ErrorKind::Unavailable, "the server is not used"));
                }
                Ok(())
            }),
        ),
        wrong(
            "unreadable::an_unreadable_value_is_a_decode_error",
            "treats a value that it cannot decode as a miss",
            Backend::right().get(|store, key| Ok(store.fetch(key).unwrap_or_default())),
        ),
        wrong(
            "unreadable::it_fails_alone_in_get_multi",
            "fails all keys because of one value that it cannot decode",
            Backend::right()
                .get_multi(|store, keys| keys.iter().map(|key| store.fetch(key)).collect()),
        ),
        wrong(
            "unreadable::it_fails_alone_in_get_multi",
            "returns misses for values that it cannot decode",
            Backend::right().get_multi(|store, keys| {
                let answers = keys.iter().map(|key| store.fetch(key).unwrap_or_default());
                Ok(answers.collect())
            }),
        ),
        wrong(
            "unreadable::it_fails_alone_in_get_multi",
            "returns a miss at the second position of a key that it cannot decode",
            Backend::right().answers(|store, keys| {
                let mut seen = HashSet::new();
                let answer = |key: &String| match store.fetch(key) {
                    Err(_) if !seen.insert(key.clone()) => Ok(None),
                    found => found,
                };
                keys.iter().map(answer).collect()
            }),
        ),
        wrong(
            "unreadable::it_can_be_replaced_and_deleted",
            "reads the old values before it deletes several",
            Backend::right().delete_multi(|store, keys| {
                for key in &keys {
                    store.fetch(key)?;
                    store.discard(key);
                }
                Ok(())
            }),
        ),
        wrong(
            "unreadable::it_can_be_replaced_and_deleted",
            "reads the old value before it writes",
            Backend::right().set(|store, key, value| {
                store.fetch(key)?;
                backend::set(store, key, value)
            }),
        ),
    ]
}

pub(super) fn promises() -> Vec<Mutant> {
    vec![
        wrong(
            "promises::reads_are_batched",
            "asks for one key after another",
            Backend::right().key_by_key(),
        ),
        wrong(
            "promises::polls_are_brief",
            "sleeps on its thread for some milliseconds",
            Backend::right().get(|store, key| {
                thread::sleep(Duration::from_millis(4));
                store.fetch(key)
            }),
        ),
        wrong(
            "promises::calls_leave_no_tasks_running",
            "starts a task for each call that never ends",
            Backend::right().get(|store, key| {
                tokio::spawn(std::future::pending::<()>());
                store.fetch(key)
            }),
        ),
        wrong(
            "promises::get_multi_asks_for_a_key_once",
            "fetches a value as often as its key is repeated",
            Backend::right().each_time(),
        ),
        wrong(
            "promises::cancelled_writes_release_their_values",
            "keeps the value of a cancelled set",
            Backend::right().pass(async |store: Store, operation| {
                if operation != "set" {
                    return pass(store).await;
                }
                store.hold();
                let passed = pass(store.clone()).await;
                store.let_go();
                passed
            }),
        ),
        wrong(
            "promises::cancelled_writes_release_their_values",
            "keeps the values of a cancelled set_multi",
            Backend::right().pass(async |store: Store, operation| {
                if operation != "set_multi" {
                    return pass(store).await;
                }
                store.hold();
                let passed = pass(store.clone()).await;
                store.let_go();
                passed
            }),
        ),
        wrong(
            "promises::lifetimes_ignore_the_wall_clock",
            "uses the wall clock for deadlines",
            Backend::right().read(|store, key| {
                let by_date = |(_, deadline): &(_, Option<Instant>)| {
                    deadline.is_none_or(|deadline| store.now_by_the_wall_clock() < deadline)
                };
                let entry = store.entry(key).filter(by_date);
                Ok(entry.map(|(value, _)| value))
            }),
        ),
        wrong(
            "promises::a_full_cache_is_right",
            "evicts entries before it is full",
            Backend::right().set_multi(|store, entries| {
                for (key, value) in entries {
                    let other = store.entries().keys().next().cloned();
                    if store.entries().len() >= 9_000 {
                        store.discard(&other.unwrap_or_default());
                    }
                    backend::set(store, &key, value)?;
                }
                Ok(())
            }),
        ),
        wrong(
            "promises::a_full_cache_is_right",
            "fails when it is full",
            Backend::right()
                .set(|store, key, value| {
                    if store.entries().len() > 12_000 {
                        return Err(error(ErrorKind::Backend, "out of memory"));
                    }
                    backend::set(store, key, value)
                })
                .set_multi(|store, entries| {
                    if store.entries().len() > 12_000 {
                        return Err(error(ErrorKind::Backend, "out of memory"));
                    }
                    backend::set_multi(store, entries)
                }),
        ),
        wrong(
            "promises::immediate_calls_end_at_once",
            "claims to be immediate, but waits",
            Backend::right().async_get_multi(async |store: Store, keys: Vec<String>| {
                yield_now().await;
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        )
        .immediate(),
    ]
}

/// Becomes ready after a moment, but wakes only the first waker.
async fn wakes_the_first_waker() {
    let state: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
    std::future::poll_fn(move |context| {
        let mut locked = state.lock().unwrap_or_else(PoisonError::into_inner);
        if locked.0 {
            return Poll::Ready(());
        }
        if locked.1.is_none() {
            locked.1 = Some(context.waker().clone());
            let state = Arc::clone(&state);
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(1));
                let mut locked = state.lock().unwrap_or_else(PoisonError::into_inner);
                locked.0 = true;
                if let Some(waker) = &locked.1 {
                    waker.wake_by_ref();
                }
            });
        }
        Poll::Pending
    })
    .await;
}

pub(super) fn bounds() -> Vec<Mutant> {
    vec![
        wrong(
            "bounds::calls_may_move_between_tasks",
            "wakes the task that polled first",
            Backend::right().async_get(async |store: Store, key: String| {
                wakes_the_first_waker().await;
                Ok(store.read(&key))
            }),
        ),
        wrong(
            "bounds::many_calls_at_once_all_end",
            "refuses more than a hundred calls at once",
            Backend::right().pass(async |store: Store, _| {
                if store.next() > 100 {
                    *store.count() -= 1;
                    return Err(error(ErrorKind::PoolExhausted, "too many calls"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                *store.count() -= 1;
                Ok(())
            }),
        ),
        wrong(
            "bounds::many_calls_in_sequence_succeed",
            "runs out of request ids",
            Backend::right().pass(async |store: Store, _| {
                if store.next() > 1_000 {
                    return Err(error(ErrorKind::Backend, "too many calls"));
                }
                pass(store).await
            }),
        ),
        wrong(
            "bounds::calls_of_one_task_do_not_wait_for_each_other",
            "blocks its thread until another call has ended",
            Backend::right().async_get(async |store: Store, key: String| {
                // Bounded, so that the thread ends some day.
                let began = Instant::now();
                while !store.mark("locked") && began.elapsed() < Duration::from_secs(20) {
                    thread::sleep(Duration::from_millis(1));
                }
                yield_now().await;
                store.unmark("locked");
                Ok(store.read(&key))
            }),
        ),
        wrong(
            "bounds::one_thread_is_enough",
            "needs a second thread",
            Backend::right().async_get(async |store: Store, key: String| {
                Ok(tokio::task::block_in_place(|| store.read(&key)))
            }),
        ),
        wrong(
            "bounds::waiting_is_not_polling",
            "polls in a loop",
            Backend::right().pass(async |_, _| {
                for _ in 0..400 {
                    yield_now().await;
                }
                Ok(())
            }),
        ),
    ]
}

fn every_fourth_write(store: &Store, key: &str, value: Value) -> Result<()> {
    if store.next().is_multiple_of(4) {
        return Ok(());
    }
    backend::set(store, key, value)
}

pub(super) fn model() -> Vec<Mutant> {
    vec![
        wrong(
            "model::sequences_agree",
            "loses every fourth write",
            Backend::right().set(every_fourth_write),
        ),
        wrong(
            "model::sequences_agree",
            "does not set a key that one call deleted twice",
            Backend::right()
                .delete_multi(|store, keys| {
                    for key in keys {
                        if !store.remove(&key) {
                            store.mark(&key);
                        }
                    }
                    Ok(())
                })
                .set(|store, key, value| {
                    if store.unmark(key) {
                        return Ok(());
                    }
                    backend::set(store, key, value)
                }),
        ),
        wrong(
            "model::sequences_in_time_agree",
            "renews a deadline once only",
            Backend::right().write(|store, key, value| {
                let old = store.entry(key).and_then(|(_, deadline)| deadline);
                let new = store.deadline(&value);
                let renewed = store.read(key).is_some() && old.is_some() && new.is_some();
                if renewed && value.ttl() != Ttl::For(Duration::ZERO) && !store.mark(key) {
                    store.write_until(key, value, old);
                    return Ok(());
                }
                backend::set(store, key, value)
            }),
        ),
        wrong(
            "model::sequences_with_drops_agree",
            "leaves an empty value when a call is dropped",
            Backend::right().async_set_multi(
                async |store: Store, entries: Vec<(String, Value)>| {
                    for (key, _) in &entries {
                        store.write(key, value(""));
                    }
                    yield_now().await;
                    backend::set_multi(&store, entries)
                },
            ),
        ),
    ]
}
