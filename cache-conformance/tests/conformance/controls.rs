//! Unusual but correct backends, which must pass.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use cache_conformance::mutants::{Backend, BackendHarness, Store, Value};
use cache_conformance::{Capabilities, Clock, Expiry, Fault, Requirement, Suite, Verdict};
use cache_core::{CachedValue, Error, ErrorKind, Result};
use tokio::task::yield_now;

const MAX_VALUE: usize = 4096;

/// How a backend stores a value that it accepts.
type Write = fn(&Store, &str, Value);

/// `set` of a correct backend.
fn set(store: &Store, key: &str, value: Value, write: Write) -> Result<()> {
    if value.payload().len() > MAX_VALUE {
        store.remove(key);
        let refusal = Error::new(
            ErrorKind::ValueTooLarge,
            "control",
            "larger than 4096 bytes",
        );
        return Err(refusal.with_key(key));
    }
    write(store, key, value);
    Ok(())
}

/// `set_multi` of a correct backend that sets each value like this.
fn set_each(entries: Vec<(String, Value)>, set: impl Fn(&str, Value) -> Result<()>) -> Result<()> {
    let mut last: HashMap<String, Value> = HashMap::new();
    last.extend(entries);
    let total = last.len();
    let mut failed = Vec::new();
    let mut cause = None;
    for (key, value) in last {
        if let Err(error) = set(&key, value) {
            failed.push(key);
            cause = cause.or(Some(error));
        }
    }
    cause.map_or(Ok(()), |cause| Err(Error::partial(cause, failed, total)))
}

/// `set_multi` of a correct backend.
fn set_multi(store: &Store, entries: Vec<(String, Value)>, write: Write) -> Result<()> {
    set_each(entries, |key, value| set(store, key, value, write))
}

/// A correct backend that stores values in this way.
fn writing(write: Write) -> Backend {
    Backend::right()
        .set(move |store, key, value| set(store, key, value, write))
        .set_multi(move |store, entries| set_multi(store, entries, write))
}

/// The effect of the current fault on a call.
async fn reaches(store: &Store) -> Result<()> {
    match store.fault() {
        None => Ok(()),
        Some(Fault::Silent) => {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Err(Error::new(
                ErrorKind::Timeout,
                "control",
                "no response within 60 ms",
            ))
        }
        Some(_) => Err(Error::new(
            ErrorKind::Unavailable,
            "control",
            "the server is dead",
        )),
    }
}

/// Runs the whole suite, in which every rule that applies must pass. Returns how many do not apply.
fn is_right(backend: Backend, declaring: fn(Capabilities) -> Capabilities) -> usize {
    let harness = BackendHarness::patient(backend).declaring(declaring);
    let report = Suite::new(harness).run();
    assert!(report.is_ok(), "{report}");
    let skipped =
        |rule: &&cache_conformance::RuleReport| matches!(rule.verdict, Verdict::NotApplicable(_));
    report.rules.iter().filter(skipped).count()
}

/// None of these backends is immediate.
const BY_HAND: usize = 1;
/// Steady lifetimes are tested only on a manual clock.
const BY_THE_REAL_CLOCK: usize = 2;

fn late(delay: Duration) -> Backend {
    Backend::right().pass(move |store: Store, _| async move {
        tokio::time::sleep(delay).await;
        reaches(&store).await
    })
}

#[test]
fn a_distant_server() {
    assert_eq!(is_right(late(Duration::from_millis(3)), |it| it), BY_HAND);
}

#[test]
#[ignore = "takes minutes"]
fn a_very_distant_server() {
    assert_eq!(is_right(late(Duration::from_millis(200)), |it| it), BY_HAND);
}

#[test]
#[ignore = "takes minutes"]
fn a_very_distant_server_on_the_real_clock() {
    let real = |it: Capabilities| it.with_clock(Clock::Real);
    assert_eq!(
        is_right(late(Duration::from_millis(200)), real),
        BY_THE_REAL_CLOCK
    );
}

