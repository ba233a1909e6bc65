//! What becomes of servers that refuse, of connections beyond the first, and of values in a second
//! home.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use cache_core::{CacheBackend as _, CachedValue, ErrorKind};
use cache_memcache_pool::{MemcachePoolBackend, MetaRequest, Protocol};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::network::{Fault, Kind};
use crate::setup::{SECOND, TIMEOUT, builder, farm, fault};

fn value(text: &str) -> CachedValue<Vec<u8>> {
    CachedValue::new(text.as_bytes().to_vec())
}

/// Makes many calls at once, for a while.
async fn load(cache: &MemcachePoolBackend, tasks: usize, length: Duration) {
    let end = Instant::now() + length;
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let cache = cache.clone();
        running.spawn(async move {
            while Instant::now() < end {
                cache.get(&format!("k{task}")).await.unwrap();
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_no_longer_refuses_the_credentials_is_used_again() {
    let farm = farm(2, &[], |_| {});
    farm.0[0].require_password(true);
    let urls = farm.urls();
    let cache = builder(&farm).url(&urls[..1]).build().unwrap();
    for _ in 0..20 {
        let error = cache.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.message().contains("`username`"), "{error}");
        sleep(SECOND / 20).await;
    }
    let server = &cache.stats().servers[0];
    assert_eq!(server.downs, 0);
    assert!(server.denied > 1, "it is tried again: {server:?}");
    assert!(server.denied < 10, "but not by each call: {server:?}");
    farm.0[0].require_password(false);
    // Calls fail until one of them has started a probe, after the current wait at the latest.
    let begun = Instant::now();
    while cache.get("k").await.is_err() {
        assert!(begun.elapsed() < SECOND * 3);
        sleep(SECOND / 20).await;
    }
    assert_eq!(cache.stats().servers[0].down_for, None);
}

#[tokio::test(start_paused = true)]
async fn if_further_connections_are_refused_few_are_tried() {
    let farm = farm(1, &[], |_| {});
    let (net, attempts) = (farm.clone(), Arc::new(AtomicU64::new(0)));
    let attempted = Arc::clone(&attempts);
    let connect = move |address: &str| {
        let is_first = attempted.fetch_add(1, Ordering::Relaxed) == 0;
        let (net, address) = (net.clone(), address.to_owned());
        async move {
            if is_first {
                net.connect(address).await
            } else {
                Err(std::io::ErrorKind::ConnectionRefused.into())
            }
        }
    };
    let cache = builder(&farm).connect_with(connect).build().unwrap();
    load(&cache, 100, SECOND * 30).await;
    let server = &cache.stats().servers[0];
    assert_eq!((server.downs, server.timeouts), (0, 0));
    // After 0.1 s, then twice as long each time, up to 5 s.
    let attempts = attempts.load(Ordering::Relaxed);
    assert!((8..=16).contains(&attempts), "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn once_a_further_connection_is_accepted_the_pool_grows_as_before() {
    let farm = farm(1, &[], |link| link.latency = Duration::from_millis(50));
    let (net, start) = (farm.clone(), Instant::now());
    let connect = move |address: &str| {
        let is_accepted = net.0[0].connects() == 0 || start.elapsed() >= SECOND * 3;
        let (net, address) = (net.clone(), address.to_owned());
        async move {
            if is_accepted {
                net.connect(address).await
            } else {
                Err(std::io::ErrorKind::ConnectionRefused.into())
            }
        }
    };
    let cache = builder(&farm).connect_with(connect).build().unwrap();
    load(&cache, 2000, SECOND * 2).await;
    assert_eq!(cache.stats().servers[0].connections, 1);
    load(&cache, 2000, SECOND * 4).await;
    let connections = cache.stats().servers[0].connections;
    assert!(connections >= 7, "{connections}");
}

#[tokio::test(start_paused = true)]
async fn idle_connections_that_the_server_closes_are_no_fault() {
    let resets: Vec<Fault> = (1..=5)
        .map(|n| fault(Kind::Reset, SECOND * 2 * n, SECOND * 2 * n))
        .collect();
    let farm = farm(1, &resets, |_| {});
    let cache = builder(&farm).protocol(Protocol::Classic).build().unwrap();
    let start = Instant::now();
    for n in 1..=5 {
        // It never receives a response.
        let (_, opened) = cache.warm_up().await.remove(0);
        opened.unwrap();
        sleep_until(start + SECOND * 2 * n + SECOND / 100).await;
        assert_eq!(cache.stats().servers[0].connections, 0);
    }
    assert_eq!(cache.stats().servers[0].downs, 0);
    cache.get("k").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_checked_once_however_many_connections_wait() {
    let pause = fault(Kind::Pause, SECOND, SECOND * 600);
    let farm = farm(1, &[pause], |_| {});
    let cache = builder(&farm).build().unwrap();
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..2000 {
        let cache = cache.clone();
        tasks.spawn(async move {
            while cache.get(&format!("k{task}")).await.is_ok() {
                sleep(Duration::from_millis(task % 7)).await;
            }
        });
    }
    sleep_until(start + SECOND).await;
    let before = cache.stats().servers[0].clone();
    assert!(before.connections > 1, "{before:?}");
    // Before the first of them times out.
    sleep_until(start + SECOND + TIMEOUT * 9 / 10).await;
    let checks = farm.0[0].connects() - before.connects;
    assert_eq!(checks, 1);
    while tasks.join_next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn the_error_names_each_server_that_is_down_and_the_next_attempt() {
    let restart = fault(Kind::Restart, Duration::ZERO, SECOND * 600);
    let farm = farm(1, &[restart], |_| {});
    let cache = builder(&farm).build().unwrap();
    for _ in 0..3 {
        let error = cache.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let message = error.message();
        for words in [
            "no server for this key is up",
            "server-0:1",
            "cannot connect",
            "next attempt",
        ] {
            assert!(message.contains(words), "{message}");
        }
    }
    assert!(format!("{cache:?}").contains("server-0:1"));
}

#[tokio::test(start_paused = true)]
async fn while_a_server_is_down_older_values_in_the_second_home_are_misses() {
    let outages = [
        fault(Kind::Partition, SECOND, SECOND * 5),
        fault(Kind::Partition, SECOND * 20, SECOND * 30),
    ];
    let farm = farm(2, &outages, |_| {});
    let start = Instant::now();
    let now = move || UNIX_EPOCH + SECOND * 1_700_000_000 + start.elapsed();
    let cache = builder(&farm).pool_expire_on_reconnect(true).clock(now);
    let cache = cache.dead_retry(SECOND).build().unwrap();
    let keys: Vec<String> = (0..20).map(|key| format!("k{key}")).collect();
    let write = async |text: &str| {
        for key in &keys {
            cache
                .set(key, value(text).with_cached_at(now()))
                .await
                .unwrap();
        }
    };
    let read = async || {
        let mut found = Vec::new();
        for key in &keys {
            let value = cache.get(key).await.unwrap();
            found.push(value.map(|value| String::from_utf8(value.into_payload()).unwrap()));
        }
        found
    };
    // During the first outage all values go to the second home, where they are found.
    sleep_until(start + SECOND * 2).await;
    assert!(read().await.iter().all(Option::is_none));
    write("first").await;
    assert!(
        read()
            .await
            .iter()
            .all(|found| found.as_deref() == Some("first"))
    );
    // Then each goes to its own.
    sleep_until(start + SECOND * 6).await;
    while cache.stats().servers[0].down_for.is_some() {
        read().await;
        sleep(SECOND / 10).await;
    }
    write("second").await;
    assert!(
        read()
            .await
            .iter()
            .all(|found| found.as_deref() == Some("second"))
    );
    // In the second outage those of the first are still in the second home.
    sleep_until(start + SECOND * 21).await;
    let found = read().await;
    assert!(cache.stats().servers[0].down_for.is_some());
    let hits = found.iter().flatten().count();
    assert!(hits > 0 && hits < keys.len(), "{found:?}");
    assert!(
        found.iter().flatten().all(|found| found == "second"),
        "{found:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn large_requests_weigh_more() {
    let farm = farm(1, &[], |_| {});
    for (bytes, weight) in [(0, 1), (4095, 1), (4096, 2), (40_960, 11)] {
        let cache = builder(&farm).build().unwrap();
        let other = cache.clone();
        let set = MetaRequest::set("k", vec![0; bytes]);
        let call = tokio::spawn(async move { other.meta(set).await });
        tokio::task::yield_now().await;
        assert_eq!(cache.stats().servers[0].in_flight, weight, "{bytes} bytes");
        call.await.unwrap().unwrap();
        assert_eq!(cache.stats().servers[0].in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn more_connections_are_opened_while_values_are_large() {
    for (bytes, connections) in [(100, 2), (100_000, 6)] {
        let farm = farm(1, &[], |link| link.latency = SECOND / 100);
        let mut stored = br#"{"ct": 1700000000.5, "v": 2}|"#.to_vec();
        stored.resize(bytes, b'v');
        for task in 0..100 {
            farm.0[0].put(&format!("k{task}"), stored.clone());
        }
        let cache = builder(&farm).build().unwrap();
        load(&cache, 100, SECOND).await;
        assert_eq!(cache.stats().servers[0].connections, connections, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_another_server_waits_for_the_probe() {
    let restart = fault(Kind::Restart, Duration::ZERO, SECOND);
    let farm = farm(1, &[restart], |_| {});
    let cache = builder(&farm).build().unwrap();
    assert!(cache.get("k").await.is_err());
    sleep(SECOND * 2).await;
    assert_eq!(cache.get("k").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn servers_that_remain_keep_their_connections_and_counters() {
    let farm = farm(2, &[], |_| {});
    let urls = farm.urls();
    let cache = builder(&farm).url(&urls[..1]).build().unwrap();
    cache.get("k").await.unwrap();
    cache.set_servers(&urls).unwrap();
    cache.set_servers(&urls[..1]).unwrap();
    cache.get("k").await.unwrap();
    let server = &cache.stats().servers[0];
    assert_eq!((server.calls, server.connects), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_a_removed_server_leaves_no_connection() {
    let pause = fault(Kind::Partition, SECOND, SECOND * 3);
    let farm = farm(2, &[pause], |_| {});
    let urls = farm.urls();
    let cache = builder(&farm)
        .url(&urls)
        .socket_timeout(SECOND)
        .build()
        .unwrap();
    let keys: Vec<String> = (0..20).map(|key| format!("k{key}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let start = Instant::now();
    sleep_until(start + SECOND).await;
    // The server is down, and one of the calls has started a probe, which ends after the partition.
    while start.elapsed() < SECOND * 28 / 10 {
        cache.get_multi(&keys).await;
        sleep(SECOND / 50).await;
    }
    assert!(cache.stats().servers[0].down_for.is_some());
    cache.set_servers(&urls[1..]).unwrap();
    sleep(SECOND * 5).await;
    assert_eq!(farm.0[0].open(), 0);
}
