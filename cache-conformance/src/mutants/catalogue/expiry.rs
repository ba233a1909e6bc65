//! Mutants about lifetimes.

use std::time::{Duration, SystemTime};

use cache_core::{CachedValue, ErrorKind, Result, Ttl};

use crate::mutants::backend::{self, Backend, error};
use crate::mutants::mutant::{Mutant, wrong};
use crate::mutants::store::{Store, Value};

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

/// Gives each value another lifetime.
pub(super) fn lifetimes(
    lifetime: impl Fn(&Store, &Value) -> Option<Duration> + Send + Sync + Copy + 'static,
) -> Backend {
    Backend::right().write(move |store, key, value| {
        let deadline = lifetime(store, &value).and_then(|ttl| store.now().checked_add(ttl));
        store.write_until(key, value, deadline);
        Ok(())
    })
}

pub(super) fn right(store: &Store, value: &Value) -> Option<Duration> {
    value.ttl().or_default(store.default_ttl())
}

/// Replaces the lifetimes of the values of `set_multi`.
fn set_multi_as(change: impl Fn(&Store, Value) -> Value + Send + Sync + 'static) -> Backend {
    Backend::right().set_multi(move |store, entries| {
        let changed = entries
            .into_iter()
            .map(|(key, value)| (key, change(store, value)));
        backend::set_multi(store, changed.collect())
    })
}

/// Gives these values no deadline.
fn unless(keeps: impl Fn(&str, &Value) -> bool + Send + Sync + Copy + 'static) -> Backend {
    Backend::right().write(move |store, key, value| {
        let deadline = store.deadline(&value).filter(|_| !keeps(key, &value));
        store.write_until(key, value, deadline);
        Ok(())
    })
}

pub(super) fn expiry() -> Vec<Mutant> {
    let mut all = which_lifetime();
    all.extend(extreme_lifetimes());
    all.extend(deadlines());
    all.extend(reads());
    all
}

