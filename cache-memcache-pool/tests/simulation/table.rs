//! Single cases, to the millisecond: how callers are affected by a silent connection, a slow link,
//! a restart, a pause, a corrupt server, or a burst of calls.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use cache_core::{CacheBackend as _, CachedValue, ErrorKind};
use cache_memcache_pool::{MemcachePoolBackend, Protocol};
use tokio::io::BufWriter;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::network::{Fault, Kind};
use crate::rng::Rng;
use crate::server::Farm;
use crate::setup::{self, SECOND, TIMEOUT, builder, farm};

/// In milliseconds.
fn fault(kind: Kind, from: u64, to: u64) -> Fault {
    let (from, to) = (Duration::from_millis(from), Duration::from_millis(to));
    setup::fault(kind, from, to)
}

fn backend(farm: &Farm) -> MemcachePoolBackend {
    builder(farm).build().unwrap()
}

fn value(len: usize) -> CachedValue<Vec<u8>> {
    CachedValue::new(vec![b'v'; len])
}

/// A value as it is stored.
fn stored(len: usize) -> Vec<u8> {
    let mut stored = br#"{"ct": 1700000000.5, "v": 2}|"#.to_vec();
    stored.resize(stored.len() + len, b'v');
    stored
}

/// Makes calls one after another for a while. Returns how many failed, and the longest duration.
async fn calls(cache: &MemcachePoolBackend, length: Duration) -> (usize, Duration) {
    let (begun, mut failed, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    for turn in 0_u64.. {
        if begun.elapsed() > length {
            break;
        }
        let call = Instant::now();
        failed += usize::from(cache.get(&format!("k{}", turn % 50)).await.is_err());
        slowest = slowest.max(call.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    (failed, slowest)
}

#[tokio::test(start_paused = true)]
async fn one_silent_connection_is_replaced_and_the_server_stays_up() {
    let farm = farm(1, &[fault(Kind::SilentConnection, 100, 60_000)], |_| {});
    let cache = builder(&farm).pool_maxsize(2).build().unwrap();
    cache.get("k").await.unwrap();
    sleep_until(Instant::now() + Duration::from_millis(100)).await;
    // The first connection is silent from now on; others are opened in addition.
    let mut tasks = JoinSet::new();
    for task in 0..20 {
        let cache = cache.clone();
        tasks.spawn(async move {
            for _ in 0..400 {
                cache.get(&format!("k{task}")).await.unwrap();
                sleep(Duration::from_millis(5)).await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let stats = cache.stats();
    assert_eq!(stats.servers[0].downs, 0, "{stats:?}");
    assert_eq!(stats.servers[0].timeouts, 1, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn values_that_expire_while_another_server_is_awaited_are_misses() {
    let farm = farm(2, &[fault(Kind::Pause, 100, 60_000)], |_| {});
    let start = Instant::now();
    let cache = builder(&farm).clock(move || UNIX_EPOCH + SECOND + start.elapsed());
    // The server that will not respond is the last.
    let cache = cache.url(farm.urls().into_iter().rev()).build().unwrap();
    let keys: Vec<String> = (0..20).map(|i| format!("k{i}")).collect();
    for (key, ttl) in keys
        .iter()
        .zip([TIMEOUT / 2, TIMEOUT * 4].into_iter().cycle())
    {
        cache.set(key, value(10).with_ttl(ttl)).await.unwrap();
    }
    sleep_until(start + Duration::from_millis(101)).await;
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = cache.get_multi(&names).await;
    let took = start.elapsed();
    assert!(took > TIMEOUT, "{took:?}");
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    assert!(found.iter().step_by(2).all(Option::is_none));
    let values: Vec<_> = found.into_iter().flatten().collect();
    assert!(!values.is_empty());
    for value in values {
        let left = value.ttl().duration().unwrap();
        assert!(
            left + took <= TIMEOUT * 4 + Duration::from_millis(100),
            "{left:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn large_values_over_a_slow_link_do_not_count_as_silence() {
    // Megabytes per second, callers, values per call, kilobytes per value, timeout in milliseconds.
    for (rate, tasks, values, size, socket_timeout) in [
        (20, 64, 1, 1000, 3000),
        (50, 16, 1, 1000, 250),
        (100, 1, 64, 1000, 500),
        (4, 1, 1, 7000, 1000),
        (4, 8, 1, 7000, 1000),
    ] {
        let farm = farm(1, &[], |link| {
            link.per_kilobyte = Duration::from_micros(1000 / rate);
        });
        let cache = builder(&farm)
            .socket_timeout(Duration::from_millis(socket_timeout))
            .server_max_value_length(8 << 20)
            .build()
            .unwrap();
        let keys: Vec<String> = (0..values).map(|i| format!("k{i}")).collect();
        for key in &keys {
            farm.0[0].put(key, stored(size * 1000));
        }
        let mut calls = JoinSet::new();
        for _ in 0..tasks {
            let (cache, keys) = (cache.clone(), keys.clone());
            calls.spawn(async move {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                for found in cache.get_multi(&keys).await {
                    assert!(found.unwrap().is_some());
                }
            });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap();
        }
        let stats = cache.stats();
        assert_eq!(stats.servers[0].timeouts, 0, "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn large_values_can_be_written_over_a_slow_link() {
    let farm = farm(1, &[], |link| {
        link.per_kilobyte = Duration::from_micros(500);
    });
    let cache = builder(&farm)
        .server_max_value_length(8 << 20)
        .build()
        .unwrap();
    cache.set("k", value(7_000_000)).await.unwrap();
    assert!(farm.0[0].has("k"));
    assert_eq!(cache.stats().servers[0].timeouts, 0);
}

#[tokio::test(start_paused = true)]
async fn buffered_bytes_are_flushed_once_the_link_has_room() {
    let farm = farm(1, &[], |link| link.capacity = 1000);
    let net = farm.clone();
    // It accepts the bytes at once, like TLS, but cannot flush them at once.
    let connect = move |address: &str| {
        let connecting = net.clone().connect(address.to_owned());
        async { Ok(BufWriter::with_capacity(64 * 1024, connecting.await?)) }
    };
    let cache = builder(&farm).connect_with(connect).build().unwrap();
    for len in [10, 5_000, 50_000] {
        cache.set("k", value(len)).await.unwrap();
        let both = tokio::join!(cache.get("k"), cache.set("l", value(len)));
        assert_eq!(both.0.unwrap().unwrap().payload().len(), len);
        both.1.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_trickle_of_bytes_does_not_extend_the_timeout() {
    let farm = farm(1, &[fault(Kind::Drip, 0, 600_000)], |_| {});
    farm.0[0].put("k", stored(100));
    let cache = backend(&farm);
    for _ in 0..5 {
        let begun = Instant::now();
        let error = cache.get("k").await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(
            begun.elapsed() <= TIMEOUT * 2 + SECOND / 100,
            "{:?}",
            begun.elapsed()
        );
        sleep(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_restarted_under_load_is_back_in_use_within_half_a_second() {
    for down in [10, 100, 500] {
        let farm = farm(1, &[fault(Kind::Restart, 1000, 1000 + down)], |_| {});
        let cache = backend(&farm);
        let start = Instant::now();
        calls(&cache, SECOND).await;
        sleep_until(start + SECOND + Duration::from_millis(down)).await;
        calls(&cache, SECOND / 2).await;
        for _ in 0..100 {
            cache.get("k").await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_server_is_back_in_use_within_half_a_second_of_resuming() {
    for pause in (300..=2000).step_by(17) {
        let farm = farm(1, &[fault(Kind::Pause, 1000, 1000 + pause)], |_| {});
        let cache = backend(&farm);
        let start = Instant::now();
        calls(&cache, Duration::from_millis(900 + pause)).await;
        sleep_until(start + Duration::from_millis(1000 + pause)).await;
        calls(&cache, SECOND / 2).await;
        let (failed, slowest) = calls(&cache, SECOND).await;
        assert_eq!(failed, 0, "after a pause of {pause} ms");
        assert!(slowest < TIMEOUT, "{slowest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_one_of_three_servers_causes_one_slow_call() {
    let start = Instant::now();
    let farm = farm(3, &[fault(Kind::Pause, 1000, 600_000)], |_| {});
    let cache = backend(&farm);
    calls(&cache, SECOND * 9 / 10).await;
    // Several connections, all of which were answered shortly before.
    let mut calls = JoinSet::new();
    for key in 0..200 {
        let cache = cache.clone();
        calls.spawn(async move { cache.get(&format!("k{}", key % 50)).await });
    }
    while let Some(found) = calls.join_next().await {
        found.unwrap().unwrap();
    }
    assert!(cache.stats().servers[0].connections > 1);
    sleep_until(start + SECOND).await;
    let mut slow = 0;
    for turn in 0..2000 {
        let begun = Instant::now();
        cache.get(&format!("k{}", turn % 50)).await.unwrap();
        slow += usize::from(begun.elapsed() >= TIMEOUT);
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(slow, 1);
    assert_eq!(cache.stats().servers[0].timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_with_invalid_responses_is_marked_down_after_a_few() {
    for kind in [Kind::Garbage, Kind::Foreign, Kind::CloseEach] {
        let farm = farm(2, &[fault(kind, 500, 10_500)], |_| {});
        let cache = backend(&farm);
        calls(&cache, SECOND / 2).await;
        let before = farm.0[0].connects();
        let (failed, _) = calls(&cache, SECOND * 10).await;
        assert!(failed <= 20, "{kind:?}: {failed} calls failed");
        let connects = farm.0[0].connects() - before;
        assert!(connects <= 40, "{kind:?}: {connects} connections");
        assert!(cache.stats().servers[0].downs > 0, "{kind:?}");
        // Its recovery is detected after the current wait at the latest.
        calls(&cache, SECOND * 12).await;
        let (failed, _) = calls(&cache, SECOND * 3).await;
        assert_eq!(failed, 0, "{kind:?}");
        assert_eq!(cache.stats().servers[0].down_for, None, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_unused_connections_at_once_is_marked_down() {
    let farm = farm(1, &[fault(Kind::CloseEach, 0, 600_000)], |_| {});
    let cache = backend(&farm);
    for _ in 0..3 {
        assert_eq!(cache.stats().servers[0].downs, 0);
        cache.warm_up().await;
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cache.stats().servers[0].downs, 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_names_the_server_that_had_no_time_left() {
    let refused = fault(Kind::Restart, 0, 600_000);
    let farm = farm(2, &[refused], |link| {
        // Longer than a call may take, in parts, so that the server is not silent.
        link.think = TIMEOUT / 4;
    });
    let cache = builder(&farm).pool_maxsize(1).build().unwrap();
    let keys: Vec<String> = (0..20).map(|key| format!("k{key}")).collect();
    let mut calls = JoinSet::new();
    for key in keys {
        let cache = cache.clone();
        calls.spawn(async move { cache.get(&key).await });
    }
    let mut messages = Vec::new();
    while let Some(found) = calls.join_next().await {
        if let Err(error) = found.unwrap() {
            messages.push(error.message().to_owned());
        }
    }
    let is_told = |message: &String| {
        message.contains("cannot connect") && message.contains("no time left for server-1")
    };
    assert!(messages.iter().any(is_told), "{messages:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_queued_behind_many_others_ends_by_its_deadline() {
    // Each request needs 0.3 s, and there is only one connection.
    for bulk in [1_usize, 5, 20] {
        let farm = farm(1, &[], |link| {
            link.think = Duration::from_micros(300_000 / 65);
        });
        let cache = builder(&farm).pool_maxsize(1).build().unwrap();
        cache.get("k").await.unwrap();
        let mut writes = JoinSet::new();
        for write in 0..bulk {
            let cache = cache.clone();
            writes.spawn(async move {
                let keys: Vec<String> = (0..64).map(|i| format!("{write}-{i}")).collect();
                let entries = keys.iter().map(|key| (key.as_str(), value(100)));
                let _ = cache.set_multi(entries.collect()).await;
            });
        }
        tokio::task::yield_now().await;
        let begun = Instant::now();
        let _ = cache.get("k").await;
        assert!(
            begun.elapsed() <= TIMEOUT * 2 + SECOND / 100,
            "{:?}",
            begun.elapsed()
        );
        while writes.join_next().await.is_some() {}
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_calls_are_served_first_come_first_served() {
    let farm = farm(1, &[], |link| link.latency = Duration::from_millis(5));
    let cache = builder(&farm)
        .pool_maxsize(1)
        .pool_connection_get_timeout(SECOND * 60)
        .build()
        .unwrap();
    cache.get("k").await.unwrap();
    let served = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for task in 0..5000 {
        let (cache, served) = (cache.clone(), Arc::clone(&served));
        tasks.spawn(async move {
            for _ in 0..2 {
                cache.get("k").await.unwrap();
                served.lock().unwrap().push(task);
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let served = served.lock().unwrap();
    let first: Vec<u32> = served[..5000].to_vec();
    assert_eq!(
        first,
        (0..5000).collect::<Vec<_>>(),
        "nobody is served twice before all are"
    );
}

#[tokio::test(start_paused = true)]
async fn oversized_values_are_skipped_without_affecting_reads_of_small_ones() {
    let farm = farm(1, &[], |_| {});
    farm.0[0].put("large", stored(3 << 20));
    farm.0[0].put("small", stored(10));
    let cache = backend(&farm);
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let cache = cache.clone();
        tasks.spawn(async move {
            for _ in 0..20 {
                if task < 8 {
                    let error = cache.get("large").await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ValueTooLarge, "{error}");
                    assert!(!error.is_transient());
                } else {
                    assert!(cache.get("small").await.unwrap().is_some());
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let stats = cache.stats();
    assert!(stats.servers[0].connects <= 10, "{stats:?}");
    assert_eq!(stats.servers[0].downs, 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_withdraw_unsent_requests() {
    let farm = farm(1, &[fault(Kind::Pause, 100, 60_000)], |link| {
        link.capacity = 1000;
    });
    let cache = builder(&farm)
        .pool_maxsize(1)
        .socket_timeout(SECOND * 100)
        .build()
        .unwrap();
    cache.get("k").await.unwrap();
    sleep(Duration::from_millis(200)).await;
    let mut calls = JoinSet::new();
    for i in 0..50 {
        let cache = cache.clone();
        calls.spawn(async move {
            let key = format!("k{i}");
            let set = cache.set(&key, value(1000));
            assert!(timeout(SECOND, set).await.is_err());
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    let stats = cache.stats();
    assert!(stats.servers[0].in_flight <= 2, "{stats:?}");
    cache.get("k").await.unwrap();
    let applied = (0..50).filter(|i| farm.0[0].has(&format!("k{i}"))).count();
    assert!(
        applied <= 2,
        "{applied} were applied, and two at most were on their way"
    );
}

#[tokio::test(start_paused = true)]
async fn closing_a_backend_completes_calls_in_flight_and_refuses_new_ones() {
    let farm = farm(2, &[], |link| link.latency = Duration::from_millis(100));
    let cache = backend(&farm);
    for (server, answer) in cache.warm_up().await {
        assert!(server.starts_with("server-"));
        answer.unwrap();
    }
    let before = cache.stats().servers[0].clone();
    assert_eq!((before.connections, before.idle), (1, 1));
    let call = tokio::spawn({
        let cache = cache.clone();
        async move { cache.set("k", value(1)).await }
    });
    sleep(Duration::from_millis(10)).await;
    cache.close().await;
    assert_eq!(farm.0.iter().map(|server| server.open()).sum::<usize>(), 0);
    assert!(call.is_finished());
    call.await.unwrap().unwrap();
    let error = cache.get("k").await.unwrap_err();
    assert!(error.message().contains("closed"), "{error}");
    cache.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_ping_reports_each_server_and_changes_nothing() {
    let farm = farm(2, &[fault(Kind::Restart, 0, 600_000)], |_| {});
    let cache = backend(&farm);
    let answers = cache.ping().await;
    let kinds: Vec<_> = answers
        .iter()
        .map(|(_, answer)| answer.as_ref().map_err(cache_core::Error::kind))
        .collect();
    assert_eq!(kinds, [Err(ErrorKind::Unavailable), Ok(&())]);
    let stats = cache.stats();
    assert!(stats.servers.iter().all(|server| server.down_for.is_none()));
    assert!(stats.servers.iter().all(|server| server.connections == 0));
}

#[tokio::test(start_paused = true)]
async fn replacing_servers_does_not_interrupt_calls_in_flight() {
    let farm = farm(4, &[], |link| link.latency = Duration::from_millis(20));
    let urls = farm.urls();
    let cache = builder(&farm).url(&urls[..3]).build().unwrap();
    let keys: Vec<String> = (0..200).map(|i| format!("k{i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let entries = || keys.iter().map(|key| (*key, value(10))).collect::<Vec<_>>();
    cache.set_multi(entries()).await.unwrap();
    let call = tokio::spawn({
        let (cache, keys) = (
            cache.clone(),
            keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>(),
        );
        async move {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            cache.get_multi(&keys).await
        }
    });
    sleep(Duration::from_millis(5)).await;
    // The third server is replaced by the fourth.
    cache.set_servers([&urls[0], &urls[1], &urls[3]]).unwrap();
    for found in call.await.unwrap() {
        assert!(found.unwrap().is_some());
    }
    let found = cache.get_multi(&keys).await;
    let moved = found
        .iter()
        .filter(|found| found.as_ref().unwrap().is_none())
        .count();
    // The third on the removed server, and the keys that the new one takes from the two others.
    let ideal = keys.len() / 3 + keys.len() * 2 / 9;
    assert!(
        moved > ideal * 7 / 10 && moved < ideal * 13 / 10,
        "{moved} of {ideal}"
    );
    let connects = cache.stats().servers[0].connects;
    assert_eq!(farm.0[0].open() as u64, connects, "connections stay");
    sleep(SECOND).await;
    assert_eq!(farm.0[2].open(), 0);
    assert!(cache.set_servers([&urls[0], &urls[0]]).is_err());
    assert_eq!(cache.stats().servers.len(), 3, "nothing changes");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_supports_only_the_classic_protocol_works() {
    let farm = farm(2, &[], |_| {});
    let cache = builder(&farm).protocol(Protocol::Classic).build().unwrap();
    let keys: Vec<String> = (0..200).map(|i| format!("k{i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let entries = keys.iter().map(|key| (*key, value(key.len())));
    cache.set_multi(entries.collect()).await.unwrap();
    cache.delete("k7").await.unwrap();
    cache.delete_multi(&["k8", "absent"]).await.unwrap();
    let found = cache.get_multi(&keys).await;
    for (key, found) in keys.iter().zip(found) {
        let found = found.unwrap();
        assert_eq!(found.is_none(), ["k7", "k8"].contains(key), "{key}");
    }
    cache.set("one", value(3)).await.unwrap();
    assert_eq!(cache.get("one").await.unwrap().unwrap().payload(), b"vvv");
    let error = cache.get("with space").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
}

/// A hundred times, a server is unreachable for a while, its keys are written elsewhere, and it
/// returns with its old values. Two of the sixteen processes notice.
#[tokio::test(start_paused = true)]
async fn a_server_that_returns_does_not_serve_values_from_before_its_outage() {
    const PERIOD: u64 = 6000;
    let faults: Vec<Fault> = (0..100)
        .map(|n| fault(Kind::Partition, n * PERIOD + 1000, n * PERIOD + 3000))
        .collect();
    let farm = farm(3, &faults, |_| {});
    let start = Instant::now();
    let now = move || UNIX_EPOCH + SECOND * 1_700_000_000 + start.elapsed();
    let process = |n| {
        let cache = builder(&farm)
            .pool_expire_on_reconnect(true)
            .dead_retry(SECOND);
        cache.jitter_seed(n).clock(now).build().unwrap()
    };
    let processes: Vec<MemcachePoolBackend> = (0..16).map(process).collect();
    let keys: Vec<String> = (0..12).map(|i| format!("k{i}")).collect();
    let mut rng = Rng::new(3);
    let (mut latest, mut hits) = (vec![0_u64; keys.len()], 0);
    for round in 0..100 {
        for (at, turn) in [(100, 1), (1600, 2)] {
            sleep_until(start + Duration::from_millis(round * PERIOD + at)).await;
            for (key, latest) in keys.iter().zip(&mut latest) {
                let version = round * 10 + turn;
                let value = CachedValue::new(version.to_string().into_bytes());
                let writer = &processes[rng.below(2) as usize];
                let written = writer.set(key, value.with_cached_at(now())).await;
                written.unwrap();
                assert!(start.elapsed() < Duration::from_millis(round * PERIOD + 3000));
                *latest = version;
            }
        }
        sleep_until(start + Duration::from_millis(round * PERIOD + 3100)).await;
        for cache in &processes[..2] {
            while cache.stats().servers[0].down_for.is_some() {
                let _ = cache.get_multi(&["k0", "k1", "k2", "k3", "k4", "k5"]).await;
                sleep(Duration::from_millis(20)).await;
            }
        }
        for cache in &processes {
            for (key, latest) in keys.iter().zip(&latest) {
                if let Some(found) = cache.get(key).await.unwrap() {
                    let found: u64 = String::from_utf8_lossy(found.payload()).parse().unwrap();
                    assert_eq!(found, *latest, "{key} in round {round}");
                    hits += 1;
                }
            }
        }
    }
    assert!(hits > 100 * 16, "{hits} hits are too few to say anything");
    let downs: u64 = processes
        .iter()
        .map(|cache| cache.stats().servers[0].downs)
        .sum();
    assert!(downs > 100, "{downs}");
    // Additional reads by the backend itself do not count.
    let server = &processes[15].stats().servers[0];
    assert_eq!(server.calls, server.hits + server.misses, "{server:?}");
}

#[tokio::test(start_paused = true)]
async fn statistics_count_keys_of_callers_only_even_those_of_dropped_calls() {
    let farm = farm(1, &[], |link| link.latency = Duration::from_millis(10));
    let cache = builder(&farm).pool_expire_on_reconnect(true);
    let cache = cache.build().unwrap();
    for key in ["found", "with space"] {
        cache.set(key, value(1)).await.unwrap();
    }
    for _ in 0..10 {
        for keys in [
            &["found"][..],
            &["missing"],
            &["with space"],
            &["found", "missing", "with space", "with another"],
        ] {
            let is_sent = Duration::from_millis(5);
            let read = cache.get_multi(keys);
            assert!(timeout(is_sent, read).await.is_err());
            // While much is in flight, the next request waits and would be withdrawn.
            sleep(is_sent * 10).await;
            let read = cache.get(keys[0]);
            assert!(timeout(is_sent, read).await.is_err());
            sleep(is_sent * 10).await;
        }
    }
    sleep(SECOND).await;
    let server = &cache.stats().servers[0];
    let counts = (server.calls, server.hits, server.misses);
    // Two writes; of each round's eleven reads four find nothing.
    assert_eq!(counts, (2 + 10 * 11, 10 * 7, 10 * 4));
}

#[tokio::test(start_paused = true)]
async fn calls_queued_behind_a_blocked_write_are_retried_when_the_connection_closes() {
    let farm = farm(1, &[fault(Kind::Reset, 100, 101)], |link| {
        link.capacity = 1000;
    });
    let cache = builder(&farm).pool_maxsize(1).build().unwrap();
    cache.get("k").await.unwrap();
    sleep(Duration::from_millis(60)).await;
    let mut tasks = JoinSet::new();
    let (writer, begun) = (cache.clone(), Instant::now());
    tasks.spawn(async move { writer.set("large", value(50_000)).await.is_ok() });
    for task in 0..10 {
        let cache = cache.clone();
        tasks.spawn(async move { cache.get(&format!("k{task}")).await.is_ok() });
    }
    let ended = timeout(10 * SECOND, tasks.join_all()).await;
    let succeeded = ended.expect("a call never ended");
    assert_eq!(succeeded, [true; 11]);
    assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn connections_are_opened_when_there_is_work_for_them() {
    let farm = farm(1, &[], |_| {});
    let cache = backend(&farm);
    for (tasks, expected) in [(1, 1..=1), (100, 2..=2), (2000, 3..=10)] {
        let calls: JoinSet<_> = (0..tasks)
            .map(|task| {
                let cache = cache.clone();
                async move { cache.get(&format!("k{task}")).await }
            })
            .collect();
        for found in calls.join_all().await {
            assert_eq!(found.unwrap(), None);
        }
        let open = cache.stats().servers[0].connections;
        assert!(
            expected.contains(&open),
            "{tasks} tasks: {open} connections"
        );
    }
}

#[test]
fn a_probe_lost_with_its_runtime_is_repeated() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let first = runtime();
    let cache = first.block_on(async {
        let farm = farm(1, &[fault(Kind::Pause, 100, 5000)], |_| {});
        let cache = backend(&farm);
        sleep(Duration::from_millis(200)).await;
        let timed_out = cache.get("k").await.unwrap_err();
        assert_eq!(timed_out.kind(), ErrorKind::Timeout);
        // This call starts a probe.
        let refused = cache.get("k").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        cache
    });
    drop(first);
    runtime().block_on(async {
        sleep(6 * SECOND).await;
        let (failed, _) = calls(&cache, SECOND).await;
        assert!(failed < 100, "{failed} calls failed: {:?}", cache.stats());
        assert_eq!(cache.get("k").await.unwrap(), None);
    });
}
