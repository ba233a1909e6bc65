//! Payloads whose `clone` and `drop` panic, or use the cache.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cache_core::CachedValue;
use cache_dict::{DictBackend, ManualClock};

/// Panics once, when armed.
#[derive(Default)]
struct Bomb {
    in_clone: Arc<AtomicBool>,
    in_drop: Arc<AtomicBool>,
}

impl Clone for Bomb {
    fn clone(&self) -> Self {
        assert!(!self.in_clone.swap(false, Ordering::SeqCst), "clone");
        Self {
            in_clone: Arc::clone(&self.in_clone),
            in_drop: Arc::clone(&self.in_drop),
        }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.in_drop.swap(false, Ordering::SeqCst), "drop");
    }
}

fn panics(work: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
}

fn bomb() -> (CachedValue<Bomb>, Arc<AtomicBool>, Arc<AtomicBool>) {
    let bomb = Bomb::default();
    let (in_clone, in_drop) = (Arc::clone(&bomb.in_clone), Arc::clone(&bomb.in_drop));
    (CachedValue::new(bomb), in_clone, in_drop)
}

/// A backend with one shard, so that every key uses the lock that was held during the panic.
fn one_shard() -> (DictBackend<Bomb>, ManualClock) {
    let clock = ManualClock::new();
    let builder = DictBackend::builder().max_entries(100);
    let builder = builder.expiration_time(Duration::from_secs(1));
    (builder.clock(clock.clone()).build().unwrap(), clock)
}

/// Checks that the backend works, for old and new entries.
fn works(cache: &DictBackend<Bomb>, held: &[&str]) {
    assert_eq!(cache.len(), held.len());
    for key in held {
        assert!(cache.get_sync(key).is_some(), "{key}");
    }
    cache.set_sync("another", bomb().0);
    assert!(cache.get_sync("another").is_some());
    cache.delete_sync("another");
    assert_eq!(cache.len(), held.len());
}

#[test]
fn a_panic_in_clone_changes_nothing() {
    let (cache, _) = one_shard();
    let (value, in_clone, _) = bomb();
    cache.set_sync("k", value);
    cache.set_sync("other", bomb().0);
    in_clone.store(true, Ordering::SeqCst);
    panics(|| drop(cache.get_sync("k")));
    in_clone.store(true, Ordering::SeqCst);
    panics(|| drop(cache.get_multi_sync(&["other", "k"])));
    works(&cache, &["k", "other"]);
}

#[test]
fn an_operation_is_complete_when_a_drop_panics() {
    let (cache, clock) = one_shard();
    let arm = |key: &str| {
        let (value, _, in_drop) = bomb();
        cache.set_sync(key, value);
        in_drop.store(true, Ordering::SeqCst);
    };
    arm("k");
    panics(|| cache.set_sync("k", bomb().0));
    works(&cache, &["k"]);

    arm("k");
    panics(|| cache.delete_sync("k"));
    works(&cache, &[]);

    arm("k");
    panics(|| cache.delete_multi_sync(&["k"]));
    works(&cache, &[]);

    arm("k");
    panics(|| {
        let entries = vec![("k", bomb().0), ("l", bomb().0)];
        cache.set_multi_sync(entries);
    });
    works(&cache, &["k", "l"]);

    cache.clear();
    arm("k");
    panics(|| cache.clear());
    works(&cache, &[]);

    arm("k");
    clock.advance(Duration::from_secs(2));
    panics(|| cache.set_sync("l", bomb().0));
    works(&cache, &["l"]);

    arm("k");
    clock.advance(Duration::from_secs(2));
    panics(|| cache.purge());
    cache.purge();
    works(&cache, &[]);

    for n in 0..100 {
        arm(&format!("{n}"));
    }
    panics(|| cache.set_sync("new", bomb().0));
    assert_eq!(cache.len(), 100);
    // The others are still armed, and a second panic during unwinding would abort the process.
    std::mem::forget(cache);
}

/// Uses the cache when it is dropped, which deadlocks if a lock is held.
#[derive(Clone)]
struct Nosy {
    cache: DictBackend<Nosy>,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        self.cache.delete_sync("some key");
        let _ = self.cache.len();
    }
}

#[test]
fn payloads_are_dropped_without_holding_a_lock() {
    let clock = ManualClock::new();
    let builder = DictBackend::builder().max_entries(100).clock(clock.clone());
    let cache: DictBackend<Nosy> = builder.build().unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let value = || {
        CachedValue::new(Nosy {
            cache: cache.clone(),
            dropped: Arc::clone(&dropped),
        })
    };
    let expect = |more: usize| assert_eq!(dropped.swap(0, Ordering::SeqCst), more);
    cache.set_sync("k", value());
    cache.set_sync("k", value());
    expect(1);
    cache.delete_sync("k");
    expect(1);
    cache.set_multi_sync(vec![("a", value()), ("a", value()), ("b", value())]);
    expect(1);
    cache.delete_multi_sync(&["a", "b"]);
    expect(2);
    cache.set_sync("k", value().with_ttl(Duration::ZERO));
    expect(1);
    let expired = || value().with_ttl(Duration::ZERO);
    cache.set_sync("a", value());
    cache.set_multi_sync(vec![("a", expired()), ("b", expired())]);
    expect(3);
    let keys: Vec<String> = (0..50).map(|n| format!("{n}")).collect();
    let entries = keys.iter().map(|key| (key.as_str(), expired()));
    cache.set_multi_sync(entries.collect());
    expect(50);
    for n in 0..101 {
        cache.set_sync(&format!("{n}"), value());
    }
    expect(1);
    cache.clear();
    expect(100);
    for n in 0..10 {
        cache.set_sync(&format!("{n}"), value().with_ttl(Duration::from_secs(1)));
    }
    clock.advance(Duration::from_secs(2));
    cache.set_sync("k", value());
    expect(10);
    cache.set_sync("k", value().with_ttl(Duration::from_secs(1)));
    expect(1);
    clock.advance(Duration::from_secs(2));
    cache.purge();
    expect(1);
    for read in [
        (|cache| assert!(cache.get_sync("a").is_none())) as fn(&DictBackend<Nosy>),
        |cache| assert_eq!(cache.get_multi_sync(&["b", "a"]).len(), 2),
    ] {
        for key in ["a", "b"] {
            let value = value().with_ttl(Duration::from_secs(1));
            cache.set_sync(key, value);
        }
        clock.advance(Duration::from_secs(2));
        // The read removes one, and the `delete_sync` in its drop removes the other.
        read(&cache);
        expect(2);
    }
}