fn which_lifetime() -> Vec<Mutant> {
    vec![
        wrong(
            "expiry::own_ttl_expires",
            "ignores TTLs",
            lifetimes(|_, _| None),
        ),
        wrong(
            "expiry::own_ttl_expires",
            "serves a value at its deadline",
            lifetimes(|store, value| right(store, value).map(|ttl| ttl + Duration::from_nanos(1))),
        ),
        wrong(
            "expiry::default_ttl_expires",
            "ignores the default TTL",
            lifetimes(|_, value| value.ttl().duration()),
        ),
        wrong(
            "expiry::not_lost_before_the_deadline",
            "loses values a tenth of a second early",
            lifetimes(|store, value| {
                right(store, value).map(|ttl| ttl.saturating_sub(Duration::from_millis(100)))
            }),
        ),
        wrong(
            "expiry::not_lost_before_the_deadline",
            "cuts the fraction of a second off longer TTLs",
            lifetimes(|store, value| {
                let whole = |ttl: Duration| match ttl.as_secs() {
                    0 => ttl,
                    seconds => Duration::from_secs(seconds),
                };
                right(store, value).map(whole)
            }),
        ),
        wrong(
            "expiry::not_lost_before_the_deadline",
            "cuts the fraction of a second off longer TTLs in set_multi",
            set_multi_as(|_, value| match value.ttl() {
                Ttl::For(ttl) if ttl.as_secs() > 0 => {
                    value.with_ttl(Duration::from_secs(ttl.as_secs()))
                }
                _ => value,
            }),
        ),
        wrong(
            "expiry::not_lost_before_the_deadline",
            "cuts the fraction of a second off a longer default",
            lifetimes(|store, value| {
                let ttl = right(store, value);
                match value.ttl() {
                    Ttl::Default if ttl > Some(SECOND) => {
                        ttl.map(|ttl| Duration::from_secs(ttl.as_secs()))
                    }
                    _ => ttl,
                }
            }),
        ),
        wrong(
            "expiry::longer_own_ttl_beats_the_default",
            "treats the default as the maximum TTL",
            lifetimes(|store, value| {
                let longest = if store.default_ttl().is_zero() {
                    Duration::MAX
                } else {
                    store.default_ttl()
                };
                right(store, value).map(|ttl| ttl.min(longest))
            }),
        ),
        wrong(
            "expiry::shorter_own_ttl_beats_the_default",
            "treats the default as the minimum TTL",
            lifetimes(|store, value| {
                right(store, value).map(|ttl| {
                    if ttl.is_zero() {
                        ttl
                    } else {
                        ttl.max(store.default_ttl())
                    }
                })
            }),
        ),
        wrong(
            "expiry::never_beats_the_default",
            "applies the default to Ttl::Never",
            lifetimes(|store, value| match value.ttl() {
                Ttl::Never => Ttl::Default.or_default(store.default_ttl()),
                _ => right(store, value),
            }),
        ),
        wrong(
            "expiry::never_beats_the_default",
            "treats Ttl::Never as the default in set_multi",
            set_multi_as(|_, value| match value.ttl() {
                Ttl::Never => value.with_ttl(Ttl::Default),
                _ => value,
            }),
        ),
        wrong(
            "expiry::long_lifetimes_end_on_time",
            "shortens long lifetimes at random, so that values do not all expire together",
            lifetimes(|store, value| {
                let minute = Duration::from_secs(60);
                let jitter = |ttl: Duration| if ttl > minute { ttl * 49 / 50 } else { ttl };
                right(store, value).map(jitter)
            }),
        ),
        wrong(
            "expiry::long_lifetimes_end_on_time",
            "expires every value after a day",
            lifetimes(|store, value| {
                let ttl = right(store, value);
                ttl.map(|ttl| if ttl < 1000 * DAY { ttl.min(DAY) } else { ttl })
            }),
        ),
        wrong(
            "expiry::longer_own_ttl_beats_the_default",
            "keeps the default where set_multi replaces a value without a TTL",
            Backend::right().set_multi(|store, entries| {
                for (key, value) in entries {
                    let old = store.entry(&key);
                    let by_default = old.is_some_and(|(old, _)| old.ttl() == Ttl::Default);
                    let value = if by_default && !store.default_ttl().is_zero() {
                        value.with_ttl(Ttl::Default)
                    } else {
                        value
                    };
                    backend::set(store, &key, value)?;
                }
                Ok(())
            }),
        ),
        wrong(
            "expiry::without_any_ttl_nothing_expires",
            "treats a default of zero as thirty days",
            lifetimes(|store, value| right(store, value).or(Some(30 * DAY))),
        ),
        wrong(
            "expiry::set_multi_applies_the_default",
            "forgets the default TTL in set_multi",
            Backend::right().set_multi(|store, entries| {
                for (key, value) in entries {
                    let deadline = value
                        .ttl()
                        .duration()
                        .and_then(|ttl| store.now().checked_add(ttl));
                    store.write_until(&key, value, deadline);
                }
                Ok(())
            }),
        ),
        wrong(
            "expiry::set_multi_keeps_each_ttl",
            "forgets own TTLs in set_multi",
            set_multi_as(|_, value| {
                CachedValue::new(value.payload().clone()).with_cached_at(value.cached_at())
            }),
        ),
        wrong(
            "expiry::set_multi_keeps_each_ttl",
            "gives all values of set_multi the first TTL",
            Backend::right().set_multi(|store, entries| {
                let first = entries.first().and_then(|(_, value)| right(store, value));
                for (key, value) in entries {
                    let deadline = first.and_then(|ttl| store.now().checked_add(ttl));
                    store.write_until(&key, value, deadline);
                }
                Ok(())
            }),
        ),
        wrong(
            "expiry::the_clock_starts_at_set",
            "counts from the cached time",
            lifetimes(|store, value| {
                // As if the wall clock and the manual one had started together.
                let ahead = value.cached_at().duration_since(SystemTime::now());
                right(store, value).map(|ttl| match ahead {
                    Ok(ahead) => ttl.saturating_add(ahead),
                    Err(behind) => ttl.saturating_sub(behind.duration()),
                })
            }),
        ),
    ]
}

