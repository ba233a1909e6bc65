//! The operations against a real memcached: the wire format, limits, expiry, and values of other
//! programs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use crate::common::{CALL_LIMIT, all};
use cache_core::{CacheBackend as _, CachedValue, ErrorKind};
use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolBuilder};
use test_servers::Memcached;

fn builder(server: &Memcached) -> MemcachePoolBuilder {
    MemcachePoolBackend::builder()
        .url([server.url()])
        .socket_timeout(CALL_LIMIT)
}

/// Sends `request` to the server, and returns its response.
fn say(server: &Memcached, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.url()).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn value(payload: &[u8]) -> CachedValue<Vec<u8>> {
    CachedValue::new(payload.to_vec())
}

#[tokio::test]
async fn values_are_stored_in_dogpile_cache_format_with_flags_0() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).build().unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
    let hello = value(b"hello").with_cached_at(at);
    cache.set("k", hello).await.unwrap();
    let stored = r#"{"ct": 1700000000.123456, "v": 2}|hello"#;
    assert_eq!(
        say(&server, b"get k\r\n"),
        format!("VALUE k 0 {}\r\n{stored}\r\nEND\r\n", stored.len())
    );
}

#[tokio::test]
async fn the_expiry_is_sent_to_the_server() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).memcached_expire_time(Duration::from_millis(100_500));
    let cache = cache.build().unwrap();
    cache.set("default", value(b"1")).await.unwrap();
    let own = value(b"1").with_ttl(Duration::from_secs(100));
    cache.set("own", own).await.unwrap();
    let far = value(b"1").with_ttl(Duration::from_secs(40 * 24 * 3600));
    cache.set("far", far).await.unwrap();
    let never = value(b"1").with_ttl(Duration::MAX);
    cache.set("never", never).await.unwrap();
    let left = |key: &str| -> i64 {
        let answer = say(&server, format!("mg {key} t\r\n").as_bytes());
        answer.trim().strip_prefix("HD t").unwrap().parse().unwrap()
    };
    assert!((60..=103).contains(&left("default")));
    assert!((60..=102).contains(&left("own")));
    let month = 40 * 24 * 3600;
    assert!((month - 60..=month + 3).contains(&left("far")));
    assert_eq!(left("never"), -1);
}

#[tokio::test]
async fn a_value_expires_at_its_deadline_even_if_memcached_still_has_it() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).build().unwrap();
    let short = value(b"1").with_ttl(Duration::from_millis(200));
    cache.set("k", short).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(cache.get("k").await.unwrap(), None);
    assert_eq!(
        all(cache.get_multi(&["k", "k"]).await).unwrap(),
        [None, None]
    );
    assert!(say(&server, b"get k\r\n").starts_with("VALUE k"));
}

#[tokio::test]
async fn a_ttl_of_zero_removes_the_old_value() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).build().unwrap();
    cache.set("k", value(b"old")).await.unwrap();
    let expired = || value(b"new").with_ttl(Duration::ZERO);
    cache.set("k", expired()).await.unwrap();
    assert_eq!(say(&server, b"get k\r\n"), "END\r\n");
    cache.set("k", value(b"old")).await.unwrap();
    cache
        .set_multi(vec![("k", expired()), ("l", value(b"l"))])
        .await
        .unwrap();
    assert_eq!(say(&server, b"get k\r\n"), "END\r\n");
    assert!(cache.get("l").await.unwrap().is_some());
}

#[tokio::test]
async fn an_oversized_value_removes_the_old_one_and_keeps_the_connection() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).build().unwrap();
    // One that the client refuses, and one that only the server refuses.
    for len in [2 << 20, (1 << 20) - 60] {
        cache.set("k", value(b"old")).await.unwrap();
        let error = cache.set("k", value(&vec![b'x'; len])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueTooLarge, "{error}");
        assert_eq!(error.keys(), ["k"]);
        assert_eq!(cache.get("k").await.unwrap(), None);

        cache.set("k", value(b"old")).await.unwrap();
        let entries = vec![
            ("a", value(b"1")),
            ("k", value(&vec![b'x'; len])),
            ("b", value(b"2")),
        ];
        let error = cache.set_multi(entries).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Partial, "{error}");
        assert_eq!(error.keys(), ["k"]);
        assert!(!error.is_transient());
        assert_eq!(cache.get("k").await.unwrap(), None);
        assert_eq!(*cache.get("b").await.unwrap().unwrap().payload(), b"2");
    }
    assert_eq!(cache.stats().servers[0].connects, 1);
}

