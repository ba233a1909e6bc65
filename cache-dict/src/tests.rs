//! Tests of what the public API does not expose: hash collisions and memory use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cache_core::CachedValue;
use proptest::prelude::*;

use crate::clock::Time;
use crate::{DictBackend, DictConfig, ManualClock};

/// The number of cases of a property test, unless `PROPTEST_CASES` is set.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").is_ok();
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if asked { default.cases } else { cases },
        ..default
    }
}

/// A backend whose hashes have only the bits of `mask`.
fn with_weak_hash(mask: u64, ttl: Duration) -> (DictBackend<u32>, ManualClock) {
    let clock = ManualClock::new();
    let config = DictConfig {
        expiration_time: ttl,
        max_entries: 0,
    };
    let time = Time::of(Arc::new(clock.clone()));
    let backend = DictBackend::with_weak_hash(config, time, mask);
    (backend, clock)
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u32, Option<u64>),
    SetMulti(Vec<(u8, u32)>),
    Delete(u8),
    DeleteMulti(Vec<u8>),
    GetMulti(Vec<u8>),
    Advance(u64),
    Retreat(u64),
    Purge,
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = || proptest::collection::vec(any::<u8>(), 0..40);
    let pairs = proptest::collection::vec(any::<(u8, u32)>(), 0..40);
    // From far below the shortest tick to longer than any test runs.
    let ttl = prop_oneof![Just(0), 1..1_000_u64, 1..10_u64.pow(10), Just(u64::MAX)];
    let forward = prop_oneof![1..1_000_u64, 1..10_u64.pow(8), 1..10_u64.pow(10)];
    prop_oneof![
        8 => (any::<u8>(), any::<u32>(), proptest::option::of(ttl)).prop_map(|(k, v, t)| Step::Set(k, v, t)),
        2 => pairs.prop_map(Step::SetMulti),
        2 => any::<u8>().prop_map(Step::Delete),
        1 => keys().prop_map(Step::DeleteMulti),
        2 => keys().prop_map(Step::GetMulti),
        4 => forward.prop_map(Step::Advance),
        1 => (1..10_u64.pow(10)).prop_map(Step::Retreat),
        1 => Just(Step::Purge),
        1 => Just(Step::Clear),
    ]
}

/// The simplest implementation of the backend.
struct Model {
    entries: HashMap<u8, (u32, Option<u64>)>,
    now: u64,
    ttl: u64,
}

impl Model {
    fn get(&self, key: u8) -> Option<(u32, Option<u64>)> {
        let (value, deadline) = *self.entries.get(&key)?;
        match deadline {
            None => Some((value, None)),
            Some(deadline) if self.now < deadline => Some((value, Some(deadline - self.now))),
            Some(_) => None,
        }
    }

    fn set(&mut self, key: u8, value: u32, ttl: Option<u64>) {
        let ttl = ttl.or(Some(self.ttl).filter(|ttl| *ttl > 0));
        let deadline = ttl.and_then(|ttl| self.now.checked_add(ttl));
        // With a deadline out of range, the value does not expire.
        let deadline = deadline.filter(|deadline| *deadline < u64::MAX);
        self.entries.insert(key, (value, deadline));
    }

    fn live(&self) -> usize {
        self.entries
            .keys()
            .filter(|key| self.get(**key).is_some())
            .count()
    }
}

fn name(key: u8) -> String {
    // Stored in place, packed, and too long for both.
    format!("{}{key}", "k".repeat(usize::from(key % 4) * 16))
}

fn any_mask() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(u64::MAX),
        Just(0xf),
        Just(0),
        Just(0xff00_0000_8000_0000)
    ]
}

fn any_default_ttl() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1_000_000_000_u64)]
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn agrees_with_a_simple_model(
        mask in any_mask(),
        ttl in any_default_ttl(),
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        behaves_like_a_simple_model(mask, ttl, steps)?;
    }
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    #[ignore = "takes minutes; run it with `cargo test -p cache-dict --lib -- --ignored`"]
    fn agrees_with_a_simple_model_over_long_runs(
        mask in any_mask(),
        ttl in any_default_ttl(),
        steps in proptest::collection::vec(step(), 1..2_000),
    ) {
        behaves_like_a_simple_model(mask, ttl, steps)?;
    }
}