fn extreme_lifetimes() -> Vec<Mutant> {
    vec![
        wrong(
            "expiry::own_ttl_of_zero_is_expired_at_once",
            "treats a TTL of zero as no expiry",
            lifetimes(|store, value| right(store, value).filter(|ttl| !ttl.is_zero())),
        ),
        wrong(
            "expiry::own_ttl_of_zero_is_expired_at_once",
            "treats a TTL of zero as the default",
            lifetimes(|store, value| match value.ttl() {
                Ttl::For(Duration::ZERO) if !store.default_ttl().is_zero() => {
                    Some(store.default_ttl())
                }
                _ => right(store, value),
            }),
        ),
        wrong(
            "expiry::own_ttl_of_zero_removes_the_old_value",
            "does not send a value that has already expired",
            Backend::right().write(|store, key, value| {
                if value.ttl() == Ttl::For(Duration::ZERO) {
                    return Ok(());
                }
                backend::set(store, key, value)
            }),
        ),
        wrong(
            "expiry::tiny_ttls_expire",
            "truncates TTLs to milliseconds, and treats zero as no expiry",
            lifetimes(|store, value| {
                let own = value.ttl();
                match right(store, value) {
                    Some(ttl) if own != Ttl::For(Duration::ZERO) && ttl.as_millis() == 0 => None,
                    lifetime => lifetime,
                }
            }),
        ),
        wrong(
            "expiry::tiny_ttls_expire",
            "rounds TTLs up to tenths of a second",
            lifetimes(|store, value| {
                let tenth = Duration::from_millis(100);
                right(store, value).map(|ttl| if ttl.is_zero() { ttl } else { ttl.max(tenth) })
            }),
        ),
        wrong(
            "expiry::tiny_ttls_expire",
            "truncates the default to milliseconds, and treats zero as no expiry",
            lifetimes(|store, value| match value.ttl() {
                Ttl::Default => right(store, value).filter(|ttl| ttl.as_millis() > 0),
                _ => right(store, value),
            }),
        ),
        wrong(
            "expiry::a_huge_default_does_not_expire",
            "sends a default of more than thirty days as a date in 1970",
            lifetimes(|store, value| {
                let sent = |ttl: Duration| if ttl > 30 * DAY { Duration::ZERO } else { ttl };
                match value.ttl() {
                    Ttl::Default => right(store, value).map(sent),
                    _ => right(store, value),
                }
            }),
        ),
        wrong(
            "expiry::huge_ttls_do_not_expire",
            "sends more than thirty days as a date in 1970",
            lifetimes(|store, value| {
                right(store, value).map(|ttl| if ttl > 30 * DAY { Duration::ZERO } else { ttl })
            }),
        ),
        wrong(
            "expiry::huge_ttls_do_not_expire",
            "keeps seconds in 32 bits",
            lifetimes(|store, value| {
                let wrapped = |ttl: Duration| Duration::from_secs(ttl.as_secs() & 0xffff_ffff);
                right(store, value).map(|ttl| if ttl > 30 * DAY { wrapped(ttl) } else { ttl })
            }),
        ),
        wrong(
            "expiry::huge_ttls_do_not_expire",
            "fails on a TTL that it cannot add",
            Backend::right().write(|store, key, value| {
                match right(store, &value).map(|ttl| store.now().checked_add(ttl)) {
                    Some(None) if store.default_ttl().is_zero() => {
                        Err(error(ErrorKind::Backend, "overflow"))
                    }
                    _ => backend::set(store, key, value),
                }
            }),
        ),
        wrong(
            "expiry::a_huge_default_does_not_expire",
            "fails on a default TTL that it cannot add",
            Backend::right().write(|store, key, value| {
                if store.default_ttl() > 1_000_000 * DAY {
                    return Err(error(ErrorKind::Backend, "overflow"));
                }
                backend::set(store, key, value)
            }),
        ),
    ]
}