#[tokio::test]
async fn a_larger_limit_on_both_sides_allows_larger_values() {
    let server = Memcached::builder()
        .args(["-I", "8m", "-m", "256"])
        .start()
        .unwrap();
    let cache = builder(&server)
        .server_max_value_length(8 << 20)
        .build()
        .unwrap();
    let large = value(&vec![7; 5 << 20]);
    cache.set("k", large.clone()).await.unwrap();
    assert_eq!(
        cache.get("k").await.unwrap().unwrap().payload(),
        large.payload()
    );
    let found = all(cache.get_multi(&["no", "k"]).await).unwrap();
    assert_eq!(found[1].as_ref().unwrap().payload(), large.payload());
    // With a lower limit, the read fails for that key only and keeps the connection.
    let small = builder(&server).build().unwrap();
    small.set("l", value(b"1")).await.unwrap();
    let error = small.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    assert!(!error.is_transient());
    assert!(
        error.to_string().contains("server_max_value_length"),
        "{error}"
    );
    let found = small.get_multi(&["l", "k", "l"]).await;
    assert!(found[0].as_ref().unwrap().is_some());
    let error = found[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    assert_eq!(error.keys(), ["k"]);
    assert!(found[2].as_ref().unwrap().is_some());
    assert_eq!(small.stats().servers[0].connects, 1);
    assert_eq!(small.get("no").await.unwrap(), None);
}

#[tokio::test]
async fn keys_are_stored_unchanged_or_refused() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).build().unwrap();
    let long = "k".repeat(250);
    let spaced = " ".repeat(186);
    let keys = [
        "a",
        "A",
        "a b",
        "a\r\nflush_all\r\n",
        "\0",
        "\u{7f}",
        "é",
        "e\u{301}",
        "ключ",
        "YSBi",
        long.as_str(),
        spaced.as_str(),
    ];
    for key in keys {
        cache.set(key, value(key.as_bytes())).await.unwrap();
    }
    for key in keys {
        let found = cache.get(key).await.unwrap().unwrap();
        assert_eq!(found.payload(), key.as_bytes(), "{key:?}");
    }
    let found = all(cache.get_multi(&keys).await).unwrap();
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found.unwrap().payload(), key.as_bytes(), "{key:?}");
    }
    // UTF-8 is sent unencoded, as by Python.
    assert!(say(&server, "get ключ\r\n".as_bytes()).starts_with("VALUE ключ 0"));
    cache.delete_multi(&keys).await.unwrap();
    assert!(
        all(cache.get_multi(&keys).await)
            .unwrap()
            .iter()
            .all(Option::is_none)
    );
    for key in [
        String::new(),
        "k".repeat(251),
        " ".repeat(187),
        "ü".repeat(126),
    ] {
        let error = cache.get(&key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey, "{error}");
        assert_eq!(error.keys(), [key.as_str()]);
        let error = cache
            .set_multi(vec![("new", value(b"")), (&key, value(b""))])
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Partial);
        assert_eq!(error.keys(), [key.as_str()]);
        assert!(cache.get("new").await.unwrap().is_some());
        let found = cache.get_multi(&[&key, "new"]).await;
        let error = found[0].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        assert!(found[1].as_ref().unwrap().is_some());
        cache.delete_multi(&["new", "not there"]).await.unwrap();
    }
}

