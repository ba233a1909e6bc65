//! Wrong in what a cache does at all, and to several keys at once.

use std::collections::HashSet;

use cache_core::ErrorKind;

use super::{Wrong, value, wrong};
use crate::support::mutant::{self, Mutant, check_key, error};

pub(crate) fn basic() -> Vec<Wrong> {
    vec![
        wrong(
            "basic::an_absent_key_is_a_miss",
            "takes an absent key for an empty value",
            Mutant::new().get(|store, key| Ok(store.read(key).or_else(|| Some(value(""))))),
        ),
        wrong(
            "basic::an_absent_key_is_a_miss",
            "makes a miss an error",
            Mutant::new().get(|store, key| match store.read(key) {
                None => Err(error(ErrorKind::Backend, "no such key")),
                found => Ok(found),
            }),
        ),
        wrong(
            "basic::a_set_value_is_found",
            "sets nothing",
            Mutant::new().set(|_, _, _| Ok(())),
        ),
        wrong(
            "basic::reading_does_not_consume",
            "takes out what it reads",
            Mutant::new().get(|store, key| {
                let found = store.read(key);
                store.remove(key);
                Ok(found)
            }),
        ),
        wrong(
            "basic::reading_does_not_consume",
            "takes out what it reads by get_multi",
            Mutant::new().get_multi(|store, keys| {
                let found = keys.iter().map(|key| store.read(key)).collect();
                store.remove_where(|key| keys.iter().any(|read| read == key));
                Ok(found)
            }),
        ),
        wrong(
            "basic::set_replaces",
            "sets only what is absent",
            Mutant::new().set(|store, key, value| {
                if store.read(key).is_none() {
                    store.write(key, value);
                }
                Ok(())
            }),
        ),
        wrong(
            "basic::delete_removes",
            "deletes nothing",
            Mutant::new().delete(|_, _| Ok(())),
        ),
        wrong(
            "basic::delete_removes",
            "empties what it should delete",
            Mutant::new().delete(|store, key| {
                store.write(key, value(""));
                Ok(())
            }),
        ),
        wrong(
            "basic::deleting_an_absent_key_succeeds",
            "cannot delete what is absent",
            Mutant::new().delete(|store, key| {
                if store.remove(key) {
                    Ok(())
                } else {
                    Err(error(ErrorKind::Backend, "no such key"))
                }
            }),
        ),
        wrong(
            "basic::a_deleted_key_can_be_set_again",
            "never sets again what was deleted",
            Mutant::new()
                .delete(|store, key| {
                    store.remove(key);
                    store.mark(key);
                    Ok(())
                })
                .set(|store, key, value| {
                    if !store.is_marked(key) {
                        store.write(key, value);
                    }
                    Ok(())
                }),
        ),
        wrong(
            "basic::set_touches_its_key_only",
            "removes keys that begin with the one that is set",
            Mutant::new().set(|store, key, value| {
                store.remove_where(|other| other.len() > key.len() && other.starts_with(key));
                store.write(key, value);
                Ok(())
            }),
        ),
        wrong(
            "basic::delete_touches_its_key_only",
            "deletes by prefix",
            Mutant::new().delete(|store, key| {
                store.remove_where(|other| other.starts_with(key));
                Ok(())
            }),
        ),
        wrong(
            "basic::many_keys_are_kept",
            "keeps a hundred keys",
            Mutant::new().set(|store, key, value| {
                let len = store.entries.lock().unwrap().len();
                if len >= 100 {
                    store.entries.lock().unwrap().clear();
                }
                store.write(key, value);
                Ok(())
            }),
        ),
    ]
}

pub(crate) fn multi() -> Vec<Wrong> {
    let mut all = multi_reads();
    all.extend(multi_writes());
    all.extend(multi_refusals());
    all
}