/// Sets with a deadline that depends on the new one and the old one.
fn with_old_deadline(
    store: &Store,
    key: &str,
    value: Value,
    combine: fn(Option<std::time::Instant>, std::time::Instant) -> Option<std::time::Instant>,
) -> Result<()> {
    let new = store.deadline(&value);
    let alive = store.read(key).is_some();
    let old = store.entry(key).and_then(|(_, deadline)| deadline);
    let deadline = match old {
        Some(old) if alive => combine(new, old),
        _ => new,
    };
    store.write_until(key, value, deadline);
    Ok(())
}

fn deadlines() -> Vec<Mutant> {
    vec![
        wrong(
            "expiry::a_longer_ttl_replaces_the_deadline",
            "keeps the earlier of two deadlines",
            Backend::right().write(|store, key, value| {
                with_old_deadline(store, key, value, |new, old| new.map(|new| new.min(old)))
            }),
        ),
        wrong(
            "expiry::a_shorter_ttl_replaces_the_deadline",
            "keeps the later of two deadlines",
            Backend::right().write(|store, key, value| {
                with_old_deadline(store, key, value, |new, old| new.map(|new| new.max(old)))
            }),
        ),
        wrong(
            "expiry::a_shorter_ttl_replaces_the_deadline",
            "does not add a deadline to an entry that had none",
            Backend::right().write(|store, key, value| match store.entry(key) {
                Some((_, None)) if value.ttl() != Ttl::For(Duration::ZERO) => {
                    store.write_until(key, value, None);
                    Ok(())
                }
                _ => backend::set(store, key, value),
            }),
        ),
        wrong(
            "expiry::set_without_ttl_removes_the_deadline",
            "keeps the old deadline when the new value has none",
            Backend::right().write(|store, key, value| {
                with_old_deadline(store, key, value, |new, old| new.or(Some(old)))
            }),
        ),
        wrong(
            "expiry::delete_removes_the_deadline",
            "leaves deleted keys in the list of deadlines",
            Backend::right()
                .set(|store, key, value| {
                    reap(store);
                    if let Some(deadline) = store.deadline(&value) {
                        // An overwrite checks the entry, a deletion does not.
                        store.list().push((deadline, key.to_owned()));
                    } else if store.entry(key).is_some() {
                        store.list().retain(|(_, other)| other != key);
                    }
                    store.write(key, value);
                    Ok(())
                })
                .get(|store, key| Ok(store.read(key))),
        ),
        wrong(
            "expiry::the_last_of_repeated_keys_sets_the_deadline",
            "gives a repeated key the deadline of its first value",
            Backend::right().set_multi(|store, entries| {
                for (position, (key, value)) in entries.iter().enumerate() {
                    let mut before = entries.iter().take(position);
                    let first = before.find(|(other, _)| other == key);
                    let deciding = first.map_or(value, |(_, first)| first);
                    store.write_until(key, value.clone(), store.deadline(deciding));
                }
                Ok(())
            }),
        ),
        wrong(
            "expiry::an_expired_key_can_be_set_again",
            "does not replace an expired value",
            Backend::right().set(|store, key, value| {
                let lies = store.entry(key).is_some() && store.read(key).is_none();
                if !lies {
                    store.write(key, value);
                }
                Ok(())
            }),
        ),
        wrong(
            "expiry::deleting_an_expired_value_succeeds",
            "fails to delete an expired value",
            Backend::right().delete(|store, key| {
                if store.entry(key).is_some() && store.read(key).is_none() {
                    return Err(error(ErrorKind::Backend, "the lease has expired"));
                }
                store.remove(key);
                Ok(())
            }),
        ),
    ]
}

/// Removes every key on the list whose deadline has passed.
pub(super) fn reap(store: &Store) {
    let now = store.now();
    let mut list = store.list();
    for (deadline, key) in list.iter() {
        if *deadline <= now {
            store.remove(key);
        }
    }
    list.retain(|(deadline, _)| *deadline > now);
}

