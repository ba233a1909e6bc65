//! Wrong when there are several instances, callers, or calls that nobody waits for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_core::{ErrorKind, Result};
use tokio::task::yield_now;

use super::{Wrong, value, wrong};
use crate::support::mutant::{self, Mutant, error};
use crate::support::store::{Store, Value};

/// Long enough for another task to come between.
async fn pause() {
    tokio::time::sleep(Duration::from_micros(200)).await;
}

pub(crate) fn sharing() -> Vec<Wrong> {
    vec![
        wrong(
            "sharing::a_second_instance_sees_what_is_set",
            "gives each instance a store of its own",
            Mutant::new().again(|store| Store {
                entries: Arc::default(),
                ..store.again()
            }),
        ),
        wrong(
            "sharing::a_second_instance_sees_what_is_replaced",
            "serves its own copy of what it has read",
            Mutant::new()
                .get(|store, key| {
                    let mut local = store.local.lock().unwrap();
                    if let Some(Some(copy)) = local.get(key) {
                        return Ok(Some(copy.clone()));
                    }
                    let found = store.read(key);
                    local.insert(key.to_owned(), found.clone());
                    Ok(found)
                })
                .set(|store, key, value| {
                    store.local.lock().unwrap().remove(key);
                    mutant::set(store, key, value)
                })
                .delete(|store, key| {
                    store.local.lock().unwrap().remove(key);
                    store.remove(key);
                    Ok(())
                }),
        ),
        wrong(
            "sharing::a_second_instance_sees_what_is_deleted",
            "deletes in its own view only",
            Mutant::new()
                .delete(|store, key| {
                    store.local.lock().unwrap().insert(key.to_owned(), None);
                    Ok(())
                })
                .set(|store, key, value| {
                    store.local.lock().unwrap().remove(key);
                    mutant::set(store, key, value)
                })
                .get(|store, key| {
                    if store.local.lock().unwrap().contains_key(key) {
                        return Ok(None);
                    }
                    Ok(store.read(key))
                }),
        ),
        wrong(
            "sharing::a_second_instance_sees_a_miss_filled",
            "remembers misses",
            Mutant::new()
                .get(|store, key| {
                    let mut local = store.local.lock().unwrap();
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
                    store.local.lock().unwrap().remove(key);
                    mutant::set(store, key, value)
                }),
        ),
        wrong(
            "sharing::metadata_is_shared",
            "keeps the cached time where it was set",
            Mutant::new().get(|store, key| {
                let found = store.read(key);
                if store.is_first {
                    return Ok(found);
                }
                Ok(found.map(|found| found.with_cached_at(SystemTime::now())))
            }),
        ),
        wrong(
            "sharing::deadlines_are_shared",
            "keeps the deadline where it was set",
            Mutant::new().read(|store, key| {
                if store.is_first {
                    return Ok(store.read(key));
                }
                let entry = store.entry(key).map(|(found, _)| found);
                Ok(entry.filter(|value| value.ttl() != Some(Duration::ZERO)))
            }),
        ),
        wrong(
            "sharing::an_instance_outlives_the_other",
            "clears the store when an instance is dropped",
            Mutant::new().on_drop(|store| store.entries.lock().unwrap().clear()),
        ),
        wrong(
            "sharing::instances_write_at_the_same_time",
            "writes the whole map back",
            Mutant::new().async_set(async |store: Store, key: String, value: Value| {
                let mut copy = store.entries.lock().unwrap().clone();
                pause().await;
                let deadline = store.deadline(&value);
                copy.insert(key, (value, deadline));
                *store.entries.lock().unwrap() = copy;
                Ok(())
            }),
        ),
        wrong(
            "sharing::namespaces_stay_apart",
            "decodes what a namespace has escaped",
            Mutant::new().keys(|key| key.replace("%3A", ":")),
        ),
        wrong(
            "sharing::foreign_data_is_left_alone",
            "clears the store when many keys are deleted",
            Mutant::new().delete_multi(|store, keys| {
                if keys.len() > 10 {
                    store.entries.lock().unwrap().clear();
                }
                for key in &keys {
                    store.discard(key);
                }
                Ok(())
            }),
        ),
    ]
}

