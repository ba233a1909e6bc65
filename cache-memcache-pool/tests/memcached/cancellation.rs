//! Dropped calls among others that complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::load::Load;
use crate::common::{CALL_LIMIT, all, builder, eventually, scrambled, servers, urls, value};
use cache_core::CacheBackend as _;
use cache_memcache_pool::MemcachePoolBackend;
use test_servers::Memcached;

/// Begins a call and drops it after up to `within` microseconds.
async fn begin_and_drop(cache: &MemcachePoolBackend, dice: u64, within: u64) -> bool {
    let key = format!("dropped-{}", dice % 50);
    let keys: Vec<String> = (0..20).map(|i| format!("dropped-{i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let patience = Duration::from_micros((dice >> 32) % within);
    let call = async {
        match (dice >> 16) % 5 {
            0 => cache.get(&key).await.map(drop),
            1 => cache.set(&key, value(&key)).await,
            2 => cache.delete(&key).await,
            3 => all(cache.get_multi(&keys).await).map(drop),
            _ => {
                let entries = keys.iter().map(|key| (*key, value(key))).collect();
                cache.set_multi(entries).await
            }
        }
    };
    if (dice >> 8).is_multiple_of(4) {
        // Polled once.
        let mut call = std::pin::pin!(call);
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx)));
        return polled.await.is_pending();
    }
    // The timer is too coarse for most calls to memcached, so some are dropped after a few polls.
    tokio::select! {
        biased;
        _ = call => false,
        () = async {
            if patience.as_micros().is_multiple_of(2) {
                tokio::time::sleep(patience).await;
            } else {
                for _ in 0..patience.as_micros() % 8 {
                    tokio::task::yield_now().await;
                }
            }
        } => true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_dropped_calls_do_not_affect_others() {
    let servers = servers(2);
    let cache = builder(urls(&servers)).pool_maxsize(3);
    let cache = cache.socket_timeout(CALL_LIMIT).build().unwrap();
    let load = Load::start(&cache, 16);
    let dropped = Arc::new(AtomicU64::new(0));
    let droppers: Vec<_> = (0..50)
        .map(|dropper| {
            let (cache, dropped) = (cache.clone(), Arc::clone(&dropped));
            tokio::spawn(async move {
                for turn in 0..200 {
                    let dice = scrambled(dropper * 1000 + turn);
                    let was_dropped = begin_and_drop(&cache, dice, 3000).await;
                    dropped.fetch_add(u64::from(was_dropped), Ordering::Relaxed);
                }
            })
        })
        .collect();
    for dropper in droppers {
        dropper.await.unwrap();
    }
    let seen = load.stop().await;
    assert!(seen.errors.is_empty(), "{seen:?}");
    assert!(seen.hits > 0, "{seen:?}");
    let dropped = dropped.load(Ordering::Relaxed);
    assert!(dropped > 1000, "{dropped}");
    for server in cache.stats().servers {
        assert!(server.connects <= 3, "{server:?}");
        assert_eq!(server.downs, 0, "{server:?}");
    }
    eventually("nothing is in flight", || {
        cache
            .stats()
            .servers
            .iter()
            .all(|server| server.in_flight == 0)
    })
    .await;
    for server in &servers {
        let open: usize = server.stats().unwrap()["curr_connections"].parse().unwrap();
        // The backend's, and the one that requests the statistics.
        assert!(open <= 3 + 2, "{open}");
    }
}

#[tokio::test]
async fn ten_thousand_timed_out_calls_open_no_connections() {
    let server = Memcached::start().unwrap();
    let cache = MemcachePoolBackend::builder()
        .url([server.url()])
        .pool_maxsize(2)
        .socket_timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    cache.set("k", value("1")).await.unwrap();
    server.pause().unwrap();
    let calls: Vec<_> = (0..10_000)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let call = cache.get("k");
                tokio::time::timeout(Duration::from_millis(20), call).await
            })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }
    server.resume().unwrap();
    let found = cache.get("k").await.unwrap().unwrap();
    assert_eq!(found.payload(), b"1");
    let stats = &cache.stats().servers[0];
    assert!(stats.connects <= 2, "{stats:?}");
    eventually("nothing is in flight", || {
        cache.stats().servers[0].in_flight == 0
    })
    .await;
}

#[tokio::test]
async fn a_call_that_is_not_polled_does_not_stall_others() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).pool_maxsize(1).build().unwrap();
    cache.set("k", value("1")).await.unwrap();
    let mut asleep: Vec<_> = (0..100).map(|_| Box::pin(cache.get("k"))).collect();
    for call in &mut asleep {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx)));
        assert!(polled.await.is_pending());
    }
    for _ in 0..100 {
        assert!(cache.get("k").await.unwrap().is_some());
    }
    for call in asleep {
        assert_eq!(call.await.unwrap().unwrap().payload(), b"1");
    }
}
