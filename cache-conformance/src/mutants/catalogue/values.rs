//! Mutants about payloads, their size, and their metadata.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::{CachedValue, Error, ErrorKind, Result, Ttl};

use crate::Capabilities;
use crate::mutants::backend::{
    self, Backend, MAX_KEY, MAX_VALUE, check_key, error, set, too_large,
};
use crate::mutants::mutant::{Mutant, wrong};
use crate::mutants::store::{Store, Value, value};

/// Stores the payload changed.
fn stores(change: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + Copy + 'static) -> Backend {
    Backend::right().write(move |store, key, value| set(store, key, value.map(change)))
}

/// Stores the payload changed, however large.
fn unlimited(change: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + Copy + 'static) -> Backend {
    Backend::right().write(move |store, key, value| {
        store.write(key, value.map(change));
        Ok(())
    })
}

pub(super) fn values() -> Vec<Mutant> {
    vec![
        wrong(
            "values::the_empty_payload_is_a_hit",
            "treats an empty payload as a miss",
            Backend::right()
                .read(|store, key| Ok(store.read(key).filter(|found| !found.payload().is_empty()))),
        ),
        wrong(
            "values::every_byte_is_kept",
            "treats payloads as text",
            stores(|payload| String::from_utf8_lossy(&payload).into_owned().into_bytes()),
        ),
        wrong(
            "values::every_byte_is_kept",
            "ends payloads at a zero byte",
            stores(|payload| {
                let end = payload.windows(2).position(|pair| pair == [0, 0xff]);
                payload
                    .get(..end.unwrap_or(payload.len()))
                    .unwrap_or_default()
                    .to_vec()
            }),
        ),
        wrong(
            "values::ends_are_not_trimmed",
            "trims line ends off payloads",
            stores(|payload| payload.trim_ascii_end().to_vec()),
        ),
        wrong(
            "values::ends_are_not_trimmed",
            "pads payloads with zeros, and strips them",
            stores(|payload| {
                let zeros = payload.iter().rev().take_while(|byte| **byte == 0).count();
                payload
                    .get(..payload.len() - zeros)
                    .unwrap_or_default()
                    .to_vec()
            }),
        ),
        wrong(
            "values::protocol_words_are_kept",
            "treats a payload as the end of the response",
            Backend::right().read(|store, key| {
                Ok(store
                    .read(key)
                    .filter(|found| found.payload() != b"END\r\n"))
            }),
        ),
        wrong(
            "values::protocol_words_are_kept",
            "treats the payload null as a miss",
            Backend::right()
                .read(|store, key| Ok(store.read(key).filter(|found| found.payload() != b"null"))),
        ),
        wrong(
            "values::envelopes_are_kept",
            "strips metadata from payloads that have none",
            Backend::right().read(|store, key| {
                let unwrap = |payload: Vec<u8>| match payload.iter().position(|b| *b == b'|') {
                    Some(end) => payload.get(end + 1..).unwrap_or_default().to_vec(),
                    None => payload,
                };
                Ok(store.read(key).map(|found| found.map(unwrap)))
            }),
        ),
        wrong(
            "values::every_length_is_kept",
            "loses a byte at a boundary",
            stores(|mut payload| {
                if payload.len() == 1025 {
                    payload.truncate(1024);
                }
                payload
            }),
        ),
        wrong(
            "values::large_payloads_are_kept",
            "truncates large payloads",
            stores(|mut payload| {
                payload.truncate(MAX_VALUE - 1);
                payload
            }),
        ),
        wrong(
            "values::large_payloads_are_kept",
            "confuses megabytes with kilobytes",
            unlimited(|mut payload| {
                payload.truncate(2_000_000);
                payload
            }),
        )
        .declaring(|it| Capabilities {
            max_value: None,
            ..it
        }),
        wrong(
            "values::sizes_around_usual_limits_are_kept",
            "truncates payloads above a mebibyte",
            unlimited(|mut payload| {
                if payload.len() == (1 << 20) + 1 {
                    payload.pop();
                }
                payload
            }),
        )
        .declaring(|it| Capabilities {
            max_value: None,
            ..it
        }),
        wrong(
            "values::a_shorter_payload_leaves_nothing_behind",
            "overwrites only the beginning",
            Backend::right().set(|store, key, value| {
                let old = store.read(key).map(CachedValue::into_payload);
                let tail = old.unwrap_or_default();
                set(
                    store,
                    key,
                    value.map(|mut payload| {
                        payload.extend(tail.get(payload.len()..).unwrap_or_default());
                        payload
                    }),
                )
            }),
        ),
    ]
}

