//! The removal of expired entries, on a manual clock.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cache_core::{CachedValue, Ttl};
use cache_dict::{DictBackend, ManualClock};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn with_ttl(ttl: Duration) -> (DictBackend<u32>, ManualClock) {
    let clock = ManualClock::new();
    let builder = DictBackend::builder().expiration_time(ttl);
    (builder.clock(clock.clone()).build().unwrap(), clock)
}

/// Sets one key repeatedly, which removes other entries that have expired.
fn keep_setting(cache: &DictBackend<u32>, clock: &ManualClock, times: u32) {
    for n in 0..times {
        cache.set_sync("busy", CachedValue::new(n));
        clock.advance(2 * MILLISECOND);
    }
}

#[test]
fn sets_remove_expired_entries() {
    let (cache, clock) = with_ttl(SECOND);
    for n in 0..10_000 {
        cache.set_sync(&format!("{n}"), CachedValue::new(n));
    }
    clock.advance(SECOND + SECOND / 16);
    assert!(cache.len() >= 10_000);
    keep_setting(&cache, &clock, 100);
    assert_eq!(cache.len(), 1);
    assert_eq!(cache.stats().expired, 10_000);
}

#[test]
fn steady_writes_leave_few_expired_entries() {
    let (cache, clock) = with_ttl(10 * SECOND);
    for n in 0..40_000 {
        cache.set_sync(&format!("{n}"), CachedValue::new(n));
        clock.advance(MILLISECOND);
        if n > 10_000 {
            // 10,000 live at a time.
            let held = cache.len();
            assert!((10_000..10_500).contains(&held), "{held} entries after {n}");
        }
    }
}

#[test]
fn overwriting_delays_removal() {
    let (cache, clock) = with_ttl(SECOND);
    for round in 0..20 {
        for n in 0..1_000 {
            cache.set_sync(&format!("{n}"), CachedValue::new(round));
        }
        clock.advance(SECOND / 2);
    }
    assert_eq!(cache.len(), 1_000);
    assert_eq!(cache.stats().expired, 0);
    keep_setting(&cache, &clock, 500);
    assert_eq!(cache.len(), 1);
}

#[test]
fn an_entry_whose_lifetime_is_shortened_is_removed_early() {
    let (cache, clock) = with_ttl(3600 * SECOND);
    for n in 0..1_000 {
        let key = format!("{n}");
        cache.set_sync(&key, CachedValue::new(n));
        cache.set_sync(&key, CachedValue::new(n).with_ttl(SECOND));
    }
    clock.advance(2 * SECOND);
    // The default TTL is long, so all shards are swept once a second.
    keep_setting(&cache, &clock, 1_000);
    assert_eq!(cache.len(), 1);
}

#[test]
fn a_value_may_stop_expiring_and_expire_again() {
    let (cache, clock) = with_ttl(SECOND);
    let set = |ttl| {
        let value = CachedValue::new(1).with_ttl(ttl);
        cache.set_sync("k", value);
    };
    set(SECOND);
    set(Duration::MAX);
    clock.advance(60 * SECOND);
    keep_setting(&cache, &clock, 100);
    assert_eq!(cache.get_sync("k").unwrap().ttl(), Ttl::Never);
    set(SECOND);
    clock.advance(2 * SECOND);
    keep_setting(&cache, &clock, 100);
    assert_eq!(cache.len(), 1);
}

#[test]
fn lifetimes_of_all_lengths_end_on_time() {
    let (cache, clock) = with_ttl(Duration::ZERO);
    let lengths: Vec<Duration> = (0..60).map(|n| Duration::from_nanos(1 << n)).collect();
    for (n, ttl) in lengths.iter().enumerate() {
        cache.set_sync(&format!("{n}"), CachedValue::new(1).with_ttl(*ttl));
    }
    for (n, ttl) in lengths.iter().enumerate() {
        let key = format!("{n}");
        clock.set(ttl.saturating_sub(Duration::from_nanos(1)));
        let left = cache
            .get_sync(&key)
            .and_then(|found| found.ttl().duration());
        assert_eq!(left, Some(Duration::from_nanos(1)), "{ttl:?}");
        clock.set(*ttl);
        assert!(cache.get_sync(&key).is_none(), "{ttl:?}");
        cache.purge();
        assert_eq!(cache.len(), lengths.len() - n - 1);
    }
}

