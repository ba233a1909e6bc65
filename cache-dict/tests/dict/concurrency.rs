//! Concurrent callers.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use cache_core::{CacheBackend, CachedValue, DynBackend};
use cache_dict::DictBackend;

/// A payload that names its key, so that a mix-up is detected.
type Named = Arc<(String, u64)>;

fn named(key: &str, n: u64) -> CachedValue<Named> {
    CachedValue::new(Arc::new((key.to_owned(), n)))
}

#[test]
fn readers_see_the_values_of_a_key_in_order_and_no_others() {
    for max_entries in [0, 100, 1_000] {
        let builder = DictBackend::builder().max_entries(max_entries);
        let cache = builder
            .expiration_time(Duration::from_millis(5))
            .build()
            .unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let cache = &cache;
                    scope.spawn(move || {
                        for n in 0..30_000_u64 {
                            let key = format!("{writer} {}", n % 500);
                            match n % 11 {
                                0 => cache.delete_sync(&key),
                                1 => {
                                    let other = format!("{writer} {}", n % 7);
                                    let entries = vec![
                                        (key.as_str(), named(&key, n)),
                                        (other.as_str(), named(&other, n)),
                                    ];
                                    cache.set_multi_sync(entries);
                                }
                                2 if n % 1_000 == 2 => cache.purge(),
                                3 if n % 5_000 == 3 => cache.clear(),
                                _ => cache.set_sync(&key, named(&key, n)),
                            }
                            if max_entries > 0 {
                                assert!(cache.len() <= max_entries);
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..2 {
                scope.spawn(|| {
                    let keys: Vec<String> =
                        (0..1_000).map(|n| format!("{} {}", n % 2, n / 2)).collect();
                    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
                    let mut last = vec![0; keys.len()];
                    while !done.load(Ordering::Relaxed) {
                        let multi = cache.get_multi_sync(&asked);
                        let single = asked.iter().map(|key| cache.get_sync(key));
                        for (n, found) in multi.into_iter().chain(single).enumerate() {
                            let n = n % keys.len();
                            if let Some(found) = found {
                                let (key, written) = &**found.payload();
                                assert_eq!(*key, keys[n]);
                                assert!(last[n] <= *written, "{key} went back in time");
                                last[n] = *written;
                            }
                        }
                    }
                });
            }
            // If a writer fails, the readers must still end.
            let ended: Vec<_> = writers
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect();
            done.store(true, Ordering::Relaxed);
            assert!(ended.iter().all(Result::is_ok));
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_share_a_cache_behind_a_handle() {
    let backend = DictBackend::builder().build().unwrap();
    let cache = DynBackend::new(backend.clone());
    let tasks: Vec<_> = (0..16_u64)
        .map(|task| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for n in 0..500 {
                    let key = format!("{task} {n}");
                    cache.set(&key, named(&key, n)).await.unwrap();
                    let found = cache.get(&key).await.unwrap().unwrap();
                    assert_eq!(found.payload().0, key);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(backend.len(), 16 * 500);
}

/// Polls a future once, without a runtime, and returns its output.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    let ready = match pin!(future).poll(&mut context) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    };
    ready.expect("the future is pending")
}

#[test]
fn every_operation_completes_at_its_first_poll() {
    const { assert!(DictBackend::<u32>::IMMEDIATE) };
    let cache = DictBackend::builder()
        .expiration_time(Duration::from_secs(3600))
        .build()
        .unwrap();
    at_once(cache.set("k", CachedValue::new(7))).unwrap();
    assert!(at_once(cache.get("k")).unwrap().is_some());
    at_once(cache.delete("k")).unwrap();

    let keys: Vec<String> = (0..100_000).map(|n| format!("{n}")).collect();
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let values = (0_u32..).map(CachedValue::new);
    let entries = asked.iter().copied().zip(values).collect();
    at_once(cache.set_multi(entries)).unwrap();
    assert_eq!(cache.len(), keys.len());
    let found = at_once(cache.get_multi(&asked));
    for (found, n) in found.into_iter().zip(0_u32..) {
        assert_eq!(found.unwrap().map(CachedValue::into_payload), Some(n));
    }
    at_once(cache.delete_multi(&asked)).unwrap();
    assert!(cache.is_empty());
}