pub(super) fn limits() -> Vec<Mutant> {
    vec![
        wrong(
            "limits::the_longest_key_is_kept",
            "counts a terminator as part of the key",
            Backend::right().check(|_, key| match key.len() {
                MAX_KEY => Err(error(ErrorKind::InvalidKey, "too long").with_key(key)),
                _ => check_key(key),
            }),
        ),
        wrong(
            "limits::too_large_is_an_error",
            "silently drops values that are too large",
            Backend::right().set(|store, key, value| {
                store.remove(key);
                if too_large(key, &value).is_ok() {
                    store.write(key, value);
                }
                Ok(())
            }),
        ),
        wrong(
            "limits::too_large_is_an_error",
            "does not name the key of a value that is too large",
            Backend::right().set(|store, key, value| {
                set(store, key, value)
                    .map_err(|refusal| error(ErrorKind::ValueTooLarge, refusal.message()))
            }),
        ),
        wrong(
            "limits::too_large_removes_the_old_value",
            "serves the old value after a value that is too large",
            Backend::right().set(|store, key, value| {
                too_large(key, &value)?;
                store.write(key, value);
                Ok(())
            }),
        ),
        wrong(
            "limits::too_large_leaves_the_connection_usable",
            "leaves a response in the connection",
            Backend::right()
                .set(|store, key, value| {
                    set(store, key, value).inspect_err(|_| {
                        store.mark("left over");
                    })
                })
                .get(|store, key| {
                    if store.unmark("left over") {
                        return Ok(None);
                    }
                    Ok(store.read(key))
                }),
        ),
        wrong(
            "limits::too_large_fails_its_key_only",
            "stops at a value that is too large",
            Backend::right().set_multi(|store, entries| {
                let total = entries.len();
                let mut entries = entries.into_iter();
                while let Some((key, value)) = entries.next() {
                    if let Err(cause) = set(store, &key, value) {
                        let rest = entries.map(|(key, _)| key);
                        return Err(Error::partial(
                            cause,
                            std::iter::once(key).chain(rest),
                            total,
                        ));
                    }
                }
                Ok(())
            }),
        ),
        wrong(
            "limits::too_large_fails_its_key_only",
            "does not report one of several values that is too large",
            Backend::right().set_multi(|store, entries| {
                let total = entries.len();
                for (key, value) in entries {
                    let done = set(store, &key, value);
                    if total == 1 {
                        return done;
                    }
                }
                Ok(())
            }),
        ),
        wrong(
            "limits::too_large_fails_its_key_only",
            "names only the first of several values that are too large",
            Backend::right().set_multi(|store, entries| {
                backend::set_multi(store, entries).map_err(|error| {
                    let first = error.keys().first().cloned();
                    error.with_keys(first)
                })
            }),
        ),
        wrong(
            "limits::too_large_fails_its_key_only",
            "names a key by its place in the batch instead of the call",
            Backend::right().set_multi(|store, entries| {
                const BATCH: usize = 128;
                let entries = backend::last_of_each(entries);
                let keys: Vec<String> = entries.iter().map(|(key, _)| key.clone()).collect();
                let done = backend::set_multi(store, entries);
                done.map_err(|error| {
                    let misnamed = error.keys().iter().filter_map(|failed| {
                        let place = keys.iter().position(|key| key == failed)?;
                        keys.get(place % BATCH).cloned()
                    });
                    let misnamed: Vec<String> = misnamed.collect();
                    error.with_keys(misnamed)
                })
            }),
        ),
        wrong(
            "limits::too_large_fails_its_key_only",
            "removes the old value of only one value that is too large",
            Backend::right().set_multi(|store, entries| {
                let removed = std::cell::Cell::new(false);
                backend::each(
                    backend::last_of_each(entries),
                    |key, value| match too_large(key, &value) {
                        Err(refusal) => {
                            if !removed.replace(true) {
                                store.remove(key);
                            }
                            Err(refusal)
                        }
                        Ok(()) => set(store, key, value),
                    },
                )
            }),
        ),
        wrong(
            "limits::too_large_fails_its_key_only",
            "does not name values that are too large beside an invalid key",
            Backend::right().merge(|mut merged| {
                if !merged.failed.is_empty() {
                    merged.done = Ok(());
                }
                merged.right()
            }),
        ),
        wrong(
            "limits::a_repeated_key_is_as_large_as_its_last_value",
            "fails because of a value that is not the last",
            Backend::right().set_multi(|store, entries| {
                backend::each(entries, |key, value| set(store, key, value))
            }),
        ),
        wrong(
            "limits::a_repeated_key_is_as_large_as_its_last_value",
            "keeps the last value that is not too large",
            Backend::right().set_multi(|store, mut entries| {
                entries.retain(|(key, value)| too_large(key, value).is_ok());
                backend::set_multi(store, entries)
            }),
        ),
        wrong(
            "limits::the_largest_payload_is_kept",
            "does not leave room for the metadata",
            Backend::right().set(|store, key, value| {
                if value.payload().len() == MAX_VALUE {
                    return Err(error(ErrorKind::ValueTooLarge, "no room").with_key(key));
                }
                set(store, key, value)
            }),
        ),
    ]
}

