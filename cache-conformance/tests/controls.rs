//! Backends that are odd and right: the suite refuses none of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test fails by panicking.

mod support;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use cache_conformance::{Capabilities, Clock, Suite, Ttl, Verdict};
use cache_core::{CachedValue, Error, ErrorKind};
use support::mutant::{self, Mutant, MutantHarness, check_key, error, pass};
use support::store::{Store, Value};
use tokio::task::yield_now;

/// Runs the whole suite; every rule that applies is kept.
fn is_right(mutant: Mutant, declaring: fn(Capabilities) -> Capabilities) -> usize {
    let harness = MutantHarness::patient(mutant).declaring(declaring);
    let report = Suite::new(harness).run();
    assert!(report.is_ok(), "{report}");
    let skipped =
        |rule: &&cache_conformance::RuleReport| matches!(rule.verdict, Verdict::NotApplicable(_));
    report.rules.iter().filter(skipped).count()
}

fn late(delay: Duration) -> Mutant {
    Mutant::new().pass(move |store: Store, _| async move {
        tokio::time::sleep(delay).await;
        pass(store).await
    })
}

#[test]
fn a_server_far_away() {
    assert_eq!(is_right(late(Duration::from_millis(3)), |it| it), 0);
}

#[test]
#[ignore = "takes minutes"]
fn a_server_very_far_away() {
    assert_eq!(is_right(late(Duration::from_millis(200)), |it| it), 0);
}

#[test]
#[ignore = "takes minutes"]
fn a_server_very_far_away_by_the_real_clock() {
    let real = |it: Capabilities| it.with_clock(Clock::Real);
    assert_eq!(is_right(late(Duration::from_millis(200)), real), 0);
}

/// Loses what lives by whole seconds, up to one second early.
fn by_the_second() -> Mutant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    LazyLock::force(&START);
    let write = |store: &Store, key: &str, value: Value| {
        let deadline = store.deadline(&value).map(|deadline| {
            let since = deadline.saturating_duration_since(*START);
            *START + Duration::from_secs(since.as_secs())
        });
        store.write_until(key, value, deadline);
    };
    Mutant::new()
        .set(move |store, key, value| {
            mutant::set(store, key, value.clone())?;
            write(store, key, value);
            Ok(())
        })
        .set_multi(move |store, entries| {
            mutant::set_multi(store, entries.clone())?;
            for (key, value) in entries {
                write(store, &key, value);
            }
            Ok(())
        })
}

#[test]
fn a_granularity_of_a_second() {
    let declared = |it: Capabilities| it.with_ttl(Ttl::Granularity(Duration::from_secs(1)));
    assert_eq!(is_right(by_the_second(), declared), 0);
}

#[test]
fn a_granularity_of_a_second_by_the_real_clock() {
    let declared = |it: Capabilities| {
        it.with_ttl(Ttl::Granularity(Duration::from_secs(1)))
            .with_clock(Clock::Real)
    };
    assert_eq!(is_right(by_the_second(), declared), 0);
}

#[test]
fn no_expiry_at_all() {
    let bare = |value: Value| {
        let cached_at = value.cached_at();
        CachedValue::new(value.into_payload()).with_cached_at(cached_at)
    };
    let forever = Mutant::new()
        .set(move |store, key, value| mutant::set(store, key, bare(value)))
        .set_multi(move |store, entries| {
            let entries = entries.into_iter();
            mutant::set_multi(
                store,
                entries.map(|(key, value)| (key, bare(value))).collect(),
            )
        });
    let skipped = is_right(forever, |it| it.with_ttl(Ttl::None));
    let need_ttl = cache_conformance::rules().iter();
    let need_ttl = need_ttl.filter(|rule| {
        !rule.requires.is_empty() && rule.requires[0].to_string().contains("expire")
    });
    assert_eq!(skipped, need_ttl.count());
}

#[test]
fn only_short_and_plain_keys() {
    let strict = Mutant::new().check(|_, key| {
        check_key(key)?;
        if key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(());
        }
        let message = "only visible ASCII is allowed";
        Err(error(ErrorKind::InvalidKey, message).with_key(key))
    });
    assert_eq!(is_right(strict, |it| it), 0);
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
    let crowded = Mutant::new().on_open(|store| Store {
        entries: Arc::clone(&CROWDED.entries),
        ..store
    });
    let real = |it: Capabilities| it.with_clock(Clock::Real);
    assert_eq!(is_right(crowded, real), 0);
    let foreign = CROWDED.entries.lock().unwrap();
    let left = foreign.keys().filter(|key| key.starts_with("foreign:"));
    assert_eq!(left.count(), 50_000);
}

#[test]
fn a_pause_at_every_step() {
    let pausing = Mutant::new()
        .pass(async |store: Store, _| {
            yield_now().await;
            pass(store).await?;
            yield_now().await;
            Ok(())
        })
        .async_get(async |store: Store, key: String| {
            yield_now().await;
            let found = store.read(&key);
            yield_now().await;
            Ok(found)
        })
        .async_get_multi(async |store: Store, keys: Vec<String>| {
            let mut found = Vec::new();
            for key in keys {
                found.push(store.read(&key));
                if found.len() % 50 == 1 {
                    yield_now().await;
                }
            }
            Ok(found)
        })
        .async_set(async |store: Store, key: String, value: Value| {
            yield_now().await;
            let done = mutant::set(&store, &key, value);
            yield_now().await;
            done
        })
        .async_set_multi(async |store: Store, entries: Vec<(String, Value)>| {
            let total = entries.len();
            let mut failed = Vec::new();
            let mut cause = None;
            for (done, (key, value)) in entries.into_iter().enumerate() {
                if let Err(error) = mutant::set(&store, &key, value) {
                    failed.push(key);
                    cause = cause.or(Some(error));
                }
                if done % 50 == 0 {
                    yield_now().await;
                }
            }
            cause.map_or(Ok(()), |cause| Err(Error::partial(cause, failed, total)))
        })
        .async_delete(async |store: Store, key: String| {
            yield_now().await;
            store.discard(&key);
            yield_now().await;
            Ok(())
        });
    assert_eq!(is_right(pausing, |it| it), 0);
}

#[test]
fn values_in_another_form_below() {
    // Compressed, encrypted, whatever: it is turned back when it is read.
    let turned = |value: Value| {
        value.map(|payload| {
            payload
                .into_iter()
                .rev()
                .map(|byte| !byte)
                .collect::<Vec<u8>>()
        })
    };
    let other = Mutant::new()
        .set(move |store, key, value| mutant::set(store, key, turned(value)))
        .set_multi(move |store, entries| {
            let entries = entries.into_iter();
            mutant::set_multi(
                store,
                entries.map(|(key, value)| (key, turned(value))).collect(),
            )
        })
        .read(move |store, key| Ok(store.read(key).map(turned)));
    assert_eq!(is_right(other, |it| it), 0);
}

#[test]
fn one_call_at_a_time() {
    // A single connection behind a lock: slow with many callers, but right.
    static LINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let single = Mutant::new().async_get(async |store: Store, key: String| {
        let _turn = LINE.lock().await;
        yield_now().await;
        Ok(store.read(&key))
    });
    assert_eq!(is_right(single, |it| it), 0);
}