fn multi_reads() -> Vec<Wrong> {
    vec![
        wrong(
            "multi::order_is_kept",
            "answers in the order of its keys",
            Mutant::new().get_multi(|store, mut keys| {
                keys.sort();
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        ),
        wrong(
            "multi::order_is_kept",
            "answers backwards",
            Mutant::new().get_multi(|store, keys| {
                Ok(keys.iter().rev().map(|key| store.read(key)).collect())
            }),
        ),
        wrong(
            "multi::duplicates_are_answered_in_place",
            "answers a repeated key once, then as a miss",
            Mutant::new().get_multi(|store, keys| {
                let mut seen = HashSet::new();
                let answer = |key: &String| seen.insert(key.clone()).then(|| store.read(key));
                Ok(keys.iter().map(answer).map(Option::flatten).collect())
            }),
        ),
        wrong(
            "multi::duplicates_are_answered_in_place",
            "gives fewer answers than there are keys",
            Mutant::new().get_multi(|store, mut keys| {
                keys.dedup();
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        ),
        wrong(
            "multi::misses_stay_in_place",
            "answers hits before misses",
            Mutant::new().get_multi(|store, keys| {
                let mut found: Vec<_> = keys.iter().map(|key| store.read(key)).collect();
                found.sort_by_key(Option::is_none);
                Ok(found)
            }),
        ),
        wrong(
            "multi::misses_stay_in_place",
            "takes a single miss for many",
            Mutant::new().get_multi(|store, keys| {
                let found: Vec<_> = keys.iter().map(|key| store.read(key)).collect();
                if found.iter().any(Option::is_none) {
                    return Ok(vec![None; keys.len()]);
                }
                Ok(found)
            }),
        ),
        wrong(
            "multi::only_misses_are_answered",
            "answers nothing when nothing is found",
            Mutant::new().get_multi(|store, keys| {
                let found: Vec<_> = keys.iter().map(|key| store.read(key)).collect();
                Ok(if found.iter().all(Option::is_none) {
                    Vec::new()
                } else {
                    found
                })
            }),
        ),
        wrong(
            "multi::no_keys_are_no_work",
            "refuses an empty list of keys",
            Mutant::new().get_multi(|store, keys| {
                if keys.is_empty() {
                    return Err(error(ErrorKind::Backend, "no keys"));
                }
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        ),
        wrong(
            "multi::no_keys_are_no_work",
            "refuses an empty list of entries",
            Mutant::new().set_multi(|store, entries| {
                if entries.is_empty() {
                    return Err(error(ErrorKind::Backend, "no entries"));
                }
                mutant::set_multi(store, entries)
            }),
        ),
        wrong(
            "multi::one_key_is_enough",
            "takes one entry for none",
            Mutant::new().set_multi(|store, entries| match entries.len() {
                0 | 1 => Ok(()),
                _ => mutant::set_multi(store, entries),
            }),
        ),
        wrong(
            "multi::odd_keys_keep_their_places",
            "answers keys that it encodes after the others",
            Mutant::new().get_multi(|store, mut keys| {
                keys.sort_by_key(|key| !key.bytes().all(|byte| byte.is_ascii_graphic()));
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        ),
    ]
}

fn multi_writes() -> Vec<Wrong> {
    vec![
        wrong(
            "multi::set_multi_sets_each",
            "leaves what is there alone in set_multi",
            Mutant::new().set_multi(|store, entries| {
                let is_new = |(key, _): &(String, _)| store.read(key).is_none();
                let new = entries.into_iter().filter(is_new).collect();
                mutant::set_multi(store, new)
            }),
        ),
        wrong(
            "multi::set_multi_sets_each",
            "gives every key the last value",
            Mutant::new().set_multi(|store, entries| {
                let Some((_, last)) = entries.last().cloned() else {
                    return Ok(());
                };
                let same = entries.into_iter().map(|(key, _)| (key, last.clone()));
                mutant::set_multi(store, same.collect())
            }),
        ),
        wrong(
            "multi::the_last_of_repeated_keys_wins",
            "sets the first of repeated keys",
            Mutant::new().set_multi(|store, entries| {
                mutant::set_multi(store, entries.into_iter().rev().collect())
            }),
        ),
        wrong(
            "multi::delete_multi_removes_exactly_those",
            "deletes the first of several keys",
            Mutant::new().delete_multi(|store, keys| {
                keys.iter().take(1).for_each(|key| store.discard(key));
                Ok(())
            }),
        ),
        wrong(
            "multi::delete_multi_removes_exactly_those",
            "deletes everything between the keys",
            Mutant::new().delete_multi(|store, keys| {
                if let (Some(first), Some(last)) = (keys.iter().min(), keys.iter().max()) {
                    store.remove_where(|key| first.as_str() <= key && key <= last.as_str());
                }
                Ok(())
            }),
        ),
        wrong(
            "multi::delete_multi_takes_absent_keys",
            "stops deleting at an absent key",
            Mutant::new().delete_multi(|store, keys| {
                let _ = keys.iter().all(|key| store.remove(key));
                Ok(())
            }),
        ),
        wrong(
            "multi::delete_multi_takes_repeated_keys",
            "cannot delete a key twice in one call",
            Mutant::new().delete_multi(|store, keys| {
                let mut seen = HashSet::new();
                for key in &keys {
                    if !seen.insert(key) {
                        return Err(error(ErrorKind::Backend, "duplicate key in the request"));
                    }
                    store.remove(key);
                }
                Ok(())
            }),
        ),
        wrong(
            "multi::more_keys_than_a_batch",
            "sets the first batch only",
            Mutant::new().set_multi(|store, mut entries| {
                entries.truncate(512);
                mutant::set_multi(store, entries)
            }),
        ),
        wrong(
            "multi::more_keys_than_a_batch",
            "loses its place between batches",
            Mutant::new().get_multi(|store, keys| {
                let mut found = Vec::new();
                for batch in keys.chunks(128) {
                    let mut of_batch: Vec<_> = batch.iter().map(|key| store.read(key)).collect();
                    if batch.len() < 128 && keys.len() > 128 {
                        of_batch.reverse();
                    }
                    found.extend(of_batch);
                }
                Ok(found)
            }),
        ),
        wrong(
            "multi::more_bytes_than_a_message",
            "refuses an answer of half a megabyte",
            Mutant::new().get_multi(|store, keys| {
                let found: Vec<_> = keys.iter().map(|key| store.read(key)).collect();
                let len = |value: &crate::support::store::Value| value.payload().len();
                let bytes: usize = found.iter().flatten().map(len).sum();
                if bytes > 500_000 {
                    return Err(error(ErrorKind::Protocol, "message too large"));
                }
                Ok(found)
            }),
        ),
    ]
}

/// Lets the empty key pass where several keys are given.
fn lets_multi_pass(operation: &'static str, key: &str) -> cache_core::Result<()> {
    if operation.ends_with("multi") {
        return Ok(());
    }
    check_key(key)
}

fn multi_refusals() -> Vec<Wrong> {
    vec![
        wrong(
            "multi::an_invalid_key_refuses_set_multi",
            "sets what stands before an invalid key",
            Mutant::new()
                .check(lets_multi_pass)
                .set_multi(|store, entries| {
                    for (key, value) in entries {
                        check_key(&key)?;
                        store.write(&key, value);
                    }
                    Ok(())
                }),
        ),
        wrong(
            "multi::an_invalid_key_refuses_delete_multi",
            "deletes what stands before an invalid key",
            Mutant::new()
                .check(lets_multi_pass)
                .delete_multi(|store, keys| {
                    for key in keys {
                        check_key(&key)?;
                        store.remove(&key);
                    }
                    Ok(())
                }),
        ),
        wrong(
            "multi::an_invalid_key_refuses_get_multi",
            "answers an invalid key as a miss",
            Mutant::new().check(|operation, key| match operation {
                "get_multi" => Ok(()),
                _ => check_key(key),
            }),
        ),
    ]
}
