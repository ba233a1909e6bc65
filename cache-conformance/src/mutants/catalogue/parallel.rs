//! Mutants about several instances, concurrent callers and cancelled calls.

use std::time::{Duration, SystemTime};

use cache_core::{ErrorKind, Result, Ttl};
use tokio::task::yield_now;

use crate::mutants::backend::{self, Backend, error};
use crate::mutants::mutant::{Mutant, wrong};
use crate::mutants::store::{Store, Value, value};

/// Long enough for another task to run.
pub(super) async fn pause() {
    tokio::time::sleep(Duration::from_micros(200)).await;
}

pub(super) fn sharing() -> Vec<Mutant> {
    vec![
        wrong(
            "sharing::a_second_instance_sees_what_is_set",
            "gives each instance its own store",
            Backend::right()
                .again(|store| store.again().sharing(&Store::new(Duration::ZERO, None))),
        ),
        wrong(
            "sharing::a_second_instance_sees_what_is_replaced",
            "serves its own copy of values that it has read",
            Backend::right()
                .get(|store, key| {
                    let mut local = store.local();
                    if let Some(Some(copy)) = local.get(key) {
                        return Ok(Some(copy.clone()));
                    }
                    let found = store.read(key);
                    local.insert(key.to_owned(), found.clone());
                    Ok(found)
                })
                .set(|store, key, value| {
                    store.local().remove(key);
                    backend::set(store, key, value)
                })
                .delete(|store, key| {
                    store.local().remove(key);
                    store.remove(key);
                    Ok(())
                }),
        ),
        wrong(
            "sharing::a_second_instance_sees_what_is_deleted",
            "deletes only in its own copy",
            Backend::right()
                .delete(|store, key| {
                    store.local().insert(key.to_owned(), None);
                    Ok(())
                })
                .set(|store, key, value| {
                    store.local().remove(key);
                    backend::set(store, key, value)
                })
                .get(|store, key| {
                    if store.local().contains_key(key) {
                        return Ok(None);
                    }
                    Ok(store.read(key))
                }),
        ),
        wrong(
            "sharing::a_second_instance_sees_a_miss_filled",
            "remembers misses",
            Backend::right()
                .get(|store, key| {
                    let mut local = store.local();
                    if local.contains_key(key) {
                        return Ok(None);
                    }
                    let found = store.read(key);
                    if found.is_none() {
                        local.insert(key.to_owned(), None);
                    }
                    Ok(found)
                })
                .set(|store, key, value| {
                    store.local().remove(key);
                    backend::set(store, key, value)
                }),
        ),
        wrong(
            "sharing::metadata_is_shared",
            "keeps the cached time only in the instance that set it",
            Backend::right().get(|store, key| {
                let found = store.read(key);
                if store.is_first() {
                    return Ok(found);
                }
                Ok(found.map(|found| found.with_cached_at(SystemTime::now())))
            }),
        ),
        wrong(
            "sharing::deadlines_are_shared",
            "keeps the deadline only in the instance that set it",
            Backend::right().read(|store, key| {
                if store.is_first() {
                    return Ok(store.read(key));
                }
                let entry = store.entry(key).map(|(found, _)| found);
                Ok(entry.filter(|value| value.ttl() != Ttl::For(Duration::ZERO)))
            }),
        ),
        wrong(
            "sharing::an_instance_outlives_the_other",
            "clears the store when an instance is dropped",
            Backend::right().on_drop(|store| store.entries().clear()),
        ),
        wrong(
            "sharing::instances_write_at_the_same_time",
            "writes the whole map back",
            Backend::right().async_set(async |store: Store, key: String, value: Value| {
                let mut copy = store.entries().clone();
                pause().await;
                let deadline = store.deadline(&value);
                copy.insert(key, (value, deadline));
                *store.entries() = copy;
                Ok(())
            }),
        ),
        wrong(
            "sharing::namespaces_are_separate",
            "decodes the escapes of a namespace",
            Backend::right().keys(|key| key.replace("%3A", ":")),
        ),
        wrong(
            "sharing::foreign_data_is_left_alone",
            "clears the store when many keys are deleted",
            Backend::right().delete_multi(|store, keys| {
                if keys.len() > 10 {
                    store.entries().clear();
                }
                for key in &keys {
                    store.discard(key);
                }
                Ok(())
            }),
        ),
    ]
}

