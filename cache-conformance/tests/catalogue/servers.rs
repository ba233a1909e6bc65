//! Wrong when servers fail, when calls are many, and in ways that only a sequence shows.

use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use cache_conformance::Fault;
use cache_core::{ErrorKind, Result};
use tokio::task::yield_now;

use super::{Wrong, value, wrong};
use crate::support::mutant::{self, Mutant, SECRET, error, pass};
use crate::support::store::{Store, Value};

const READS: [&str; 2] = ["get", "get_multi"];

/// A backend that lets calls through to an empty answer under this fault.
fn misses_under(fault: Fault) -> Mutant {
    Mutant::new()
        .pass(move |store: Store, operation| async move {
            match store.fault() {
                Some(current) if current == fault && READS.contains(&operation) => Ok(()),
                _ => pass(store).await,
            }
        })
        .read(|store, key| {
            Ok(match store.fault() {
                None => store.read(key),
                Some(_) => None,
            })
        })
}

/// A backend that fails for ever once it has failed by this.
fn never_recovers_from(fault: Fault) -> Mutant {
    Mutant::new().pass(move |store: Store, _| async move {
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

/// A backend that calls this fault final.
fn final_under(fault: Fault) -> Mutant {
    Mutant::new().pass(move |store: Store, _| async move {
        let current = store.fault();
        pass(store).await.map_err(|failure| match current {
            Some(current) if current == fault => error(ErrorKind::Backend, failure.message()),
            _ => failure,
        })
    })
}

/// A backend that waits for a silent server in a way of its own.
fn waits<F>(wait: impl Fn() -> F + Send + Sync + Copy + 'static) -> Mutant
where
    F: Future<Output = ()> + Send + 'static,
{
    Mutant::new().pass(move |store: Store, _| async move {
        if store.fault() != Some(Fault::Silent) {
            return pass(store).await;
        }
        wait().await;
        Err(error(ErrorKind::Timeout, "no answer"))
    })
}

const WAIT: Duration = Duration::from_millis(100);

pub(crate) fn faults() -> Vec<Wrong> {
    let mut all = dead_servers();
    all.extend(silent_servers());
    all.extend(broken_answers());
    all
}

fn dead_servers() -> Vec<Wrong> {
    vec![
        wrong(
            "faults::reads_from_a_dead_server_are_errors",
            "takes a dead server for a miss",
            misses_under(Fault::Down),
        ),
        wrong(
            "faults::writes_to_a_dead_server_are_errors",
            "swallows writes to a dead server",
            Mutant::new().pass(async |store: Store, operation| match store.fault() {
                Some(Fault::Down) if !READS.contains(&operation) => Ok(()),
                _ => pass(store).await,
            }),
        ),
        wrong(
            "faults::writes_to_a_dead_server_are_errors",
            "swallows deletions at a dead server",
            Mutant::new().pass(async |store: Store, operation| match store.fault() {
                Some(Fault::Down) if operation == "delete" => Ok(()),
                _ => pass(store).await,
            }),
        ),
        wrong(
            "faults::a_dead_server_is_transient",
            "calls a dead server final",
            final_under(Fault::Down),
        ),
        wrong(
            "faults::a_server_that_is_back_is_used",
            "never asks a dead server again",
            never_recovers_from(Fault::Down),
        ),
        wrong(
            "faults::errors_show_no_secret",
            "shows its password when it cannot connect",
            Mutant::new().pass(async |store: Store, _| {
                let attempt = pass(store).await;
                attempt.map_err(|failure| failure.with_source(format!("user:{SECRET}@host")))
            }),
        ),
    ]
}

fn silent_servers() -> Vec<Wrong> {
    vec![
        wrong(
            "faults::a_silent_server_ends_reads",
            "takes silence for a miss",
            misses_under(Fault::Silent),
        ),
        wrong(
            "faults::a_silent_server_ends_reads",
            "waits for ever for an answer",
            waits(std::future::pending),
        ),
        wrong(
            "faults::a_silent_server_ends_writes",
            "has no timeout for writes",
            Mutant::new().pass(async |store: Store, operation| {
                if store.fault() == Some(Fault::Silent) && !READS.contains(&operation) {
                    std::future::pending::<()>().await;
                }
                pass(store).await
            }),
        ),
        wrong(
            "faults::a_silent_server_is_transient",
            "calls silence final",
            final_under(Fault::Silent),
        ),
        wrong(
            "faults::a_silent_server_blocks_no_thread",
            "sleeps on its thread",
            waits(async || thread::sleep(WAIT)),
        ),
        wrong(
            "faults::a_silent_server_costs_no_work",
            "looks for the answer in a loop",
            waits(async || {
                let began = Instant::now();
                while began.elapsed() < WAIT {
                    yield_now().await;
                }
            }),
        ),
        wrong(
            "faults::many_calls_to_a_silent_server_all_end",
            "never gives back the connection of a call that timed out",
            Mutant::new().pass(async |store: Store, _| {
                if *store.count.lock().unwrap() >= 16 {
                    return Err(error(ErrorKind::PoolExhausted, "no connection is free"));
                }
                store.next();
                pass(store.clone()).await?;
                *store.count.lock().unwrap() -= 1;
                Ok(())
            }),
        ),
        wrong(
            "faults::late_answers_reach_nobody_else",
            "gives the late answer to the next caller",
            Mutant::new()
                .check(|_, key| mutant::check_key(key))
                .pass(async |store: Store, operation| {
                    let silent = store.fault() == Some(Fault::Silent);
                    if silent && operation == "get" {
                        store.mark("late");
                    }
                    pass(store).await
                })
                .get(|store, key| {
                    // The first get that is answered takes what was meant for another.
                    if store.is_marked("late") && key.ends_with("k11") {
                        return Ok(store.read(&key.replace("k11", "k0")));
                    }
                    Ok(store.read(key))
                }),
        ),
        wrong(
            "faults::calls_to_a_silent_server_may_be_dropped",
            "never gives back the connection of a dropped call",
            Mutant::new().pass(async |store: Store, _| {
                if *store.count.lock().unwrap() >= 100 {
                    return Err(error(ErrorKind::PoolExhausted, "no connection is free"));
                }
                store.next();
                let passed = pass(store.clone()).await;
                *store.count.lock().unwrap() -= 1;
                passed
            }),
        ),
    ]
}

fn broken_answers() -> Vec<Wrong> {
    vec![
        wrong(
            "faults::garbage_is_an_error",
            "takes garbage for a value",
            Mutant::new()
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
            "takes garbage for a confirmation",
            Mutant::new().pass(async |store: Store, operation| match store.fault() {
                Some(Fault::Garbage) if operation == "set" => Ok(()),
                _ => pass(store).await,
            }),
        ),
        wrong(
            "faults::garbage_does_not_last",
            "keeps a connection that talks garbage",
            never_recovers_from(Fault::Garbage),
        ),
        wrong(
            "faults::half_an_answer_is_an_error",
            "takes half an answer for a miss",
            misses_under(Fault::Cut),
        ),
        wrong(
            "faults::broken_connections_are_replaced",
            "keeps a connection that broke",
            never_recovers_from(Fault::Cut),
        ),
    ]
}

/// Ready after a moment, but wakes whoever polled first.
async fn wakes_the_first_waker() {
    let state: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
    std::future::poll_fn(move |context| {
        let mut locked = state.lock().unwrap();
        if locked.0 {
            return Poll::Ready(());
        }
        if locked.1.is_none() {
            locked.1 = Some(context.waker().clone());
            let state = Arc::clone(&state);
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(1));
                let mut locked = state.lock().unwrap();
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

pub(crate) fn bounds() -> Vec<Wrong> {
    vec![
        wrong(
            "bounds::calls_may_move_between_tasks",
            "wakes the task that polled first",
            Mutant::new().async_get(async |store: Store, key: String| {
                wakes_the_first_waker().await;
                Ok(store.read(&key))
            }),
        ),
        wrong(
            "bounds::many_calls_at_once_all_end",
            "refuses more than a hundred calls at once",
            Mutant::new().pass(async |store: Store, _| {
                if store.next() > 100 {
                    *store.count.lock().unwrap() -= 1;
                    return Err(error(ErrorKind::PoolExhausted, "too many calls"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                *store.count.lock().unwrap() -= 1;
                Ok(())
            }),
        ),
        wrong(
            "bounds::calls_of_one_task_do_not_wait_for_each_other",
            "blocks its thread until another call has ended",
            Mutant::new().async_get(async |store: Store, key: String| {
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
            "wants a second thread",
            Mutant::new().async_get(async |store: Store, key: String| {
                Ok(tokio::task::block_in_place(|| store.read(&key)))
            }),
        ),
        wrong(
            "bounds::waiting_is_not_polling",
            "polls in a loop",
            Mutant::new().pass(async |_, _| {
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
    mutant::set(store, key, value)
}

pub(crate) fn model() -> Vec<Wrong> {
    vec![
        wrong(
            "model::sequences_agree",
            "loses every fourth write",
            Mutant::new().set(every_fourth_write),
        ),
        wrong(
            "model::sequences_agree",
            "does not set what a call deleted twice",
            Mutant::new()
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
                    mutant::set(store, key, value)
                }),
        ),
        wrong(
            "model::sequences_in_time_agree",
            "renews a deadline once only",
            Mutant::new().write(|store, key, value| {
                let old = store.entry(key).and_then(|(_, deadline)| deadline);
                let new = store.deadline(&value);
                let renewed = store.read(key).is_some() && old.is_some() && new.is_some();
                if renewed && value.ttl() != Some(Duration::ZERO) && !store.mark(key) {
                    store.write_until(key, value, old);
                    return Ok(());
                }
                mutant::set(store, key, value)
            }),
        ),
        wrong(
            "model::sequences_with_drops_agree",
            "leaves an empty value when a call is dropped",
            Mutant::new().async_set_multi(async |store: Store, entries: Vec<(String, Value)>| {
                for (key, _) in &entries {
                    store.write(key, value(""));
                }
                yield_now().await;
                mutant::set_multi(&store, entries)
            }),
        ),
    ]
}
