//! Mutants about the basic operations, and about several keys.

use std::collections::HashSet;

use cache_core::{Error, ErrorKind};

use crate::mutants::backend::{self, Backend, check_key, error};
use crate::mutants::mutant::{Mutant, wrong};
use crate::mutants::store::value;

pub(super) fn basic() -> Vec<Mutant> {
    vec![
        wrong(
            "basic::the_backend_can_be_reached",
            "cannot be reached",
            Backend::right()
                .pass(async |_, _| Err(error(ErrorKind::Unavailable, "connection refused"))),
        ),
        wrong(
            "basic::an_absent_key_is_a_miss",
            "returns an empty value for an absent key",
            Backend::right().get(|store, key| Ok(store.read(key).or_else(|| Some(value(""))))),
        ),
        wrong(
            "basic::an_absent_key_is_a_miss",
            "returns an error for a miss",
            Backend::right().get(|store, key| match store.read(key) {
                None => Err(error(ErrorKind::Backend, "no such key")),
                found => Ok(found),
            }),
        ),
        wrong(
            "basic::a_set_value_is_found",
            "stores nothing",
            Backend::right().set(|_, _, _| Ok(())),
        ),
        wrong(
            "basic::reading_does_not_consume",
            "removes a value that is read",
            Backend::right().get(|store, key| {
                let found = store.read(key);
                store.remove(key);
                Ok(found)
            }),
        ),
        wrong(
            "basic::reading_does_not_consume",
            "removes values that get_multi reads",
            Backend::right().get_multi(|store, keys| {
                let found = keys.iter().map(|key| store.read(key)).collect();
                store.remove_where(|key| keys.iter().any(|read| read == key));
                Ok(found)
            }),
        ),
        wrong(
            "basic::set_replaces",
            "sets only absent keys",
            Backend::right().set(|store, key, value| {
                if store.read(key).is_none() {
                    store.write(key, value);
                }
                Ok(())
            }),
        ),
        wrong(
            "basic::delete_removes",
            "deletes nothing",
            Backend::right().delete(|_, _| Ok(())),
        ),
        wrong(
            "basic::delete_removes",
            "stores an empty value instead of deleting",
            Backend::right().delete(|store, key| {
                store.write(key, value(""));
                Ok(())
            }),
        ),
        wrong(
            "basic::deleting_an_absent_key_succeeds",
            "fails to delete an absent key",
            Backend::right().delete(|store, key| {
                if store.remove(key) {
                    Ok(())
                } else {
                    Err(error(ErrorKind::Backend, "no such key"))
                }
            }),
        ),
        wrong(
            "basic::a_deleted_key_can_be_set_again",
            "never sets a key again that was deleted",
            Backend::right()
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
            "removes other keys with the same prefix on set",
            Backend::right().set(|store, key, value| {
                store.remove_where(|other| other.len() > key.len() && other.starts_with(key));
                store.write(key, value);
                Ok(())
            }),
        ),
        wrong(
            "basic::delete_touches_its_key_only",
            "deletes by prefix",
            Backend::right().delete(|store, key| {
                store.remove_where(|other| other.starts_with(key));
                Ok(())
            }),
        ),
        wrong(
            "basic::many_keys_are_kept",
            "keeps only a hundred keys",
            Backend::right().set(|store, key, value| {
                let len = store.entries().len();
                if len >= 100 {
                    store.entries().clear();
                }
                store.write(key, value);
                Ok(())
            }),
        ),
    ]
}

pub(super) fn multi() -> Vec<Mutant> {
    let mut all = multi_reads();
    all.extend(multi_writes());
    all.extend(multi_refusals());
    all
}

