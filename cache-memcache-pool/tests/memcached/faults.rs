//! Servers that die, hang, send corrupt responses, and recover.

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::load::Load;
use crate::common::proxy::{Proxy, Spoil};
use crate::common::{
    CALL_LIMIT, SOCKET_TIMEOUT, all, builder, eventually, key_on, servers, urls, value,
};
use cache_core::ServerEvent;
use cache_core::{CacheBackend as _, ErrorKind};
use cache_memcache_pool::MemcachePoolBackend;
use test_servers::Memcached;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;

const TASKS: u64 = 32;

fn is_down(cache: &MemcachePoolBackend, server: usize) -> bool {
    cache.stats().servers[server].down_for.is_some()
}

fn connections(cache: &MemcachePoolBackend) -> usize {
    cache.stats().servers.iter().map(|s| s.connections).sum()
}

/// Makes calls until the server is back in use.
async fn is_back(cache: &MemcachePoolBackend, server: usize) {
    let began = Instant::now();
    while is_down(cache, server) {
        assert!(began.elapsed() < CALL_LIMIT, "it is not back");
        for i in 0..20 {
            let _ = cache.get(&format!("any-{i}")).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_server_under_load_fails_no_calls() {
    let mut servers = servers(3);
    let cache = builder(urls(&servers)).build().unwrap();
    let before = Handle::current().metrics().num_alive_tasks();
    let load = Load::start(&cache, TASKS);
    tokio::time::sleep(Duration::from_millis(200)).await;
    servers[1].kill().unwrap();
    eventually("the server is found down", || is_down(&cache, 1)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    servers[1].restart().unwrap();
    eventually("the server is back", || !is_down(&cache, 1)).await;
    let calls = cache.stats().servers[1].calls;
    eventually("it is in use", || cache.stats().servers[1].calls > calls).await;
    let seen = load.stop().await;
    assert!(seen.errors.is_empty(), "{seen:?}");
    assert!(seen.hits > 0, "{seen:?}");
    assert_eq!(cache.stats().servers[0].downs, 0);
    assert_eq!(cache.stats().servers[2].downs, 0);
    assert!(connections(&cache) <= 30);
    drop(cache);
    let alive = || Handle::current().metrics().num_alive_tasks();
    eventually("no task is left", || alive() <= before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_a_server_under_load_fails_no_calls() {
    let servers = servers(3);
    let cache = builder(urls(&servers)).build().unwrap();
    let load = Load::start(&cache, TASKS);
    tokio::time::sleep(Duration::from_millis(200)).await;
    servers[1].pause().unwrap();
    eventually("the server is found to be down", || is_down(&cache, 1)).await;
    tokio::time::sleep(SOCKET_TIMEOUT).await;
    let seen = load.stop().await;
    assert!(seen.errors.is_empty(), "{seen:?}");
    assert_eq!(cache.stats().servers[1].downs, 1);
}

#[tokio::test]
async fn a_stopped_server_is_detected_by_one_call_and_recovers() {
    let servers = servers(3);
    let cache = builder(urls(&servers)).build().unwrap();
    for i in 0..30 {
        cache.set(&format!("k{i}"), value("1")).await.unwrap();
    }
    servers[0].pause().unwrap();
    for i in 0..30 {
        cache.get(&format!("k{i}")).await.unwrap();
    }
    assert_eq!(cache.stats().servers[0].timeouts, 1);
    servers[0].resume().unwrap();
    is_back(&cache, 0).await;
    for i in 0..30 {
        assert!(cache.get(&format!("k{i}")).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn callers_of_a_silent_server_time_out_together() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).build().unwrap();
    cache.set("k", value("1")).await.unwrap();
    server.pause().unwrap();
    let began = Instant::now();
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get("k").await })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert_eq!(error.keys(), ["k"]);
    }
    assert!(began.elapsed() >= SOCKET_TIMEOUT);
    assert!(began.elapsed() < CALL_LIMIT, "{:?}", began.elapsed());
    assert_eq!(cache.stats().servers[0].timeouts, 1);
    assert_eq!(connections(&cache), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_error_says_that_a_stopped_server_responds() {
    let servers = servers(3);
    for server in &servers {
        server.pause().unwrap();
    }
    for i in 0..5 {
        // A new backend, which does not know yet that they are down.
        let cache = builder(urls(&servers))
            .socket_timeout(Duration::from_millis(200))
            .build()
            .unwrap();
        let error = cache.get(&format!("k{i}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(!error.message().contains("the server responds"), "{error}");
    }
}

#[tokio::test]
async fn when_all_servers_are_down_the_error_names_each_and_its_next_attempt() {
    let mut servers = servers(2);
    let cache = builder(urls(&servers)).build().unwrap();
    for server in &mut servers {
        server.kill().unwrap();
    }
    for i in 0..20 {
        let error = cache.get(&i.to_string()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let mut found = cache.get_multi(&["a", "b"]).await;
    assert_eq!(found[0].as_ref().unwrap_err().keys(), ["a"]);
    let error = found.remove(1).unwrap_err();
    assert_eq!(error.keys(), ["b"]);
    for server in &servers {
        assert!(error.message().contains(&server.url()), "{error}");
    }
    assert!(error.message().contains("refused"), "{error}");
    assert!(error.message().contains("next attempt "), "{error}");
    let error = cache
        .set_multi(vec![("a", value("1")), ("b", value("2"))])
        .await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_server_that_starts_later_is_used_once_it_is_available() {
    let mut server = Memcached::start().unwrap();
    server.kill().unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let cache = builder([server.url()])
        .on_server_event(move |event| heard.lock().unwrap().push(event.clone()))
        .build()
        .unwrap();
    let error = cache.set("k", value("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    server.restart().unwrap();
    is_back(&cache, 0).await;
    cache.set("k", value("1")).await.unwrap();
    assert!(cache.get("k").await.unwrap().is_some());
    let events = events.lock().unwrap();
    assert!(
        matches!(&events[0], ServerEvent::Down { server: name, retry_in, .. }
            if *name == server.url() && *retry_in <= Duration::from_millis(100)),
        "{events:?}"
    );
    let last = events.last().unwrap();
    assert!(matches!(last, ServerEvent::Up { .. }), "{events:?}");
}

#[tokio::test]
async fn a_restarted_server_is_soon_back_in_use() {
    let mut server = Memcached::start().unwrap();
    let cache = builder([server.url()]).build().unwrap();
    for _ in 0..5 {
        while cache.set("k", value("1")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.restart().unwrap();
        let began = Instant::now();
        while let Err(error) = cache.get("k").await {
            assert!(began.elapsed() < CALL_LIMIT, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(cache.get("k").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_full_accept_queue_counts_as_a_silent_server() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    for _ in 0..8 {
        let connect = TcpStream::connect(address);
        if let Ok(stream) = tokio::time::timeout(SOCKET_TIMEOUT, connect).await {
            filling.push(stream.unwrap());
        }
    }
    assert!(filling.len() < 8, "the queue is full");
    let cache = builder([address.to_string()]).build().unwrap();
    let error = cache.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(is_down(&cache, 0));
}

#[tokio::test]
async fn a_server_flushed_on_reconnect_serves_no_old_values() {
    for flush in [false, true] {
        let servers = servers(2);
        let cache = builder(urls(&servers))
            .pool_flush_on_reconnect(flush)
            .build()
            .unwrap();
        let key = key_on(&cache, 0).await;
        cache.set(&key, value("old")).await.unwrap();
        servers[0].pause().unwrap();
        // Not a set, which the server would execute when it resumes.
        assert_eq!(cache.get(&key).await.unwrap(), None);
        cache.set(&key, value("new")).await.unwrap();
        let found = cache.get(&key).await.unwrap().unwrap();
        assert_eq!(found.payload(), b"new", "from the other server");
        servers[0].resume().unwrap();
        is_back(&cache, 0).await;
        let found = cache.get(&key).await.unwrap();
        let found = found.map(cache_core::CachedValue::into_payload);
        let expected = (!flush).then(|| b"old".to_vec());
        assert_eq!(found, expected, "flush: {flush}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_to_be_flushed_is_reported() {
    let mut server = Memcached::builder().arg("-F").start().unwrap();
    let cache = builder([server.url()]).pool_flush_on_reconnect(true);
    let cache = cache.build().unwrap();
    cache.set("k", value("1")).await.unwrap();
    server.kill().unwrap();
    cache.get("k").await.unwrap_err();
    server.restart().unwrap();
    for _ in 0..1000 {
        let error = cache.get("k").await.unwrap_err();
        if error.message().contains("flush_all not allowed") {
            assert!(
                error.message().contains("`pool_flush_on_reconnect`"),
                "{error}"
            );
            assert!(!error.message().contains("is it memcached"), "{error}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the server was not probed");
}

/// A server that takes a while for each response, all of them misses.
fn slow_server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while let Some(Ok(line)) = lines.next() {
                    std::thread::sleep(Duration::from_millis(20));
                    let answer = match line.as_str() {
                        "version" => "VERSION 1.6.18\r\n",
                        "mn" => "MN\r\n",
                        _ => "EN\r\n",
                    };
                    let _ = stream.write_all(answer.as_bytes());
                }
            });
        }
    });
    address
}

#[test]
fn a_server_returns_although_the_runtime_runs_only_during_calls() {
    let fast = Memcached::start().unwrap();
    let (slow, is_refused) = (slow_server(), Arc::new(AtomicBool::new(true)));
    let refuse = (slow.clone(), Arc::clone(&is_refused));
    let cache = MemcachePoolBackend::builder()
        .url([&slow, &fast.url()])
        .socket_timeout(Duration::from_millis(300))
        .dead_retry(Duration::from_millis(1))
        .connect_with(move |address| {
            let is_refused = address == refuse.0 && refuse.1.load(Ordering::SeqCst);
            let address = address.to_owned();
            async move {
                if is_refused {
                    return Err(std::io::ErrorKind::ConnectionRefused.into());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                TcpStream::connect(address).await
            }
        });
    let cache = cache.build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // All keys are read from the fast server. A probe takes longer than that.
    let any_key = || {
        for i in 0..20 {
            let _ = runtime.block_on(cache.get(&format!("k{i}")));
        }
    };
    any_key();
    assert!(is_down(&cache, 0));
    is_refused.store(false, Ordering::SeqCst);
    for _ in 0..100 {
        any_key();
        if !is_down(&cache, 0) {
            return;
        }
        // Longer than `socket_timeout`.
        std::thread::sleep(Duration::from_millis(450));
    }
    panic!("it did not return");
}

#[tokio::test]
async fn without_failover_the_keys_of_a_down_server_are_unavailable() {
    let mut servers = servers(2);
    let cache = builder(urls(&servers)).failover(false).build().unwrap();
    let (lost, kept) = (key_on(&cache, 0).await, key_on(&cache, 1).await);
    servers[0].kill().unwrap();
    for _ in 0..3 {
        let error = cache.set(&lost, value("1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        cache.set(&kept, value("1")).await.unwrap();
    }
    let entries = vec![(lost.as_str(), value("2")), (kept.as_str(), value("2"))];
    let error = cache.set_multi(entries).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial, "{error}");
    assert_eq!(error.keys(), [lost.as_str()]);
    assert!(error.is_transient());
    assert_eq!(cache.get(&kept).await.unwrap().unwrap().payload(), b"2");
    let found = cache.get_multi(&[&kept, &lost]).await;
    assert!(found[0].as_ref().unwrap().is_some());
    assert_eq!(found[1].as_ref().unwrap_err().keys(), [lost.as_str()]);
}

#[tokio::test]
async fn calls_to_a_full_pool_wait_no_longer_than_configured() {
    let server = Memcached::start().unwrap();
    let cache = MemcachePoolBackend::builder()
        .url([server.url()])
        .pool_maxsize(1)
        .pool_connection_get_timeout(Duration::from_millis(100))
        .socket_timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    cache.set("k", value("1")).await.unwrap();
    server.pause().unwrap();
    let calls: Vec<_> = (0..1500)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get("k").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    let error = cache.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PoolExhausted, "{error}");
    assert!(error.message().contains("pool_maxsize"), "{error}");
    assert!(began.elapsed() < CALL_LIMIT);
    // All requests of a call share one wait: separate waits would take half a minute.
    let keys: Vec<String> = (0..20_000).map(|i| format!("k{i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let error = all(cache.get_multi(&keys).await).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PoolExhausted, "{error}");
    assert!(began.elapsed() < CALL_LIMIT);
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.resume().unwrap();
    let (mut answered, mut refused) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(found) => {
                assert_eq!(found.unwrap().payload(), b"1");
                answered += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PoolExhausted);
                refused += 1;
            }
        }
    }
    assert!(answered > 0 && refused > 0, "{answered} and {refused}");
    assert_eq!(cache.stats().servers[0].connects, 1);
    assert_eq!(cache.stats().servers[0].in_flight, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corrupt_responses_never_yield_a_wrong_value() {
    let server = Memcached::start().unwrap();
    for spoil in Spoil::ALL {
        let proxy = Proxy::start(server.url()).await;
        let cache = builder([proxy.url()]).build().unwrap();
        let load = Load::start(&cache, 8);
        tokio::time::sleep(Duration::from_millis(30)).await;
        proxy.set(spoil);
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.set(Spoil::Nothing);
        let began = Instant::now();
        while let Err(error) = cache.set("k", value("1")).await {
            assert!(began.elapsed() < CALL_LIMIT, "{spoil:?}: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(cache.get("k").await.unwrap().unwrap().payload(), b"1");
        let seen = load.stop().await;
        assert!(seen.hits > 0, "{spoil:?}: {seen:?}");
    }
}

#[tokio::test]
async fn an_invalid_line_is_reported_and_does_not_mark_the_server_down() {
    let server = Memcached::start().unwrap();
    for spoil in [
        Spoil::Garbage,
        Spoil::OneTooMany,
        Spoil::HugeLength,
        Spoil::EndlessLine,
    ] {
        let proxy = Proxy::start(server.url()).await;
        let cache = builder([proxy.url()]).build().unwrap();
        cache.set("k", value("1")).await.unwrap();
        proxy.set(spoil);
        let error = cache.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{spoil:?}: {error}");
        assert!(error.message().contains(&proxy.url()), "{error}");
        proxy.set(Spoil::Nothing);
        assert_eq!(cache.get("k").await.unwrap().unwrap().payload(), b"1");
        assert_eq!(cache.stats().servers[0].downs, 0);
    }
}

#[tokio::test]
async fn losing_a_server_during_a_multi_operation_fails_over() {
    let mut servers = servers(3);
    let cache = builder(urls(&servers)).build().unwrap();
    let keys: Vec<String> = (0..2000).map(|i| format!("k{i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let entries = || keys.iter().map(|key| (*key, value(key))).collect();
    cache.set_multi(entries()).await.unwrap();
    servers[2].kill().unwrap();
    let found = all(cache.get_multi(&keys).await).unwrap();
    let hits = found.iter().flatten().count();
    assert!((1000..2000).contains(&hits), "{hits}");
    assert!(cache.stats().servers[2].failovers > 0);
    cache.set_multi(entries()).await.unwrap();
    let found = all(cache.get_multi(&keys).await).unwrap();
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found.unwrap().payload(), key.as_bytes());
    }
    servers[1].pause().unwrap();
    cache.delete_multi(&keys).await.unwrap();
    assert_eq!(cache.stats().servers[1].timeouts, 1);
}