/// Loses values on whole seconds, up to one second early.
fn by_the_second() -> Backend {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    LazyLock::force(&START);
    let write: Write = |store, key, value| {
        let deadline = store.deadline(&value).map(|deadline| {
            let since = deadline.saturating_duration_since(*START);
            *START + Duration::from_secs(since.as_secs())
        });
        store.write_until(key, value, deadline);
    };
    writing(write)
}

#[test]
fn a_granularity_of_a_second() {
    let declared = |it: Capabilities| it.with_expiry(Expiry::Granularity(Duration::from_secs(1)));
    assert_eq!(is_right(by_the_second(), declared), BY_HAND);
}

#[test]
fn a_granularity_of_a_second_on_the_real_clock() {
    let declared = |it: Capabilities| {
        it.with_expiry(Expiry::Granularity(Duration::from_secs(1)))
            .with_clock(Clock::Real)
    };
    assert_eq!(is_right(by_the_second(), declared), BY_THE_REAL_CLOCK);
}

/// Loses values as early as its granularity allows, and at once those with shorter lifetimes.
fn early(granularity: Duration) -> Backend {
    Backend::right()
        .set(move |store, key, value| set_early(store, key, value, granularity))
        .set_multi(move |store, entries| {
            set_each(entries, |key, value| {
                set_early(store, key, value, granularity)
            })
        })
}

fn set_early(store: &Store, key: &str, value: Value, granularity: Duration) -> Result<()> {
    set(store, key, value, Store::write)?;
    if let Some((value, Some(deadline))) = store.entry(key) {
        let early = deadline.checked_sub(granularity);
        store.write_until(key, value, early.max(Some(store.now())));
    }
    Ok(())
}

#[test]
fn a_granularity_of_a_minute() {
    let declared = |it: Capabilities| it.with_expiry(Expiry::Granularity(Duration::from_secs(60)));
    assert_eq!(is_right(early(Duration::from_secs(60)), declared), BY_HAND);
}

#[test]
fn a_granularity_of_a_day() {
    const DAY: Duration = Duration::from_secs(86_400);
    let declared = |it: Capabilities| it.with_expiry(Expiry::Granularity(DAY));
    assert_eq!(is_right(early(DAY), declared), BY_HAND);
}

#[test]
fn the_least_limits() {
    /// Evicts some other entry when it is full.
    fn evicting(store: &Store, key: &str, value: Value) {
        if store.entry(key).is_none() && store.entries().len() >= 400 {
            let now = store.now();
            let is_alive = |entry: &(Value, Option<Instant>)| entry.1.is_none_or(|end| end > now);
            store.entries().retain(|_, entry| is_alive(entry));
            if store.entries().len() >= 400 {
                let other = store.entries().keys().next().cloned();
                store.remove(&other.unwrap_or_default());
            }
        }
        store.write(key, value);
    }
    let small = Backend::right()
        .check(|_, key| match key.len() {
            1..=60 => Ok(()),
            _ => {
                let error = Error::new(ErrorKind::InvalidKey, "control", "1 to 60 bytes");
                Err(error.with_key(key))
            }
        })
        .set(|store, key, value| set_small(store, key, value, evicting))
        .set_multi(|store, entries| {
            set_each(entries, |key, value| set_small(store, key, value, evicting))
        });
    let declared = |it: Capabilities| it.with_max_key(60).with_max_value(1_000).with_capacity(400);
    assert_eq!(is_right(small, declared), BY_HAND);
}

/// `set` of a backend for up to 1,000 bytes.
fn set_small(store: &Store, key: &str, value: Value, write: Write) -> Result<()> {
    if value.payload().len() > 1_000 {
        store.remove(key);
        let refusal = Error::new(
            ErrorKind::ValueTooLarge,
            "control",
            "larger than 1000 bytes",
        );
        return Err(refusal.with_key(key));
    }
    write(store, key, value);
    Ok(())
}