#[tokio::test]
async fn ten_thousand_keys_fit_in_one_call() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).build().unwrap();
    let keys: Vec<String> = (0..10_000).map(|i| format!("key {i:05}")).collect();
    let plain: Vec<String> = (0..10_000).map(|i| format!("key-{i:05}")).collect();
    for keys in [keys, plain] {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let entries = keys.iter().map(|key| (*key, value(key.as_bytes())));
        cache.set_multi(entries.collect()).await.unwrap();
        cache.delete_multi(&keys[..10]).await.unwrap();
        let found = all(cache.get_multi(&keys).await).unwrap();
        assert_eq!(found.len(), keys.len());
        for (i, (key, found)) in keys.iter().zip(found).enumerate() {
            match found {
                None => assert!(i < 10, "{key}"),
                Some(found) => assert_eq!(found.payload(), key.as_bytes()),
            }
        }
    }
}

#[tokio::test]
async fn values_from_other_programs_are_reported_by_kind() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).build().unwrap();
    for (flags, stored, says) in [
        (1, "\u{80}", "pickled"),
        (2, "17", "number"),
        (8, "x", "compress"),
        (0, "17", "no metadata"),
        (16, "text", "no metadata"),
    ] {
        let set = format!("set k {flags} 0 {}\r\n{stored}\r\n", stored.len());
        say(&server, set.as_bytes());
        for error in [
            cache.get("k").await.unwrap_err(),
            all(cache.get_multi(&["no", "k"]).await).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Decode);
            assert_eq!(error.keys(), ["k"]);
            assert!(error.message().contains(says), "{error}");
        }
    }
    // Text is bytes.
    let stored = r#"{"ct": 7.5, "v": 2}|text"#;
    say(
        &server,
        format!("set k 16 0 {}\r\n{stored}\r\n", stored.len()).as_bytes(),
    );
    assert_eq!(cache.get("k").await.unwrap().unwrap().payload(), b"text");
    // So is a large value whose metadata does not end within the first bytes.
    let more = "x".repeat(30_000);
    let stored = format!(r#"{{"more": "{more}", "ct": 7.5, "v": 2}}|{more}"#);
    say(
        &server,
        format!("set k 0 0 {}\r\n{stored}\r\n", stored.len()).as_bytes(),
    );
    assert_eq!(
        cache.get("k").await.unwrap().unwrap().payload(),
        more.as_bytes()
    );
    assert_eq!(cache.stats().servers[0].connects, 1);
}

#[tokio::test]
async fn a_server_that_is_out_of_memory_is_reported() {
    let server = Memcached::builder()
        .args(["-M", "-m", "2"])
        .start()
        .unwrap();
    let cache = builder(&server).build().unwrap();
    let mut refused = None;
    for i in 0..40 {
        let key = format!("k{i}");
        if let Err(error) = cache.set(&key, value(&vec![0; 400_000])).await {
            refused = Some(error);
            break;
        }
    }
    let error = refused.expect("the server has 2 MiB");
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(error.message().contains("out of memory"), "{error}");
    assert_eq!(cache.get("no").await.unwrap(), None);
    assert_eq!(cache.stats().servers[0].connects, 1);
}

#[tokio::test]
async fn set_multi_names_the_keys_that_were_refused() {
    let server = Memcached::builder().args(["-I", "512k"]).start().unwrap();
    let cache = builder(&server).build().unwrap();
    let keys: Vec<String> = (0..50).map(|i| format!("k{i}")).collect();
    let with_two_too_large = |size: usize| -> Vec<(&str, _)> {
        let size = |i: usize| if i % 20 == 19 { size } else { 10 };
        let keys = keys.iter().enumerate();
        keys.map(|(i, key)| (key.as_str(), value(&vec![b'v'; size(i)])))
            .collect()
    };
    cache.set_multi(with_two_too_large(1000)).await.unwrap();
    let error = cache
        .set_multi(with_two_too_large(600_000))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial, "{error}");
    assert_eq!(error.keys(), ["k19", "k39"]);
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = all(cache.get_multi(&keys).await).unwrap();
    for (i, found) in found.iter().enumerate() {
        assert_eq!(found.is_none(), i % 20 == 19, "{i}");
    }
    cache.delete_multi(&keys).await.unwrap();
    let found = all(cache.get_multi(&keys).await).unwrap();
    assert!(found.iter().all(Option::is_none));
    let stats = cache.stats();
    assert_eq!(stats.servers[0].downs, 0);
    assert_eq!(stats.servers[0].misses, 52, "only of reads");
}