fn reads() -> Vec<Mutant> {
    vec![
        wrong(
            "expiry::reading_does_not_extend",
            "restarts the lifetime on a read",
            Backend::right().get(prolong),
        ),
        wrong(
            "expiry::reading_does_not_extend",
            "restarts the lifetime on a read by get_multi",
            Backend::right()
                .get_multi(|store, keys| keys.iter().map(|key| prolong(store, key)).collect()),
        ),
        wrong(
            "expiry::get_multi_misses_the_expired",
            "serves expired values from get_multi",
            Backend::right().get_multi(|store, keys| {
                let value = |key: &String| store.entry(key).map(|(value, _)| value);
                Ok(keys.iter().map(value).collect())
            }),
        ),
        wrong(
            "expiry::get_multi_misses_the_expired",
            "serves an expired value once, and removes it",
            Backend::right().read(|store, key| {
                let found = store.read(key);
                if found.is_none()
                    && store
                        .entry(key)
                        .is_some_and(|(value, _)| value.ttl() != Ttl::For(Duration::ZERO))
                {
                    let late = store.entry(key).map(|(value, _)| value);
                    store.remove(key);
                    return Ok(late);
                }
                Ok(found)
            }),
        ),
        wrong(
            "expiry::every_value_expires",
            "never removes large values",
            unless(|_, value| value.payload().len() > 2_000),
        ),
        wrong(
            "expiry::every_value_expires",
            "never expires empty values",
            unless(|_, value| value.payload().is_empty()),
        ),
        wrong(
            "expiry::every_value_expires",
            "never expires values under keys that it encodes",
            unless(|key, _| !key.bytes().all(|byte| byte.is_ascii_graphic())),
        ),
        wrong(
            "expiry::every_value_expires",
            "does not check the deadline of large values in get_multi",
            Backend::right().get_multi(|store, keys| {
                let found = keys.iter().map(|key| {
                    let late = || store.entry(key).map(|(value, _)| value);
                    let large = || late().filter(|value| value.payload().len() > 2_000);
                    store.read(key).or_else(large)
                });
                Ok(found.collect())
            }),
        ),
        wrong(
            "expiry::many_expire_together",
            "sends the TTLs of the first five hundred values of a call",
            Backend::right().set_multi(|store, entries| {
                let sent = entries
                    .into_iter()
                    .enumerate()
                    .map(|(place, (key, value))| {
                        let value = match place {
                            0..500 => value,
                            _ => value.with_ttl(Ttl::Never),
                        };
                        (key, value)
                    });
                backend::set_multi(store, sent.collect())
            }),
        ),
        wrong(
            "expiry::many_expire_together",
            "checks the deadlines of only a hundred keys",
            Backend::right().get_multi(|store, keys| {
                let checked = keys.iter().take(100).map(|key| store.read(key));
                let rest = keys.iter().skip(100);
                let unchecked = rest.map(|key| store.entry(key).map(|(value, _)| value));
                Ok(checked.chain(unchecked).collect())
            }),
        ),
        wrong(
            "expiry::expired_values_stay_expired",
            "serves the previous value when the current one expires",
            Backend::right()
                .set(|store, key, value| {
                    let old = store.read(key).filter(|old| old.ttl() == Ttl::Never);
                    if old.is_some() {
                        store.local().insert(key.to_owned(), old);
                    }
                    store.write(key, value);
                    Ok(())
                })
                .get(|store, key| {
                    let found = store.read(key);
                    if found.is_none() && store.entry(key).is_some() {
                        let older = store.local().get(key).cloned();
                        return Ok(older.flatten());
                    }
                    Ok(found)
                }),
        ),
        wrong(
            "expiry::expired_values_stay_expired",
            "serves an expired value again when it is read often",
            Backend::right().get(|store, key| {
                let found = store.read(key);
                if found.is_none() && store.entry(key).is_some() && store.next() > 2 {
                    return Ok(store.entry(key).map(|(value, _)| value));
                }
                Ok(found)
            }),
        ),
    ]
}

pub(super) fn prolong(store: &Store, key: &str) -> Result<Option<Value>> {
    let found = store.read(key);
    if let (Some(_), Some((value, Some(_)))) = (&found, store.entry(key)) {
        store.write(key, value);
    }
    Ok(found)
}
