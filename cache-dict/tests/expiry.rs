//! How what has expired is removed, on a clock that the test moves.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use cache_core::CachedValue;
use cache_dict::{DictBackend, ManualClock};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn with_ttl(ttl: Duration) -> (DictBackend<u32>, ManualClock) {
    let clock = ManualClock::new();
    let builder = DictBackend::builder().expiration_time(ttl);
    (builder.clock(clock.clone()).build().unwrap(), clock)
}

/// Sets one key for a while, which is what lets other entries be removed.
fn keep_setting(cache: &DictBackend<u32>, clock: &ManualClock, times: u32) {
    for n in 0..times {
        cache.set_sync("busy", CachedValue::new(n)).unwrap();
        clock.advance(2 * MILLISECOND);
    }
}

#[test]
fn sets_remove_what_has_expired() {
    let (cache, clock) = with_ttl(SECOND);
    for n in 0..10_000 {
        cache
            .set_sync(&format!("{n}"), CachedValue::new(n))
            .unwrap();
    }
    clock.advance(SECOND + SECOND / 16);
    assert!(cache.len() >= 10_000);
    keep_setting(&cache, &clock, 100);
    assert_eq!(cache.len(), 1);
    assert_eq!(cache.stats().expired, 10_000);
}

#[test]
fn few_entries_are_dead_and_not_removed_under_steady_writing() {
    let (cache, clock) = with_ttl(10 * SECOND);
    for n in 0..40_000 {
        cache
            .set_sync(&format!("{n}"), CachedValue::new(n))
            .unwrap();
        clock.advance(MILLISECOND);
        if n > 10_000 {
            // 10,000 live at a time.
            let held = cache.len();
            assert!((10_000..10_500).contains(&held), "{held} entries after {n}");
        }
    }
}

#[test]
fn overwriting_delays_removal_and_prevents_it_not() {
    let (cache, clock) = with_ttl(SECOND);
    for round in 0..20 {
        for n in 0..1_000 {
            cache
                .set_sync(&format!("{n}"), CachedValue::new(round))
                .unwrap();
        }
        clock.advance(SECOND / 2);
    }
    assert_eq!(cache.len(), 1_000);
    assert_eq!(cache.stats().expired, 0);
    keep_setting(&cache, &clock, 500);
    assert_eq!(cache.len(), 1);
}

#[test]
fn a_shortened_life_ends_early_in_memory_too() {
    let (cache, clock) = with_ttl(3600 * SECOND);
    for n in 0..1_000 {
        let key = format!("{n}");
        cache.set_sync(&key, CachedValue::new(n)).unwrap();
        cache
            .set_sync(&key, CachedValue::new(n).with_ttl(SECOND))
            .unwrap();
    }
    clock.advance(2 * SECOND);
    // The default is long, so all shards are looked through once a second.
    keep_setting(&cache, &clock, 1_000);
    assert_eq!(cache.len(), 1);
}

#[test]
fn a_life_made_endless_and_finite_again_is_followed() {
    let (cache, clock) = with_ttl(SECOND);
    let set = |ttl| {
        let value = CachedValue::new(1).with_ttl(ttl);
        cache.set_sync("k", value).unwrap();
    };
    set(SECOND);
    set(Duration::MAX);
    clock.advance(60 * SECOND);
    keep_setting(&cache, &clock, 100);
    assert_eq!(cache.get_sync("k").unwrap().unwrap().ttl(), None);
    set(SECOND);
    clock.advance(2 * SECOND);
    keep_setting(&cache, &clock, 100);
    assert_eq!(cache.len(), 1);
}

#[test]
fn lives_of_all_lengths_end_in_time() {
    let (cache, clock) = with_ttl(Duration::ZERO);
    let lengths: Vec<Duration> = (0..60).map(|n| Duration::from_nanos(1 << n)).collect();
    for (n, ttl) in lengths.iter().enumerate() {
        cache
            .set_sync(&format!("{n}"), CachedValue::new(1).with_ttl(*ttl))
            .unwrap();
    }
    for (n, ttl) in lengths.iter().enumerate() {
        let key = format!("{n}");
        clock.set(ttl.saturating_sub(Duration::from_nanos(1)));
        let left = cache.get_sync(&key).unwrap().and_then(|found| found.ttl());
        assert_eq!(left, Some(Duration::from_nanos(1)), "{ttl:?}");
        clock.set(*ttl);
        assert!(cache.get_sync(&key).unwrap().is_none(), "{ttl:?}");
        cache.purge();
        assert_eq!(cache.len(), lengths.len() - n - 1);
    }
}

#[test]
fn purge_removes_exactly_what_has_expired() {
    let (cache, clock) = with_ttl(SECOND);
    // 64 is as many as are removed under one lock.
    for n in 0..64 * 100 {
        cache
            .set_sync(&format!("old {n}"), CachedValue::new(n))
            .unwrap();
    }
    clock.advance(MILLISECOND);
    for n in 0..64 * 100 {
        cache
            .set_sync(&format!("new {n}"), CachedValue::new(n))
            .unwrap();
    }
    clock.set(SECOND);
    cache.purge();
    assert_eq!(cache.len(), 6_400);
    cache.purge();
    assert_eq!(cache.len(), 6_400);
    clock.advance(MILLISECOND);
    cache.purge();
    assert!(cache.is_empty());
}

#[test]
fn the_system_clock_lets_values_expire_too() {
    let ttl = Duration::from_millis(50);
    let cache = DictBackend::builder().expiration_time(ttl).build().unwrap();
    let before = std::time::Instant::now();
    cache.set_sync("k", CachedValue::new(1)).unwrap();
    // Until the deadline has surely come: a hit after it is an error, however slow we are.
    loop {
        let asked = std::time::Instant::now();
        let found = cache.get_sync("k").unwrap();
        if found.is_none() {
            assert!(before.elapsed() >= ttl, "it was lost early");
            break;
        }
        assert!(
            asked - before < Duration::from_secs(10),
            "it does not expire"
        );
    }
}