#[tokio::test]
async fn idle_connections_are_closed_and_reopened() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server)
        .pool_unused_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    cache.set("k", value(b"1")).await.unwrap();
    assert_eq!(cache.stats().servers[0].connections, 1);
    for _ in 0..200 {
        if cache.stats().servers[0].connections == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cache.stats().servers[0].connections, 0);
    assert!(cache.get("k").await.unwrap().is_some());
    assert_eq!(cache.stats().servers[0].connects, 2);
}

#[test]
fn a_backend_outlives_the_runtimes_it_is_used_in() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).build().unwrap();
    for i in 0..3_u8 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            cache.set("k", value(&[i])).await.unwrap();
            assert_eq!(cache.get("k").await.unwrap().unwrap().payload(), &[i]);
        });
    }
    assert_eq!(cache.stats().servers[0].downs, 0);
}

#[test]
fn an_idle_runtime_does_not_block_another() {
    let server = Memcached::start().unwrap();
    let cache = MemcachePoolBackend::builder()
        .url([server.url()])
        .pool_maxsize(1)
        .build()
        .unwrap();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    // It stays alive, with the connection that it opened.
    let first = runtime();
    first.block_on(cache.set("key", value(b"1"))).unwrap();
    let second = runtime();
    let found = second
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), cache.get("key")).await });
    let found = found.expect("the call ends").unwrap().unwrap();
    assert_eq!(found.payload(), b"1");
    let back = first.block_on(cache.get("key")).unwrap();
    assert!(back.is_some());
    assert_eq!(cache.stats().servers[0].connects, 2);
}

#[tokio::test]
async fn the_longest_durations_are_accepted() {
    let server = Memcached::start().unwrap();
    let cache = MemcachePoolBackend::builder()
        .url([server.url()])
        .socket_timeout(Duration::MAX)
        .pool_unused_timeout(Duration::MAX)
        .pool_connection_get_timeout(Duration::MAX)
        .dead_retry(Duration::MAX)
        .build()
        .unwrap();
    cache.set("key", value(b"1")).await.unwrap();
    assert!(cache.get("key").await.unwrap().is_some());
}

#[test]
fn a_call_outside_a_runtime_is_an_error() {
    let cache = MemcachePoolBackend::builder().build().unwrap();
    let mut get = Box::pin(cache.get("k"));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = get.as_mut().poll(&mut cx) else {
        panic!("there is no runtime to wait in");
    };
    assert!(error.message().contains("runtime"), "{error}");
}

#[tokio::test]
async fn each_address_of_a_host_name_is_a_server() {
    let server = Memcached::start().unwrap();
    let cache = MemcachePoolBackend::builder().build().unwrap();
    let name = format!("localhost:{}", server.port().unwrap());
    let n = cache.set_servers_by_name(&name).await.unwrap();
    assert_eq!(cache.stats().servers.len(), n);
    let address = format!("127.0.0.1:{}", server.port().unwrap());
    let mut addresses = cache.stats().servers.into_iter().map(|s| s.address);
    assert!(addresses.any(|other| other == address));
    for i in 0..20 {
        cache.set(&format!("k{i}"), value(b"1")).await.unwrap();
    }
    // Nothing has changed, so the connections stay open.
    let connects = cache.stats();
    assert_eq!(cache.set_servers_by_name(&name).await.unwrap(), n);
    assert_eq!(cache.stats(), connects);
    let error = cache.set_servers_by_name("no port").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(cache.stats().servers.len(), n);
}

#[tokio::test]
async fn dropping_the_backend_closes_its_connections() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).build().unwrap();
    cache.set("k", value(b"1")).await.unwrap();
    let connections = || -> usize { server.stats().unwrap()["curr_connections"].parse().unwrap() };
    let open = connections();
    drop(cache.clone());
    assert!(connections() >= open);
    drop(cache);
    for _ in 0..200 {
        if connections() < open {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} connections are still open, of {open}", connections());
}