pub(super) fn concurrency() -> Vec<Mutant> {
    vec![
        wrong(
            "concurrency::callers_get_their_own_results",
            "keeps the key of the call in the instance",
            Backend::right().async_get(async |store: Store, key: String| {
                let asked = store.local().insert(String::new(), Some(value(key)));
                drop(asked);
                pause().await;
                let asked = store.local().get("").cloned().flatten();
                let asked = asked.map(Value::into_payload).unwrap_or_default();
                Ok(store.read(&String::from_utf8_lossy(&asked)))
            }),
        ),
        wrong(
            "concurrency::no_value_is_torn",
            "writes a payload in two halves",
            Backend::right().async_set(async |store: Store, key: String, value: Value| {
                let new = value.payload().clone();
                let old = store
                    .read(&key)
                    .map(Value::into_payload)
                    .unwrap_or_default();
                let half = new.len() / 2;
                let mut torn = new.get(..half).unwrap_or_default().to_vec();
                torn.extend(old.get(half..).unwrap_or_default());
                store.write(&key, value.clone().map(|_| torn));
                pause().await;
                backend::set(&store, &key, value)
            }),
        ),
        wrong(
            "concurrency::metadata_goes_with_its_payload",
            "writes the payload before its metadata",
            Backend::right().async_set(async |store: Store, key: String, value: Value| {
                if let Some(old) = store.read(&key) {
                    store.write(&key, value.clone().with_cached_at(old.cached_at()));
                    pause().await;
                }
                backend::set(&store, &key, value)
            }),
        ),
        wrong(
            "concurrency::no_key_is_lost",
            "drops a write during another one",
            Backend::right().async_set(async |store: Store, key: String, value: Value| {
                if store.mark("busy") {
                    yield_now().await;
                    let done = backend::set(&store, &key, value);
                    store.unmark("busy");
                    return done;
                }
                Ok(())
            }),
        ),
        wrong(
            "concurrency::no_key_is_lost",
            "writes the whole map back when it deletes",
            Backend::right().async_delete(async |store: Store, key: String| {
                let mut copy = store.entries().clone();
                pause().await;
                copy.remove(&key);
                *store.entries() = copy;
                Ok(())
            }),
        ),
        wrong(
            "concurrency::no_key_is_lost",
            "writes the whole map back when it deletes several keys",
            Backend::right().async_delete_multi(async |store: Store, keys: Vec<String>| {
                let mut copy = store.entries().clone();
                pause().await;
                for key in &keys {
                    copy.remove(key);
                }
                *store.entries() = copy;
                Ok(())
            }),
        ),
        wrong(
            "concurrency::opposite_orders_all_end",
            "locks the keys of set_multi in the order of the call",
            Backend::right().async_set_multi(
                async |store: Store, entries: Vec<(String, Value)>| {
                    let entries = backend::last_of_each(entries);
                    let keys: Vec<String> = entries.iter().map(|(key, _)| key.clone()).collect();
                    lock_in_order(&store, &keys).await;
                    for key in &keys {
                        store.unmark(key);
                    }
                    backend::set_multi(&store, entries)
                },
            ),
        ),
        wrong(
            "concurrency::opposite_orders_all_end",
            "locks the keys of delete_multi in the order of the call",
            Backend::right().async_delete_multi(async |store: Store, keys: Vec<String>| {
                lock_in_order(&store, &keys).await;
                for key in &keys {
                    store.remove(key);
                    store.unmark(key);
                }
                Ok(())
            }),
        ),
        wrong(
            "concurrency::a_replaced_value_is_never_missing",
            "removes the old value before it writes the new one",
            Backend::right().async_set(async |store: Store, key: String, value: Value| {
                store.remove(&key);
                pause().await;
                backend::set(&store, &key, value)
            }),
        ),
        wrong(
            "concurrency::readers_agree_once_writers_stop",
            "reads from two replicas, and one lags behind",
            Backend::right()
                .set(|store, key, value| {
                    let old = store.read(key);
                    store.local().insert(key.to_owned(), old);
                    backend::set(store, key, value)
                })
                .get(|store, key| {
                    if store.next().is_multiple_of(3) {
                        let late = store.local().get(key).cloned().flatten();
                        return Ok(late.or_else(|| store.read(key)));
                    }
                    Ok(store.read(key))
                }),
        ),
        wrong(
            "concurrency::set_and_delete_do_not_collide",
            "fails when another caller deletes the same key",
            Backend::right().async_delete(async |store: Store, key: String| {
                if store.entry(&key).is_none() {
                    return Ok(());
                }
                pause().await;
                if store.remove(&key) {
                    return Ok(());
                }
                Err(error(ErrorKind::Backend, "the key was changed meanwhile"))
            }),
        ),
        wrong(
            "concurrency::histories_are_linearizable",
            "lets the second instance see writes late",
            Backend::right()
                .set(|store, key, value| {
                    let old = store.read(key);
                    let late = format!("late {key}");
                    match old {
                        Some(old) => store.write(&late, old),
                        None => store.discard(&late),
                    }
                    backend::set(store, key, value)
                })
                .get(|store, key| {
                    if store.is_first() {
                        return Ok(store.read(key));
                    }
                    Ok(store.read(&format!("late {key}")))
                }),
        ),
        wrong(
            "concurrency::histories_are_linearizable",
            "reports a write before it is applied",
            Backend::right().set(|store, key, value| {
                let (store, key) = (store.clone(), key.to_owned());
                tokio::spawn(async move {
                    pause().await;
                    backend::set(&store, &key, value)
                });
                Ok(())
            }),
        ),
    ]
}