#[test]
fn purge_removes_exactly_the_expired_entries() {
    let (cache, clock) = with_ttl(SECOND);
    // At most 64 are removed under one lock.
    for n in 0..64 * 100 {
        cache.set_sync(&format!("old {n}"), CachedValue::new(n));
    }
    clock.advance(MILLISECOND);
    for n in 0..64 * 100 {
        cache.set_sync(&format!("new {n}"), CachedValue::new(n));
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
fn values_with_a_ttl_expire_among_values_without() {
    let (cache, clock) = with_ttl(Duration::ZERO);
    for n in 0..40 {
        let value = CachedValue::new(n).with_ttl(SECOND);
        cache.set_sync(&format!("own {n}"), value);
    }
    for n in 0..100 {
        cache.set_sync(&format!("{}", n % 10), CachedValue::new(n));
        clock.advance(100 * MILLISECOND);
    }
    assert_eq!(cache.len(), 10);
    assert_eq!(cache.stats().expired, 40);
}

#[test]
fn deletes_remove_expired_entries() {
    let (cache, clock) = with_ttl(SECOND);
    for n in 0..10_000 {
        cache.set_sync(&format!("{n}"), CachedValue::new(n));
    }
    clock.advance(2 * SECOND);
    for n in 0..200 {
        cache.delete_sync("none");
        cache.delete_multi_sync(&["none", "neither"]);
        clock.advance(MILLISECOND);
        if n == 0 {
            // A single call removes only some of them.
            assert!(cache.len() > 9_000, "{} are left", cache.len());
        }
    }
    assert!(cache.is_empty());
}

#[test]
fn a_read_removes_an_expired_entry() {
    let (cache, clock) = with_ttl(SECOND);
    let keys: Vec<String> = (0..100).map(|n| format!("{n}")).collect();
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &asked {
        cache.set_sync(key, CachedValue::new(1));
    }
    clock.advance(SECOND);
    assert_eq!(cache.len(), 100);
    assert!(cache.get_sync("0").is_none());
    assert_eq!(cache.len(), 99);
    assert_eq!(cache.get_multi_sync(&asked[..3]), [None, None, None]);
    assert_eq!(cache.len(), 97);
    assert!(cache.get_multi_sync(&asked).iter().all(Option::is_none));
    assert_eq!((cache.len(), cache.stats().expired), (0, 100));
}

/// The promise of the README, for lifetimes that are shortened at various times.
#[test]
fn an_entry_is_removable_one_32nd_of_its_lifetime_after_its_deadline() {
    for before_the_old_deadline in [SECOND / 2, SECOND, 2 * SECOND, 1_800 * SECOND] {
        // One shard, so that any write examines the entry.
        let clock = ManualClock::new();
        let builder = DictBackend::builder().max_entries(100);
        let cache = builder.clock(clock.clone()).build().unwrap();
        let set = |ttl| {
            let value = CachedValue::new(1).with_ttl(ttl);
            cache.set_sync("k", value);
        };
        set(3600 * SECOND);
        clock.set((3600 * SECOND).saturating_sub(before_the_old_deadline));
        set(SECOND);
        clock.advance(SECOND + SECOND / 32);
        cache.set_sync("other", CachedValue::new(1).with_ttl(Ttl::Never));
        assert_eq!(cache.len(), 1, "{before_the_old_deadline:?}");
    }
}

#[test]
fn ttls_may_all_be_different() {
    let (cache, clock) = with_ttl(Duration::ZERO);
    let mut random = 1_u64;
    for n in 0..20_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // From below a microsecond to a day.
        let ttl = Duration::from_nanos((random >> 17) >> (random % 37));
        let value = CachedValue::new(n).with_ttl(ttl);
        cache.set_sync(&format!("{n}"), value);
        clock.advance(MILLISECOND / 10);
    }
    clock.advance(2 * 86_400 * SECOND);
    cache.purge();
    assert!(cache.is_empty());
}

#[test]
fn a_clock_may_use_the_cache() {
    let of_clock: Arc<OnceLock<DictBackend<u32>>> = Arc::default();
    let cache = {
        let of_clock = Arc::clone(&of_clock);
        let clock = move || {
            let cache = of_clock.get();
            Duration::from_nanos(cache.map_or(0, |cache| cache.len() as u64))
        };
        DictBackend::builder().clock(clock).build().unwrap()
    };
    of_clock.set(cache.clone()).unwrap();
    let value = || CachedValue::new(1).with_ttl(SECOND);
    cache.set_sync("a", value());
    let entries = vec![("b", value()), ("c", CachedValue::new(1))];
    cache.set_multi_sync(entries);
    assert!(cache.get_sync("a").is_some());
    assert_eq!(cache.get_multi_sync(&["a", "b", "c"]).len(), 3);
    let many = vec!["a"; 100];
    assert_eq!(cache.get_multi_sync(&many).len(), 100);
    cache.delete_sync("a");
    cache.delete_multi_sync(&["b"]);
    cache.purge();
    assert_eq!(cache.len(), 1);
}

/// A backend on the system clock, exact or coarse.
fn on_system_clock(coarse: bool) -> DictBackend<u32> {
    let builder = DictBackend::builder();
    #[cfg(feature = "coarse-clock")]
    let builder = builder.coarse_clock(coarse);
    let _ = coarse;
    builder.build().unwrap()
}

#[test]
fn on_the_system_clock_no_value_is_returned_at_or_after_its_deadline() {
    for coarse in [false, true] {
        let cache = on_system_clock(coarse);
        // For some, most reads use the coarse clock; for others, none does.
        let ttls = [1, 5, 40, 99, 101, 130, 250].map(Duration::from_millis);
        let keys = ttls.map(|ttl| format!("{ttl:?}"));
        let begun = Instant::now();
        for (key, ttl) in keys.iter().zip(ttls) {
            let value = CachedValue::new(1).with_ttl(ttl);
            cache.set_sync(key, value);
        }
        let written = Instant::now();
        let mut alive = keys.len();
        while alive > 0 {
            alive = 0;
            for (key, ttl) in keys.iter().zip(ttls) {
                let before = Instant::now();
                let found = cache.get_sync(key);
                let after = Instant::now();
                if let Some(found) = found {
                    alive += 1;
                    let age = before.duration_since(written);
                    assert!(age < ttl, "{ttl:?}: served {age:?} after the set");
                    let left = found.ttl().duration().unwrap();
                    assert!(left <= ttl, "{left:?} of {ttl:?} are left");
                } else {
                    let age = after.duration_since(begun);
                    assert!(age >= ttl, "{ttl:?}: lost {age:?} after the set");
                }
            }
        }
    }
}