#[test]
fn a_call_in_a_runtime_that_was_shut_down_is_an_error() {
    let server = Memcached::start().unwrap();
    let cache = builder(&server).build().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    // In a thread, since the call must not hang.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(cache.set("k", value(b"1"))).unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let single = handle.block_on(cache.get("k")).map(|_| ());
        let multi = handle.block_on(cache.delete_multi(&["k", "l"]));
        sender.send([single, multi]).unwrap();
    });
    let results = receiver.recv_timeout(Duration::from_secs(60));
    for result in results.expect("the calls end") {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
        assert!(error.message().contains("was shut down"), "{error}");
    }
}

#[tokio::test]
async fn a_lookup_outside_a_runtime_is_an_error() {
    let lookup = std::thread::spawn(|| {
        let cache = MemcachePoolBackend::builder().build().unwrap();
        let mut lookup = Box::pin(cache.set_servers_by_name("localhost:11211"));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match lookup.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(result) => result.unwrap_err(),
            std::task::Poll::Pending => panic!("there is no runtime to wait in"),
        }
    });
    let error = lookup.join().expect("it does not panic");
    assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
    assert!(error.message().contains("runtime"), "{error}");
}

/// A backend whose server does not respond until the returned listener is served.
async fn unanswered() -> (MemcachePoolBackend, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let cache = MemcachePoolBackend::builder().url([url]);
    let cache = cache.socket_timeout(CALL_LIMIT).build().unwrap();
    (cache, listener)
}

/// Answers the next read with a miss. Returns the connection.
async fn answer_one(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await.unwrap();
    assert_eq!(request, "version\r\n");
    stream.write_all(b"VERSION 1.6.18\r\n").await.unwrap();
    request.clear();
    stream.read_line(&mut request).await.unwrap();
    assert!(request.starts_with("mg "));
    stream.write_all(b"EN\r\n").await.unwrap();
    stream.into_inner()
}

#[tokio::test]
async fn closing_waits_for_calls_to_servers_that_were_replaced() {
    let (cache, listener) = unanswered().await;
    let other = cache.clone();
    let call = tokio::spawn(async move { other.get("k").await });
    while cache.stats().servers[0].in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cache.set_servers(["127.0.0.1:1"]).unwrap();
    let other = cache.clone();
    let closing = tokio::spawn(async move { other.close().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!closing.is_finished());
    let _stream = answer_one(&listener).await;
    closing.await.unwrap();
    assert_eq!(call.await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn when_closing_is_done_the_connections_are_closed() {
    let (cache, listener) = unanswered().await;
    let (found, stream) = tokio::join!(cache.get("k"), answer_one(&listener));
    found.unwrap();
    cache.close().await;
    // The connection's task does not run any longer, so it was closed before.
    let mut stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(CALL_LIMIT)).unwrap();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn closing_outside_a_runtime_waits_for_calls() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (cache, listener) = runtime.block_on(unanswered());
    let other = cache.clone();
    let call = runtime.spawn(async move { other.get("k").await });
    while cache.stats().servers[0].in_flight == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut closing = std::pin::pin!(cache.close());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(closing.as_mut().poll(&mut cx).is_pending());
    let _stream = runtime.block_on(answer_one(&listener));
    assert_eq!(runtime.block_on(call).unwrap().unwrap(), None);
    while closing.as_mut().poll(&mut cx).is_pending() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn requests_that_wait_for_a_connection_are_in_flight() {
    type Never = std::future::Pending<std::io::Result<tokio::net::TcpStream>>;

    let cache = MemcachePoolBackend::builder().socket_timeout(CALL_LIMIT);
    let cache = cache.connect_with(|_| -> Never { std::future::pending() });
    let cache = cache.build().unwrap();
    let calls: Vec<_> = (0..3).map(|_| cache.clone()).collect();
    for cache in calls {
        tokio::spawn(async move { cache.get("k").await });
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let stats = &cache.stats().servers[0];
    assert_eq!((stats.in_flight, stats.connections, stats.idle), (3, 0, 0));
}
