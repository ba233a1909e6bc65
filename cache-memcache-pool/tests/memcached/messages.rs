//! The first error messages that a new user sees.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use crate::common::{CALL_LIMIT, all, builder, value};
use cache_core::{CacheBackend as _, Error, ErrorKind};
use cache_memcache_pool::{MemcachePoolBackend, Protocol};
use test_servers::{Memcached, refusing};
use tokio::runtime::{Builder, Runtime};

async fn each_operation(cache: &MemcachePoolBackend) -> [Error; 4] {
    let entries = vec![("k", value("1")), ("l", value("2"))];
    [
        cache.get("k").await.unwrap_err(),
        cache.set("k", value("1")).await.unwrap_err(),
        all(cache.get_multi(&["k", "l"]).await).unwrap_err(),
        cache.set_multi(entries).await.unwrap_err(),
    ]
}

/// Starts a web server that responds to every request with an error, and records what it received.
fn web_server() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let told = Arc::clone(&heard);
            std::thread::spawn(move || {
                let mut request = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut request) {
                    told.lock().unwrap().extend_from_slice(&request[..n]);
                    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
                }
            });
        }
    });
    (address, told)
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_to_be_checked() {
    let cache = builder(["no-such-host.invalid"]).build().unwrap();
    for error in each_operation(&cache).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("no-such-host.invalid"), "{error}");
        assert!(
            error.message().contains("check the name in `url`"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_ping_that_is_not_answered_asks_whether_it_is_memcached() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // The request is read, so that the end is not a reset.
            let _ = stream.unwrap().read(&mut [0; 1024]);
        }
    });
    let cache = builder([&url]).build().unwrap();
    let (_, pinged) = cache.ping().await.remove(0);
    let error = pinged.unwrap_err();
    assert!(error.message().contains("is it memcached"), "{error}");
}

#[tokio::test]
async fn a_refused_connection_asks_whether_memcached_is_running() {
    let (_socket, address) = refusing().unwrap();
    for url in [&address, "unix:/no/such/socket"] {
        let cache = builder([url]).build().unwrap();
        for error in each_operation(&cache).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.message().contains(url), "{error}");
            let asks = "is memcached running there?";
            assert!(error.message().contains(asks), "{error}");
            assert!(error.message().contains("next attempt "), "{error}");
        }
    }
}

#[tokio::test]
async fn a_panic_in_the_listener_does_not_affect_the_call() {
    let (_socket, address) = refusing().unwrap();
    let cache = builder([&address]).on_server_event(|_| panic!("a bug in the listener"));
    let cache = cache.build().unwrap();
    let error = cache.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("cannot connect"), "{error}");
    assert_eq!(cache.stats().servers[0].downs, 1);
}

#[tokio::test]
async fn a_silent_server_is_reported_with_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cache = builder([&address]).build().unwrap();
    let error = cache.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.message().contains(&address), "{error}");
    assert!(error.message().contains("socket_timeout"), "{error}");
    assert!(error.message().contains("is it memcached"), "{error}");
}

#[tokio::test]
async fn another_kind_of_server_is_reported_and_not_sent_the_password() {
    let (address, told) = web_server();
    let cache = builder([&address]).build().unwrap();
    let told_so = [
        cache.get("k").await.unwrap_err(),
        cache.set("k", value("1")).await.unwrap_err(),
    ];
    for error in told_so {
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.message().contains(&address), "{error}");
        assert!(error.message().contains("400 Bad Request"), "{error}");
        let doubts = "not the memcached protocol";
        assert!(error.message().contains(doubts), "{error}");
    }
    let cache = builder([&address]).username("me").password("correct-horse");
    let cache = cache.build().unwrap();
    for error in each_operation(&cache).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&address), "{error}");
        assert!(error.message().contains("is it memcached"), "{error}");
    }
    let told = String::from_utf8_lossy(&told.lock().unwrap()).into_owned();
    assert!(told.contains("version\r\n"), "{told}");
    assert!(!told.contains("correct-horse"), "{told}");
}

#[tokio::test]
async fn a_value_that_memcached_refuses_is_reported_with_the_server() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).server_max_value_length(4 << 20);
    let cache = cache.build().unwrap();
    let large = || value(vec![0; 2 << 20]);
    let errors = [
        cache.set("k", large()).await.unwrap_err(),
        cache.set_multi(vec![("k", large())]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::ValueTooLarge, "{error}");
        assert!(error.message().contains(&server.url()), "{error}");
        assert!(error.message().contains("memcached's -I"), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_that_has_lost_a_server_is_not_down() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(line)) = lines.next() {
                let is_lost = line.contains("lost");
                let answer = if is_lost {
                    "SERVER_ERROR Connection refused"
                } else {
                    "END"
                };
                write!(stream, "{answer}\r\n").unwrap();
            }
        }
    });
    let cache = builder([&address]).protocol(Protocol::Classic);
    let cache = cache.socket_timeout(CALL_LIMIT).build().unwrap();
    for _ in 0..5 {
        for error in [
            cache.get("lost").await.unwrap_err(),
            all(cache.get_multi(&["lost", "k"]).await).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
            let says = "refused: Connection refused";
            assert!(error.message().contains(says), "{error}");
        }
        assert_eq!(cache.get("k").await.unwrap(), None);
    }
    let stats = &cache.stats().servers[0];
    assert_eq!((stats.connects, stats.downs), (1, 0));
}

#[tokio::test]
async fn a_panic_while_connecting_is_reported() {
    type Connecting = std::future::Ready<std::io::Result<tokio::io::Empty>>;

    let cache = builder(["a:1"]).socket_timeout(CALL_LIMIT);
    let cache = cache.connect_with(|_| -> Connecting { panic!("a bug in the function") });
    let error = cache.build().unwrap().get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("`connect_with`"), "{error}");
    assert!(!error.message().contains("shut down"), "{error}");
}

#[test]
fn a_runtime_without_time_or_io_is_an_error_and_the_next_one_works() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).build().unwrap();
    for new in [Builder::new_current_thread, Builder::new_multi_thread] {
        let (mut nothing, mut io, mut time) = (new(), new(), new());
        for builder in [&mut nothing, io.enable_io(), time.enable_time()] {
            let runtime = builder.build().unwrap();
            for error in runtime.block_on(each_operation(&cache)) {
                assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
                assert!(error.message().contains("enable_all()"), "{error}");
            }
        }
        let set = cache.set("k", value("v"));
        Runtime::new().unwrap().block_on(set).unwrap();
    }
    assert_eq!(cache.stats().servers[0].downs, 0);
}