pub(crate) fn concurrency() -> Vec<Wrong> {
    vec![
        wrong(
            "concurrency::answers_belong_to_their_questions",
            "keeps the key of the call in the instance",
            Mutant::new().async_get(async |store: Store, key: String| {
                let asked = store
                    .local
                    .lock()
                    .unwrap()
                    .insert(String::new(), Some(value(key)));
                drop(asked);
                pause().await;
                let asked = store.local.lock().unwrap().get("").cloned().flatten();
                let asked = asked.map(Value::into_payload).unwrap_or_default();
                Ok(store.read(&String::from_utf8_lossy(&asked)))
            }),
        ),
        wrong(
            "concurrency::no_value_is_torn",
            "writes a payload in two halves",
            Mutant::new().async_set(async |store: Store, key: String, value: Value| {
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
                mutant::set(&store, &key, value)
            }),
        ),
        wrong(
            "concurrency::metadata_goes_with_its_payload",
            "writes the payload before its metadata",
            Mutant::new().async_set(async |store: Store, key: String, value: Value| {
                if let Some(old) = store.read(&key) {
                    store.write(&key, value.clone().with_cached_at(old.cached_at()));
                    pause().await;
                }
                mutant::set(&store, &key, value)
            }),
        ),
        wrong(
            "concurrency::no_key_is_lost",
            "drops a write when another is going on",
            Mutant::new().async_set(async |store: Store, key: String, value: Value| {
                if store.mark("busy") {
                    yield_now().await;
                    let done = mutant::set(&store, &key, value);
                    store.unmark("busy");
                    return done;
                }
                Ok(())
            }),
        ),
        wrong(
            "concurrency::a_replaced_value_is_never_missing",
            "removes the old value before it writes the new one",
            Mutant::new().async_set(async |store: Store, key: String, value: Value| {
                store.remove(&key);
                pause().await;
                mutant::set(&store, &key, value)
            }),
        ),
        wrong(
            "concurrency::readers_agree_once_writers_stop",
            "reads from two replicas, one of which is late",
            Mutant::new()
                .set(|store, key, value| {
                    let old = store.read(key);
                    store.local.lock().unwrap().insert(key.to_owned(), old);
                    mutant::set(store, key, value)
                })
                .get(|store, key| {
                    if store.next().is_multiple_of(3) {
                        let late = store.local.lock().unwrap().get(key).cloned().flatten();
                        return Ok(late.or_else(|| store.read(key)));
                    }
                    Ok(store.read(key))
                }),
        ),
        wrong(
            "concurrency::set_and_delete_do_not_collide",
            "fails when what it deletes is gone meanwhile",
            Mutant::new().async_delete(async |store: Store, key: String| {
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
            Mutant::new()
                .set(|store, key, value| {
                    let old = store.read(key);
                    let late = format!("late {key}");
                    match old {
                        Some(old) => store.write(&late, old),
                        None => store.discard(&late),
                    }
                    mutant::set(store, key, value)
                })
                .get(|store, key| {
                    if store.is_first {
                        return Ok(store.read(key));
                    }
                    Ok(store.read(&format!("late {key}")))
                }),
        ),
        wrong(
            "concurrency::histories_are_linearizable",
            "answers a write before it is done",
            Mutant::new().set(|store, key, value| {
                let (store, key) = (store.clone(), key.to_owned());
                tokio::spawn(async move {
                    pause().await;
                    mutant::set(&store, &key, value)
                });
                Ok(())
            }),
        ),
    ]
}

pub(crate) fn cancellation() -> Vec<Wrong> {
    let mut all = dropped_calls();
    all.extend(leaks());
    all
}

fn dropped_calls() -> Vec<Wrong> {
    vec![
        wrong(
            "cancellation::get_may_be_dropped",
            "takes a value out while it reads it",
            Mutant::new().async_get(async |store: Store, key: String| {
                let found = store.read(&key);
                let taken = store.entries.lock().unwrap().remove(&key);
                pause().await;
                if let Some((value, deadline)) = taken {
                    store.write_until(&key, value, deadline);
                }
                Ok(found)
            }),
        ),
        wrong(
            "cancellation::set_may_be_dropped",
            "loses the old value when a set is dropped",
            Mutant::new().async_set(async |store: Store, key: String, value: Value| {
                store.discard(&key);
                pause().await;
                mutant::set(&store, &key, value)
            }),
        ),
        wrong(
            "cancellation::set_may_be_dropped",
            "holds a lock that a dropped set never gives back",
            Mutant::new().async_set(async |store: Store, key: String, value: Value| {
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
            Mutant::new().async_delete(async |store: Store, key: String| {
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
            Mutant::new().async_get_multi(async |store: Store, keys: Vec<String>| {
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
            Mutant::new().async_set_multi(async |store: Store, entries: Vec<(String, Value)>| {
                for (key, _) in &entries {
                    store.discard(key);
                }
                pause().await;
                mutant::set_multi(&store, entries)
            }),
        ),
        wrong(
            "cancellation::delete_multi_may_be_dropped",
            "empties values before it deletes them",
            Mutant::new().async_delete_multi(async |store: Store, keys: Vec<String>| {
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

fn leaks() -> Vec<Wrong> {
    vec![
        wrong(
            "cancellation::a_thousand_drops_leak_nothing",
            "never gives back the slot of a dropped call",
            Mutant::new().pass(async |store: Store, _| {
                const SLOTS: usize = 300;
                if *store.count.lock().unwrap() >= SLOTS {
                    return Err(error(ErrorKind::PoolExhausted, "no slot is free"));
                }
                store.next();
                yield_now().await;
                *store.count.lock().unwrap() -= 1;
                Ok(())
            }),
        ),
        wrong(
            "cancellation::drops_do_not_disturb_other_callers",
            "gives the answer of a dropped call to the next",
            Mutant::new().async_get(answer_in_line),
        ),
    ]
}

/// Answers wait in one line, as on a connection.
async fn answer_in_line(store: Store, key: String) -> Result<Option<Value>> {
    let now = store.now();
    store.list.lock().unwrap().push((now, key));
    yield_now().await;
    let (_, next) = store.list.lock().unwrap().remove(0);
    Ok(store.read(&next))
}