#[test]
fn no_expiry_at_all() {
    let forever = writing(|store, key, value| {
        let cached_at = value.cached_at();
        let bare = CachedValue::new(value.into_payload()).with_cached_at(cached_at);
        store.write(key, bare);
    });
    let skipped = is_right(forever, |it| it.with_expiry(Expiry::None));
    let need_ttl = cache_conformance::rules().iter();
    let need_ttl = need_ttl.filter(|rule| rule.requires.contains(&Requirement::Ttl));
    assert_eq!(skipped, need_ttl.count() + BY_HAND);
}

#[test]
fn only_short_and_plain_keys() {
    let strict = Backend::right().check(|_, key| {
        if !key.is_empty() && key.len() <= 250 && key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(());
        }
        let message = "only visible ASCII of 1 to 250 bytes is allowed";
        Err(Error::new(ErrorKind::InvalidKey, "control", message).with_key(key))
    });
    assert_eq!(is_right(strict, |it| it), BY_HAND);
}

#[test]
fn a_store_full_of_foreign_data() {
    static CROWDED: LazyLock<Store> = LazyLock::new(|| {
        let store = Store::new(Duration::ZERO, None);
        for i in 0..50_000 {
            let brief =
                CachedValue::new(vec![0x80, 0x04, b'K']).with_ttl(Duration::from_secs(i % 9));
            store.write(&format!("foreign:{i}"), brief);
        }
        store
    });
    let crowded = Backend::right().on_open(|store| store.sharing(&CROWDED));
    let real = |it: Capabilities| it.with_clock(Clock::Real);
    assert_eq!(is_right(crowded, real), BY_THE_REAL_CLOCK);
    // Only the foreign data is left: each rule has removed its own keys.
    let left = CROWDED.entries();
    let own: Vec<&String> = left
        .keys()
        .filter(|key| !key.starts_with("foreign:"))
        .collect();
    assert_eq!(own, [""; 0]);
    assert_eq!(left.len(), 50_000);
}

#[test]
fn a_pause_at_every_step() {
    let pausing = Backend::right()
        .pass(async |store: Store, _| {
            yield_now().await;
            reaches(&store).await?;
            yield_now().await;
            Ok(())
        })
        .async_get(async |store: Store, key: String| {
            yield_now().await;
            let found = store.fetch(&key)?;
            yield_now().await;
            Ok(found)
        })
        .async_set(async |store: Store, key: String, value: Value| {
            yield_now().await;
            let done = set(&store, &key, value, Store::write);
            yield_now().await;
            done
        })
        .async_set_multi(async |store: Store, entries: Vec<(String, Value)>| {
            yield_now().await;
            let done = set_multi(&store, entries, Store::write);
            yield_now().await;
            done
        })
        .async_delete(async |store: Store, key: String| {
            yield_now().await;
            store.remove(&key);
            yield_now().await;
            Ok(())
        });
    assert_eq!(is_right(pausing, |it| it), BY_HAND);
}

#[test]
fn values_stored_in_another_form() {
    // Values are compressed or encrypted, for example, and converted back when they are read.
    fn turned(value: Value) -> Value {
        value.map(|payload| payload.into_iter().rev().map(|byte| !byte).collect())
    }
    let other = writing(|store, key, value| store.write(key, turned(value)))
        .read(|store, key| Ok(store.fetch(key)?.map(turned)));
    assert_eq!(is_right(other, |it| it), BY_HAND);
}

#[test]
fn one_call_at_a_time() {
    // A single connection behind a lock: slow with many callers, but correct.
    static LINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let single = Backend::right().async_get(async |store: Store, key: String| {
        let _turn = LINE.lock().await;
        yield_now().await;
        store.fetch(&key)
    });
    assert_eq!(is_right(single, |it| it), BY_HAND);
}
