//! `max_entries`: which entries are kept, and which are evicted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cache_core::CachedValue;
use cache_dict::{DictBackend, ManualClock};

fn bounded(max_entries: usize) -> DictBackend<usize> {
    DictBackend::builder()
        .max_entries(max_entries)
        .build()
        .unwrap()
}

fn keys(cache: &DictBackend<usize>, keys: std::ops::Range<usize>) -> Vec<usize> {
    keys.filter(|n| cache.get_sync(&format!("{n}")).is_some())
        .collect()
}

#[test]
fn a_small_cache_evicts_the_entry_with_the_oldest_write() {
    let cache = bounded(3);
    let set = |n: usize| {
        let key = format!("{n}");
        cache.set_sync(&key, CachedValue::new(n));
    };
    (0..3).for_each(set);
    set(0);
    // A read does not count.
    cache.get_sync("1");
    set(3);
    assert_eq!(keys(&cache, 0..4), [0, 2, 3]);
    cache.delete_sync("0");
    set(4);
    assert_eq!(keys(&cache, 0..5), [2, 3, 4]);
    assert_eq!(cache.stats().evicted, 1);
    let entries = [10, 11, 12, 13].map(|n| (format!("{n}"), CachedValue::new(n)));
    cache.set_multi_sync(
        entries
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect(),
    );
    assert_eq!(keys(&cache, 0..20), [11, 12, 13]);
}

#[test]
fn the_bound_holds_at_any_size() {
    for max_entries in [1, 2, 127, 128, 255, 256, 1_000, 8_191, 8_192, 10_000] {
        let cache = bounded(max_entries);
        for n in 0..3 * max_entries {
            cache.set_sync(&format!("{n}"), CachedValue::new(n));
            assert!(cache.len() <= max_entries);
        }
        // It is full, and has the newest entries.
        let held = cache.len();
        assert_eq!(held, max_entries);
        let newest = keys(&cache, 3 * max_entries - max_entries / 2..3 * max_entries);
        assert_eq!(newest.len(), max_entries / 2);
        assert_eq!(cache.stats().evicted, (3 * max_entries - held) as u64);
    }
}

#[test]
fn nothing_is_evicted_before_the_bound_is_reached() {
    for max_entries in [256, 1_000, 10_000, 100_000] {
        let cache = bounded(max_entries);
        for n in 0..max_entries {
            let key = format!("{n}");
            cache.set_sync(&key, CachedValue::new(n));
        }
        assert_eq!((cache.len(), cache.stats().evicted), (max_entries, 0));
        // Overwriting an entry needs no room.
        cache.set_sync("0", CachedValue::new(0));
        assert_eq!(cache.stats().evicted, 0);
        cache.set_sync("new", CachedValue::new(0));
        assert_eq!((cache.len(), cache.stats().evicted), (max_entries, 1));
        // A deleted entry makes room.
        cache.delete_sync("new");
        cache.set_sync("newer", CachedValue::new(0));
        assert_eq!((cache.len(), cache.stats().evicted), (max_entries, 1));
        cache.clear();
        for n in 0..max_entries {
            let key = format!("{n}");
            cache.set_sync(&key, CachedValue::new(n));
        }
        assert_eq!((cache.len(), cache.stats().evicted), (max_entries, 1));
    }
}

#[test]
fn expired_entries_of_a_shard_are_removed_before_others_are_evicted() {
    let clock = ManualClock::new();
    let builder = DictBackend::builder().max_entries(100).clock(clock.clone());
    let cache: DictBackend<usize> = builder.build().unwrap();
    let second = Duration::from_secs(1);
    for n in 0..50 {
        cache.set_sync(&format!("{n}"), CachedValue::new(n));
    }
    for n in 50..100 {
        cache.set_sync(&format!("{n}"), CachedValue::new(n).with_ttl(second));
    }
    clock.advance(2 * second);
    for n in 100..150 {
        cache.set_sync(&format!("{n}"), CachedValue::new(n));
    }
    assert_eq!(cache.stats().evicted, 0);
    assert_eq!(keys(&cache, 0..150).len(), 100);
}

#[test]
fn clear_keeps_the_bound() {
    let cache = bounded(10);
    for _ in 0..3 {
        for n in 0..100 {
            cache.set_sync(&format!("{n}"), CachedValue::new(n));
        }
        assert_eq!(keys(&cache, 0..100), (90..100).collect::<Vec<_>>());
        cache.clear();
        assert!(cache.is_empty());
    }
}

#[test]
fn len_is_within_the_bound_while_entries_move_between_shards() {
    const BOUND: usize = 300;
    let cache = bounded(BOUND);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2 {
            let (cache, done) = (&cache, &done);
            scope.spawn(move || {
                for n in (writer..).step_by(7) {
                    let key = format!("{}", n % (2 * BOUND));
                    // In every round, each key is set or deleted again.
                    if (n / (2 * BOUND)).is_multiple_of(2) || n.is_multiple_of(3) {
                        cache.set_sync(&key, CachedValue::new(n));
                    } else {
                        cache.delete_sync(&key);
                    }
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let began = Instant::now();
        let mut most = 0;
        while began.elapsed() < Duration::from_millis(500) {
            most = most.max(cache.len()).max(cache.stats().entries);
        }
        done.store(true, Ordering::Relaxed);
        assert!(most <= BOUND, "{most}");
    });
}
