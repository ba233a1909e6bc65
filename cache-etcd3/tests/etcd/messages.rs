//! The first error messages that a new user sees.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, Error, ErrorKind};
use cache_etcd3::Etcd3Backend;
use test_servers::{Etcd, Memcached, refusing};
use tokio::runtime::{Builder, Runtime};

use crate::{backend, heavy, value};

async fn each_operation(backend: &Etcd3Backend) -> [Error; 4] {
    let entries = vec![("k", value("1")), ("l", value("2"))];
    [
        backend.get("k").await.unwrap_err(),
        backend.set("k", value("1")).await.unwrap_err(),
        backend.get_multi(&["k", "l"]).await.remove(1).unwrap_err(),
        backend.set_multi(entries).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn a_refused_connection_asks_whether_etcd_is_running() {
    let (_socket, address) = refusing().unwrap();
    let backend = backend([address.clone()]).build().unwrap();
    for error in each_operation(&backend).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&address), "{error}");
        assert!(
            error.message().contains("is etcd running there?"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_kind_of_server_is_reported_long_before_the_timeout() {
    let _place = heavy();
    let memcached = Memcached::start().unwrap();
    let backend = backend([memcached.url()]).build().unwrap();
    let began = Instant::now();
    for error in each_operation(&backend).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&memcached.url()), "{error}");
        assert!(error.message().contains("is it etcd"), "{error}");
    }
    // A call alone may take 30 seconds.
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_silent_server_is_reported_with_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let backend = backend([address.clone()])
        .call_timeout(Duration::from_millis(600))
        .build()
        .unwrap();
    let error = backend.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.message().contains(&address), "{error}");
    assert!(error.message().contains("is it etcd"), "{error}");
    assert!(error.message().contains("`call_timeout`"), "{error}");
}

#[test]
fn a_runtime_without_time_or_io_is_an_error_and_the_next_one_works() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let builders = [Builder::new_current_thread, Builder::new_multi_thread];
    for new in builders {
        let (mut nothing, mut io, mut time) = (new(), new(), new());
        for builder in [&mut nothing, io.enable_io(), time.enable_time()] {
            let runtime = builder.build().unwrap();
            for error in runtime.block_on(each_operation(&backend)) {
                assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
                assert!(error.message().contains("enable_all()"), "{error}");
            }
        }
        let set = backend.set("k", value("v"));
        Runtime::new().unwrap().block_on(set).unwrap();
    }
}