fn behaves_like_a_simple_model(mask: u64, ttl: u64, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (cache, clock) = with_weak_hash(mask, Duration::from_nanos(ttl));
    let mut model = Model {
        entries: HashMap::new(),
        now: 0,
        ttl,
    };
    let mut shown = 0;
    for step in steps {
        match step {
            Step::Set(key, value, ttl) => {
                let mut cached = CachedValue::new(value);
                if let Some(ttl) = ttl {
                    cached = cached.with_ttl(Duration::from_nanos(ttl));
                }
                cache.set_sync(&name(key), cached);
                model.set(key, value, ttl);
            }
            Step::SetMulti(pairs) => {
                let names: Vec<String> = pairs.iter().map(|(key, _)| name(*key)).collect();
                let values = pairs.iter().map(|(_, value)| CachedValue::new(*value));
                cache.set_multi_sync(names.iter().map(String::as_str).zip(values).collect());
                for (key, value) in pairs {
                    model.set(key, value, None);
                }
            }
            Step::Delete(key) => {
                cache.delete_sync(&name(key));
                model.entries.remove(&key);
            }
            Step::DeleteMulti(keys) => {
                let names: Vec<String> = keys.iter().map(|key| name(*key)).collect();
                cache.delete_multi_sync(&names.iter().map(String::as_str).collect::<Vec<_>>());
                for key in keys {
                    model.entries.remove(&key);
                }
            }
            Step::GetMulti(keys) => {
                let names: Vec<String> = keys.iter().map(|key| name(*key)).collect();
                let found =
                    cache.get_multi_sync(&names.iter().map(String::as_str).collect::<Vec<_>>());
                prop_assert_eq!(found.len(), keys.len());
                for (key, found) in keys.into_iter().zip(found) {
                    prop_assert_eq!(seen(found), model.get(key));
                }
            }
            Step::Advance(by) => {
                shown += by;
                clock.set(Duration::from_nanos(shown));
                cache.map().look_at_the_clock();
                model.now = model.now.max(shown);
            }
            Step::Retreat(by) => {
                shown = shown.saturating_sub(by);
                clock.set(Duration::from_nanos(shown));
            }
            Step::Purge => {
                cache.purge();
                prop_assert_eq!(cache.len(), model.live());
            }
            Step::Clear => {
                cache.clear();
                model.entries.clear();
                prop_assert!(cache.is_empty());
            }
        }
        prop_assert!(cache.len() >= model.live());
    }
    for key in 0..=u8::MAX {
        prop_assert_eq!(seen(cache.get_sync(&name(key))), model.get(key));
    }
    Ok(())
}

fn seen(found: Option<CachedValue<u32>>) -> Option<(u32, Option<u64>)> {
    let left = |ttl: Duration| u64::try_from(ttl.as_nanos()).unwrap();
    found.map(|found| (*found.payload(), found.ttl().duration().map(left)))
}

#[test]
fn memory_is_returned_after_a_flood() {
    let second = Duration::from_secs(1);
    let (cache, clock) = with_weak_hash(u64::MAX, second);
    cache.set_sync("stays", CachedValue::new(0).with_ttl(Duration::MAX));
    for n in 0..200_000 {
        cache.set_sync(&format!("{n}"), CachedValue::new(n));
    }
    let (before, _) = cache.map().capacity();
    assert!((200_000..400_000).contains(&before), "{before} slots");
    clock.advance(2 * second);
    // Without `purge`, the following writes remove a few hundred entries at a time.
    for n in 0..1_300 {
        cache.set_sync("stays", CachedValue::new(n).with_ttl(Duration::MAX));
        clock.advance(Duration::from_millis(2));
    }
    assert_eq!(cache.len(), 1);
    let (slots, shards) = cache.map().capacity();
    assert!(slots <= shards * 75, "{slots} slots for one entry");
    assert_eq!(*cache.get_sync("stays").unwrap().payload(), 1_299);

    for n in 0..200_000 {
        cache.set_sync(&format!("{n}"), CachedValue::new(n));
    }
    for n in 0..200_000 {
        cache.delete_sync(&format!("{n}"));
    }
    let (slots, shards) = cache.map().capacity();
    assert!(slots <= shards * 75, "{slots} slots for one entry");
}

#[test]
fn a_cache_that_refills_does_not_shrink_in_between() {
    let second = Duration::from_secs(1);
    let (cache, clock) = with_weak_hash(u64::MAX, second);
    let set = |numbers: std::ops::Range<u32>| {
        for n in numbers {
            cache.set_sync(&format!("{n}"), CachedValue::new(n));
        }
    };
    set(0..100_000);
    let before = cache.map().capacity();
    clock.advance(second * 2);
    // Each write removes up to 32 entries.
    set(100_000..110_000);
    assert_eq!(cache.len(), 10_000);
    clock.advance(second / 4);
    set(110_000..120_000);
    assert_eq!(cache.map().capacity(), before);
    cache.purge();
    assert!(cache.map().capacity() < before);
}