fn whole_millis(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(0))
}

fn read_at(store: &Store, key: &str, cached_at: impl Fn(&Value) -> SystemTime) -> Option<Value> {
    let found = store.read(key)?;
    let cached_at = cached_at(&found);
    Some(found.with_cached_at(cached_at))
}

/// The value with another lifetime.
fn with_lifetime(found: &Value, ttl: Ttl) -> Value {
    let bare = value(found.payload().clone()).with_cached_at(found.cached_at());
    bare.with_ttl(ttl)
}

pub(super) fn metadata() -> Vec<Mutant> {
    vec![
        wrong(
            "metadata::the_cached_time_comes_back",
            "keeps milliseconds",
            Backend::right().read(|store, key| {
                Ok(read_at(store, key, |found| whole_millis(found.cached_at())))
            }),
        ),
        wrong(
            "metadata::the_cached_time_comes_back",
            "keeps no cached time",
            Backend::right().read(|store, key| Ok(read_at(store, key, |_| SystemTime::now()))),
        ),
        wrong(
            "metadata::old_and_future_times_are_kept",
            "replaces future cached times",
            Backend::right().read(|store, key| {
                Ok(read_at(store, key, |found| {
                    found.cached_at().min(SystemTime::now())
                }))
            }),
        ),
        wrong(
            "metadata::old_and_future_times_are_kept",
            "keeps seconds in signed 32 bits",
            Backend::right().read(|store, key| {
                Ok(read_at(store, key, |found| {
                    let since = found.cached_at().duration_since(UNIX_EPOCH);
                    let since = since.unwrap_or_default();
                    let most = Duration::from_secs((1 << 31) - 1);
                    UNIX_EPOCH + since.min(most)
                }))
            }),
        ),
        wrong(
            "metadata::the_time_left_is_returned",
            "does not return the time left of values from set_multi",
            Backend::right()
                .set_multi(|store, entries| {
                    for (key, value) in entries {
                        store.mark(&key);
                        set(store, &key, value)?;
                    }
                    Ok(())
                })
                .read(|store, key| {
                    let is_untold = store.is_marked(key);
                    let untold = |found: Value| {
                        if is_untold {
                            with_lifetime(&found, Ttl::Never)
                        } else {
                            found
                        }
                    };
                    Ok(store.read(key).map(untold))
                }),
        ),
        wrong(
            "metadata::set_replaces_the_cached_time",
            "keeps the later of two cached times",
            Backend::right().write(|store, key, value| {
                let old = store.read(key).map_or(UNIX_EPOCH, |old| old.cached_at());
                let younger = value.cached_at().max(old);
                set(store, key, value.with_cached_at(younger))
            }),
        ),
        wrong(
            "metadata::reading_does_not_touch_the_cached_time",
            "updates the cached time on a read",
            Backend::right().get(|store, key| {
                let found = store.read(key);
                if let Some((value, deadline)) = store.entry(key) {
                    store.write_until(key, value.with_cached_at(SystemTime::now()), deadline);
                }
                Ok(found)
            }),
        ),
        wrong(
            "metadata::multi_operations_keep_the_cached_time",
            "gives all values of a call the first one's cached time",
            Backend::right().get_multi(|store, keys| {
                let found: Vec<_> = keys.iter().map(|key| store.read(key)).collect();
                let first = found.iter().flatten().next().map(CachedValue::cached_at);
                let same = |found: Value| match first {
                    Some(first) => found.with_cached_at(first),
                    None => found,
                };
                Ok(found.into_iter().map(|found| found.map(same)).collect())
            }),
        ),
        wrong(
            "metadata::multi_operations_keep_the_cached_time",
            "gives the last value of a repeated key the cached time of the first",
            Backend::right().set_multi(|store, entries| {
                let firsts: HashMap<String, SystemTime> = entries
                    .iter()
                    .rev()
                    .map(|(key, value)| (key.clone(), value.cached_at()))
                    .collect();
                backend::each(backend::last_of_each(entries), |key, value| {
                    let first = firsts.get(key).copied();
                    set(
                        store,
                        key,
                        value.with_cached_at(first.unwrap_or(UNIX_EPOCH)),
                    )
                })
            }),
        ),
        wrong(
            "metadata::multi_operations_keep_the_cached_time",
            "keeps the cached time of the first hundred values of a call",
            Backend::right().set_multi(|store, entries| {
                let late = entries
                    .into_iter()
                    .enumerate()
                    .map(|(place, (key, value))| {
                        let value = match place {
                            0..100 => value,
                            _ => value.with_cached_at(SystemTime::now()),
                        };
                        (key, value)
                    });
                backend::set_multi(store, late.collect())
            }),
        ),
        wrong(
            "metadata::multi_operations_keep_the_cached_time",
            "moves cached times into the places of misses",
            Backend::right().get_multi(|store, keys| {
                let found: Vec<_> = keys.iter().map(|key| store.read(key)).collect();
                let times: Vec<_> = found.iter().flatten().map(CachedValue::cached_at).collect();
                let moved = found.into_iter().enumerate().map(|(place, found)| {
                    let cached_at = times.get(place).copied();
                    found.map(|found| found.with_cached_at(cached_at.unwrap_or(UNIX_EPOCH)))
                });
                Ok(moved.collect())
            }),
        ),
        wrong(
            "metadata::every_value_has_its_metadata",
            "keeps no cached time with large values",
            Backend::right().set(|store, key, value| {
                let value = match value.payload().len() {
                    0..2_000 => value,
                    _ => value.with_cached_at(SystemTime::now()),
                };
                set(store, key, value)
            }),
        ),
        wrong(
            "metadata::every_value_has_its_metadata",
            "keeps no cached time under keys that it encodes",
            Backend::right().set_multi(|store, entries| {
                let bare = entries.into_iter().map(|(key, value)| {
                    let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
                    let value = if is_plain {
                        value
                    } else {
                        value.with_cached_at(SystemTime::now())
                    };
                    (key, value)
                });
                backend::set_multi(store, bare.collect())
            }),
        ),
        wrong(
            "metadata::every_value_has_its_metadata",
            "returns no time left of large values",
            Backend::right().get_multi(|store, keys| {
                let bare = |found: Value| match found.payload().len() {
                    0..2_000 => found,
                    _ => with_lifetime(&found, Ttl::Never),
                };
                Ok(keys.iter().map(|key| store.read(key).map(bare)).collect())
            }),
        ),
        wrong(
            "metadata::the_time_left_is_returned",
            "returns the time left at the first position of a repeated key only",
            Backend::right().get_multi(|store, keys| {
                let mut seen = HashSet::new();
                let answer = |key: &String| {
                    let found = store.read(key);
                    if seen.insert(key.clone()) {
                        return found;
                    }
                    found.map(|found| with_lifetime(&found, Ttl::Default))
                };
                Ok(keys.iter().map(answer).collect())
            }),
        ),
        wrong(
            "metadata::no_expiry_is_never",
            "returns a very long TTL for values that never expire",
            Backend::right().read(|store, key| {
                let long = |found: Value| {
                    let ttl = found.ttl().duration().unwrap_or(Duration::MAX);
                    with_lifetime(&found, Ttl::For(ttl))
                };
                Ok(store.read(key).map(long))
            }),
        ),
        wrong(
            "metadata::the_time_left_is_returned",
            "does not return the time left",
            Backend::right().read(|store, key| {
                Ok(store
                    .read(key)
                    .map(|found| with_lifetime(&found, Ttl::Never)))
            }),
        ),
        wrong(
            "metadata::the_time_left_is_returned",
            "returns the time left only in get",
            Backend::right().get_multi(|store, keys| {
                let bare = |found: Value| with_lifetime(&found, Ttl::Never);
                Ok(keys.iter().map(|key| store.read(key).map(bare)).collect())
            }),
        ),
        wrong(
            "metadata::the_time_left_of_the_default_is_returned",
            "returns the time left only of values with their own TTL",
            Backend::right().read(|store, key| {
                let own = store
                    .entry(key)
                    .and_then(|(value, _)| value.ttl().duration());
                let known = |found: Value| match own {
                    None => with_lifetime(&found, Ttl::Never),
                    Some(_) => found,
                };
                Ok(store.read(key).map(known))
            }),
        ),
        wrong(
            "metadata::the_time_left_decreases",
            "returns the whole TTL instead of the time left",
            Backend::right().read(whole_lifetime),
        ),
    ]
}

fn whole_lifetime(store: &Store, key: &str) -> Result<Option<Value>> {
    let default = store.default_ttl();
    let whole = store
        .entry(key)
        .and_then(|(value, _)| value.ttl().or_default(default));
    let whole = whole.map_or(Ttl::Never, Ttl::For);
    Ok(store.read(key).map(|found| with_lifetime(&found, whole)))
}