fn multi_reads() -> Vec<Mutant> {
    vec![
        wrong(
            "multi::order_is_kept",
            "returns results in the order of its own keys",
            Backend::right().get_multi(|store, mut keys| {
                keys.sort();
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        ),
        wrong(
            "multi::order_is_kept",
            "returns results in reverse order",
            Backend::right().get_multi(|store, keys| {
                Ok(keys.iter().rev().map(|key| store.read(key)).collect())
            }),
        ),
        wrong(
            "multi::duplicates_are_answered_in_place",
            "returns a repeated key once, then as a miss",
            Backend::right().get_multi(|store, keys| {
                let mut seen = HashSet::new();
                let answer = |key: &String| seen.insert(key.clone()).then(|| store.read(key));
                Ok(keys.iter().map(answer).map(Option::flatten).collect())
            }),
        ),
        wrong(
            "multi::duplicates_are_answered_in_place",
            "returns fewer results than there are keys",
            Backend::right().get_multi(|store, mut keys| {
                keys.dedup();
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        ),
        wrong(
            "multi::misses_stay_in_place",
            "returns hits before misses",
            Backend::right().get_multi(|store, keys| {
                let mut found: Vec<_> = keys.iter().map(|key| store.read(key)).collect();
                found.sort_by_key(Option::is_none);
                Ok(found)
            }),
        ),
        wrong(
            "multi::misses_stay_in_place",
            "returns one miss for several adjacent misses",
            Backend::right().get_multi(|store, keys| {
                let found: Vec<_> = keys.iter().map(|key| store.read(key)).collect();
                if found.iter().any(Option::is_none) {
                    return Ok(vec![None; keys.len()]);
                }
                Ok(found)
            }),
        ),
        wrong(
            "multi::only_misses_are_answered",
            "returns no results when nothing is found",
            Backend::right().get_multi(|store, keys| {
                let found: Vec<_> = keys.iter().map(|key| store.read(key)).collect();
                Ok(if found.iter().all(Option::is_none) {
                    Vec::new()
                } else {
                    found
                })
            }),
        ),
        wrong(
            "multi::no_keys_need_no_work",
            "returns a miss for an empty list of keys",
            Backend::right().get_multi(|store, keys| {
                if keys.is_empty() {
                    return Ok(vec![None]);
                }
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        ),
        wrong(
            "multi::no_keys_need_no_work",
            "refuses an empty list of entries",
            Backend::right().set_multi(|store, entries| {
                if entries.is_empty() {
                    return Err(error(ErrorKind::Backend, "no entries"));
                }
                backend::set_multi(store, entries)
            }),
        ),
        wrong(
            "multi::one_key_is_enough",
            "ignores a single entry",
            Backend::right().set_multi(|store, entries| match entries.len() {
                0 | 1 => Ok(()),
                _ => backend::set_multi(store, entries),
            }),
        ),
        wrong(
            "multi::encoded_keys_keep_their_places",
            "returns results of encoded keys after the others",
            Backend::right().get_multi(|store, mut keys| {
                keys.sort_by_key(|key| !key.bytes().all(|byte| byte.is_ascii_graphic()));
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        ),
    ]
}

fn multi_writes() -> Vec<Mutant> {
    vec![
        wrong(
            "multi::set_multi_sets_each",
            "does not replace existing values in set_multi",
            Backend::right().set_multi(|store, entries| {
                let is_new = |(key, _): &(String, _)| store.read(key).is_none();
                let new = entries.into_iter().filter(is_new).collect();
                backend::set_multi(store, new)
            }),
        ),
        wrong(
            "multi::set_multi_sets_each",
            "gives every key the last value",
            Backend::right().set_multi(|store, entries| {
                let Some((_, last)) = entries.last().cloned() else {
                    return Ok(());
                };
                let same = entries.into_iter().map(|(key, _)| (key, last.clone()));
                backend::set_multi(store, same.collect())
            }),
        ),
        wrong(
            "multi::the_last_of_repeated_keys_wins",
            "sets the first of repeated keys",
            Backend::right().set_multi(|store, entries| {
                backend::set_multi(store, entries.into_iter().rev().collect())
            }),
        ),
        wrong(
            "multi::delete_multi_removes_exactly_those",
            "deletes only the first of several keys",
            Backend::right().delete_multi(|store, keys| {
                keys.iter().take(1).for_each(|key| store.discard(key));
                Ok(())
            }),
        ),
        wrong(
            "multi::delete_multi_removes_exactly_those",
            "deletes everything between the keys",
            Backend::right().delete_multi(|store, keys| {
                if let (Some(first), Some(last)) = (keys.iter().min(), keys.iter().max()) {
                    store.remove_where(|key| first.as_str() <= key && key <= last.as_str());
                }
                Ok(())
            }),
        ),
        wrong(
            "multi::delete_multi_takes_absent_keys",
            "stops deleting at an absent key",
            Backend::right().delete_multi(|store, keys| {
                let _ = keys.iter().all(|key| store.remove(key));
                Ok(())
            }),
        ),
        wrong(
            "multi::delete_multi_takes_repeated_keys",
            "cannot delete a key twice in one call",
            Backend::right().delete_multi(|store, keys| {
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
            "multi::more_keys_than_fit_in_a_batch",
            "sets only the first batch",
            Backend::right().set_multi(|store, mut entries| {
                entries.truncate(512);
                backend::set_multi(store, entries)
            }),
        ),
        wrong(
            "multi::more_keys_than_fit_in_a_batch",
            "loses its place between batches",
            Backend::right().get_multi(|store, keys| {
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
            "multi::thousands_of_keys_in_one_call",
            "refuses more than five thousand keys",
            Backend::right().get_multi(|store, keys| {
                if keys.len() > 5_000 {
                    return Err(error(ErrorKind::Protocol, "too many keys"));
                }
                Ok(keys.iter().map(|key| store.read(key)).collect())
            }),
        ),
        wrong(
            "multi::thousands_of_keys_in_one_call",
            "counts entries in too few bytes",
            Backend::right().set_multi(|store, mut entries| {
                entries.truncate(4_096);
                backend::set_multi(store, entries)
            }),
        ),
        wrong(
            "multi::more_bytes_than_fit_in_a_message",
            "refuses a response of half a megabyte",
            Backend::right().get_multi(|store, keys| {
                let found: Vec<_> = keys.iter().map(|key| store.read(key)).collect();
                let len = |value: &crate::mutants::store::Value| value.payload().len();
                let bytes: usize = found.iter().flatten().map(len).sum();
                if bytes > 500_000 {
                    return Err(error(ErrorKind::Protocol, "message too large"));
                }
                Ok(found)
            }),
        ),
    ]
}

/// Accepts the empty key in multi operations.
fn lets_multi_pass(operation: &'static str, key: &str) -> cache_core::Result<()> {
    if operation.ends_with("multi") {
        return Ok(());
    }
    check_key(key)
}

fn multi_refusals() -> Vec<Mutant> {
    vec![
        wrong(
            "multi::an_invalid_key_fails_alone_in_set_multi",
            "sets the entries before an invalid key",
            Backend::right()
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
            "multi::an_invalid_key_fails_alone_in_set_multi",
            "sets nothing when a key is invalid",
            Backend::right()
                .check(lets_multi_pass)
                .set_multi(|store, entries| {
                    entries.iter().try_for_each(|(key, _)| check_key(key))?;
                    backend::set_multi(store, entries)
                }),
        ),
        wrong(
            "multi::an_invalid_key_fails_alone_in_set_multi",
            "names only the first of several keys that failed",
            Backend::right().merge(|merged| {
                merged.right().map_err(|error| match error.kind() {
                    ErrorKind::Partial => {
                        let first = error.keys().first().cloned();
                        error.with_keys(first)
                    }
                    _ => error,
                })
            }),
        ),
        wrong(
            "multi::an_invalid_key_fails_alone_in_delete_multi",
            "deletes the keys before an invalid key",
            Backend::right()
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
            "multi::an_invalid_key_fails_alone_in_set_multi",
            "counts a repeated invalid key twice",
            Backend::right()
                .check(lets_multi_pass)
                .set_multi(|store, entries| {
                    let distinct: HashSet<String> =
                        entries.iter().map(|(key, _)| key.clone()).collect();
                    let mut failed = Vec::new();
                    let mut cause = None;
                    for (key, value) in entries {
                        match check_key(&key) {
                            Ok(()) => store.write(&key, value),
                            Err(refusal) => {
                                failed.push(key);
                                cause = Some(refusal);
                            }
                        }
                    }
                    let total = distinct.len();
                    cause.map_or(Ok(()), |cause| Err(Error::partial(cause, failed, total)))
                }),
        ),
        wrong(
            "multi::an_invalid_key_fails_alone_in_delete_multi",
            "counts a repeated invalid key twice, but all keys once",
            Backend::right().merge(|mut merged| {
                let keys = merged.failed.iter().map(|(key, _)| key);
                let distinct: HashSet<&String> = keys.collect();
                merged.total -= merged.failed.len() - distinct.len();
                merged.right()
            }),
        ),
        wrong(
            "multi::an_invalid_key_fails_alone_in_get_multi",
            "gives all invalid keys the error of the first",
            Backend::right()
                .check(lets_multi_pass)
                .answers(|store, keys| {
                    let mut first = None;
                    let answer = |key: &String| match check_key(key) {
                        Ok(()) => store.fetch(key),
                        Err(refusal) => Err(first.get_or_insert(refusal).clone()),
                    };
                    keys.iter().map(answer).collect()
                }),
        ),
        wrong(
            "multi::an_invalid_key_fails_alone_in_get_multi",
            "puts the errors of several invalid keys back in the wrong order",
            Backend::right()
                .check(lets_multi_pass)
                .answers(|store, keys| {
                    let valid = keys.iter().filter(|key| check_key(key).is_ok());
                    let mut answers: Vec<_> = valid.map(|key| store.fetch(key)).collect();
                    for (place, key) in keys.iter().enumerate().rev() {
                        if let Err(refusal) = check_key(key) {
                            answers.insert(place.min(answers.len()), Err(refusal));
                        }
                    }
                    answers
                }),
        ),
        wrong(
            "multi::invalid_keys_alone_are_the_cause",
            "returns Partial when all keys are invalid",
            Backend::right().merge(|merged| {
                let done = merged.right();
                done.map_err(|error| match error.kind() {
                    ErrorKind::InvalidKey => {
                        let keys = error.keys().to_vec();
                        backend::error(ErrorKind::Partial, "some keys failed")
                            .with_keys(keys)
                            .with_source(error)
                    }
                    _ => error,
                })
            }),
        ),
        wrong(
            "multi::an_invalid_key_fails_alone_in_get_multi",
            "returns a miss for an invalid key",
            Backend::right().check(|operation, key| match operation {
                "get_multi" => Ok(()),
                _ => check_key(key),
            }),
        ),
        wrong(
            "multi::an_invalid_key_fails_alone_in_get_multi",
            "returns no values when a key is invalid",
            Backend::right()
                .check(lets_multi_pass)
                .get_multi(|store, keys| {
                    keys.iter().try_for_each(|key| check_key(key))?;
                    Ok(keys.iter().map(|key| store.read(key)).collect())
                }),
        ),
    ]
}