/// Locks one key after another.
async fn lock_in_order(store: &Store, keys: &[String]) {
    for key in keys {
        while !store.mark(key) {
            pause().await;
        }
        yield_now().await;
    }
}

pub(super) fn cancellation() -> Vec<Mutant> {
    let mut all = dropped_calls();
    all.extend(leaks());
    all
}

/// Whether the value is sent in several parts.
fn is_large(value: &Value) -> bool {
    value.payload().len() > 1_000
}

fn dropped_calls() -> Vec<Mutant> {
    vec![
        wrong(
            "cancellation::get_may_be_dropped",
            "removes a value while it reads it",
            Backend::right().async_get(async |store: Store, key: String| {
                let found = store.read(&key);
                let taken = store.entries().remove(&key);
                pause().await;
                if let Some((value, deadline)) = taken {
                    store.write_until(&key, value, deadline);
                }
                Ok(found)
            }),
        ),
        wrong(
            "cancellation::get_may_be_dropped",
            "lets the next get of the key wait for one that was dropped",
            Backend::right().async_get(async |store: Store, key: String| {
                while !store.mark(&key) {
                    pause().await;
                }
                yield_now().await;
                store.unmark(&key);
                store.fetch(&key)
            }),
        ),
        wrong(
            "cancellation::set_may_be_dropped",
            "leaves the key locked when a set is dropped",
            Backend::right().async_set(async |store: Store, key: String, value: Value| {
                if !store.mark(&key) {
                    return Err(error(ErrorKind::Backend, "the key is locked"));
                }
                yield_now().await;
                store.unmark(&key);
                backend::set(&store, &key, value)
            }),
        ),
        wrong(
            "cancellation::large_values_may_be_dropped",
            "leaves the rest of a large value in the connection when a get is dropped",
            Backend::right().async_get(async |store: Store, key: String| {
                if store.unmark("rest") {
                    return Ok(None);
                }
                let found = store.fetch(&key)?;
                if found.as_ref().is_some_and(is_large) {
                    store.mark("rest");
                    yield_now().await;
                    store.unmark("rest");
                }
                Ok(found)
            }),
        ),
        wrong(
            "cancellation::large_values_may_be_dropped",
            "has stored half of a large value when a set is dropped",
            Backend::right().async_set(async |store: Store, key: String, value: Value| {
                if is_large(&value) {
                    let half = |mut payload: Vec<u8>| {
                        payload.truncate(payload.len() / 2);
                        payload
                    };
                    store.write(&key, value.clone().map(half));
                    yield_now().await;
                }
                backend::set(&store, &key, value)
            }),
        ),
        wrong(
            "cancellation::set_may_be_dropped",
            "loses the old value when a set is dropped",
            Backend::right().async_set(async |store: Store, key: String, value: Value| {
                store.discard(&key);
                pause().await;
                backend::set(&store, &key, value)
            }),
        ),
        wrong(
            "cancellation::set_may_be_dropped",
            "never releases a lock when a set is dropped",
            Backend::right().async_set(async |store: Store, key: String, value: Value| {
                while !store.mark("locked") {
                    pause().await;
                }
                pause().await;
                store.write(&key, value);
                store.unmark("locked");
                Ok(())
            }),
        ),
        wrong(
            "cancellation::delete_may_be_dropped",
            "empties a value before it deletes it",
            Backend::right().async_delete(async |store: Store, key: String| {
                if store.entry(&key).is_some() {
                    store.write(&key, value(""));
                }
                pause().await;
                store.remove(&key);
                Ok(())
            }),
        ),
        wrong(
            "cancellation::get_multi_may_be_dropped",
            "marks keys as being read, and never unmarks them when dropped",
            Backend::right().async_get_multi(async |store: Store, keys: Vec<String>| {
                for key in &keys {
                    if !store.mark(key) {
                        return Err(error(ErrorKind::Backend, "the key is being read"));
                    }
                    yield_now().await;
                    store.unmark(key);
                }
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        ),
        wrong(
            "cancellation::set_multi_may_be_dropped",
            "removes all old values before it sets the new ones",
            Backend::right().async_set_multi(
                async |store: Store, entries: Vec<(String, Value)>| {
                    for (key, _) in &entries {
                        store.discard(key);
                    }
                    pause().await;
                    backend::set_multi(&store, entries)
                },
            ),
        ),
        wrong(
            "cancellation::delete_multi_may_be_dropped",
            "empties values before it deletes them",
            Backend::right().async_delete_multi(async |store: Store, keys: Vec<String>| {
                for key in keys.iter().filter(|key| store.entry(key).is_some()) {
                    store.write(key, value(""));
                }
                pause().await;
                for key in &keys {
                    store.discard(key);
                }
                Ok(())
            }),
        ),
    ]
}

fn leaks() -> Vec<Mutant> {
    vec![
        wrong(
            "cancellation::a_thousand_drops_leak_nothing",
            "never releases the slot of a dropped call",
            Backend::right().pass(async |store: Store, _| {
                const SLOTS: usize = 300;
                if *store.count() >= SLOTS {
                    return Err(error(ErrorKind::PoolExhausted, "no slot is free"));
                }
                store.next();
                yield_now().await;
                *store.count() -= 1;
                Ok(())
            }),
        ),
        wrong(
            "cancellation::drops_do_not_disturb_other_callers",
            "gives the response of a dropped call to the next",
            Backend::right().async_get(answer_in_line),
        ),
    ]
}

/// Responses arrive in order, as on a connection.
pub(super) async fn answer_in_line(store: Store, key: String) -> Result<Option<Value>> {
    let now = store.now();
    store.list().push((now, key));
    yield_now().await;
    let (_, next) = store.list().remove(0);
    Ok(store.read(&next))
}
