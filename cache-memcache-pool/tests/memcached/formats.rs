//! Values shared with programs in other languages, and server lists in Python's form.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use cache_core::{CacheBackend as _, ErrorKind, ServerEvent, Ttl};
use cache_memcache_pool::{PythonClient, Routing, StoredFormat};
use test_servers::Memcached;

use crate::common::{builder, value};

/// Sends `request` to the server, and returns its response.
fn say(server: &Memcached, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.url()).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn store(server: &Memcached, key: &str, flags: u32, bytes: &[u8]) {
    let mut request = format!("set {key} {flags} 0 {}\r\n", bytes.len()).into_bytes();
    request.extend_from_slice(bytes);
    request.extend_from_slice(b"\r\n");
    assert_eq!(say(server, &request), b"STORED\r\n");
}

#[tokio::test]
async fn raw_payloads_are_stored_and_read_unchanged() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).stored_format(StoredFormat::Raw);
    let cache = cache.build().unwrap();
    cache.set("k", value("a|b")).await.unwrap();
    assert_eq!(say(&server, b"get k\r\n"), b"VALUE k 0 3\r\na|b\r\nEND\r\n");

    store(&server, "pickled", 1, b"\x80\x04N.");
    store(&server, "empty", 0, b"");
    // It arrives in several pieces, and contains no bar.
    let large = vec![b'x'; 300_000];
    store(&server, "large", 16, &large);
    let keys = ["pickled", "empty", "large", "none"];
    let found: Vec<_> = cache.get_multi(&keys).await;
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    let payloads: Vec<_> = found
        .iter()
        .map(|found| found.as_ref().map(|found| found.payload().as_slice()))
        .collect();
    let expected: [Option<&[u8]>; 4] = [Some(b"\x80\x04N."), Some(b""), Some(&large), None];
    assert_eq!(payloads, expected);
    assert_eq!(found[0].as_ref().unwrap().ttl(), Ttl::Never);

    let small = builder([server.url()]).stored_format(StoredFormat::Raw);
    let small = small.server_max_value_length(2).build().unwrap();
    let error = small.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    assert!(error.message().contains("3 bytes"), "{error}");
    let error = small.set("k", value("abc")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    assert!(error.message().contains("3 bytes"), "{error}");
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn the_python_client_determines_the_client_flags() {
    for (client, flags) in [
        (PythonClient::PythonMemcached, "0"),
        (PythonClient::Pymemcache, "0"),
        (PythonClient::Bmemcached, "16"),
    ] {
        let server = Memcached::start().unwrap();
        let cache = builder([server.url()]).python_client(client);
        let cache = cache.build().unwrap();
        cache.set("one", value("1")).await.unwrap();
        let many = vec![("two", value("2")), ("three", value("3"))];
        cache.set_multi(many).await.unwrap();
        for key in ["one", "two", "three"] {
            let stored = say(&server, format!("get {key}\r\n").as_bytes());
            let stored = String::from_utf8_lossy(&stored).into_owned();
            let line = format!("VALUE {key} {flags} ");
            assert!(stored.starts_with(&line), "{client:?}: {stored}");
            assert!(cache.get(key).await.unwrap().is_some());
        }
    }
}

#[cfg(feature = "zlib")]
#[tokio::test]
async fn values_above_the_threshold_are_compressed_and_read_back() {
    let server = Memcached::start().unwrap();
    let compressing = builder([server.url()])
        .python_client(PythonClient::Bmemcached)
        .min_compress_len(200)
        .build()
        .unwrap();
    let plain = builder([server.url()]).build().unwrap();
    let large = "x".repeat(100_000);
    compressing.set("large", value(&large)).await.unwrap();
    compressing.set("small", value("x")).await.unwrap();
    let stored = say(&server, b"get large small\r\n");
    assert!(stored.len() < 10_000, "{} bytes", stored.len());
    assert!(stored.starts_with(b"VALUE large 24 "));
    for cache in [&plain, &compressing] {
        let found = cache.get_multi(&["large", "small"]).await;
        let found: Vec<_> = found
            .into_iter()
            .map(|found| found.unwrap().unwrap())
            .collect();
        assert_eq!(found[0].payload(), large.as_bytes());
        assert_eq!(found[1].payload(), b"x");
    }
    // A truncated value is detected.
    store(&server, "cut", 8, &[0x78, 0x9c, 0x4b]);
    let error = plain.get("cut").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.message().contains("cannot decompress"), "{error}");
}

#[cfg(not(feature = "zlib"))]
#[tokio::test]
async fn compressed_values_require_the_feature() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).build().unwrap();
    store(&server, "k", 8, &[0x78, 0x9c, 0x4b]);
    let error = cache.get("k").await.unwrap_err();
    assert!(error.message().contains("feature `zlib`"), "{error}");
    let error = builder(["a"]).min_compress_len(1).build().unwrap_err();
    assert!(error.message().contains("min_compress_len"), "{error}");
}

#[tokio::test]
async fn servers_may_be_repeated_and_have_weights_and_families() {
    let (one, two) = (Memcached::start().unwrap(), Memcached::start().unwrap());
    let urls = [one.url(), two.url(), one.url()];
    let cache = builder(&urls).routing(Routing::PythonMemcached);
    let cache = cache.build().unwrap();
    let keys: Vec<String> = (0..100).map(|n| format!("key-{n}")).collect();
    let entries = keys.iter().map(|key| (key.as_str(), value(key)));
    cache.set_multi(entries.collect()).await.unwrap();
    for key in &keys {
        let found = cache.get(key).await.unwrap().unwrap();
        assert_eq!(found.payload(), key.as_bytes());
    }
    assert_eq!(cache.stats().servers.len(), 3);

    let urls = [one.url(), format!("inet:{}", two.url())];
    let cache = builder(urls).weights([0, 3]);
    let cache = cache.pool_maxsize(0).server_max_value_length(0);
    let cache = cache.build().unwrap();
    let large = "x".repeat(1_000_000);
    cache.set("large", value(&large)).await.unwrap();
    let found = cache.get("large").await.unwrap().unwrap();
    assert_eq!(found.payload().len(), large.len());
    let calls: Vec<u64> = cache
        .stats()
        .servers
        .iter()
        .map(|server| server.calls)
        .collect();
    assert_eq!(calls[0], 0);

    let cache = builder([format!(
        "inet6:{}",
        one.url().replace("127.0.0.1", "localhost")
    )]);
    let cache = cache.build().unwrap();
    // memcached listens only on IPv4 here.
    let error = cache.get("key").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn each_entry_of_a_repeated_server_has_its_weight() {
    // Two lists that are the same for python-memcached, which has a bucket for each unit of weight.
    let (one, two) = (Memcached::start().unwrap(), Memcached::start().unwrap());
    let urls = [one.url(), two.url(), one.url()];
    let weighted = builder(&urls).routing(Routing::PythonMemcached);
    let weighted = weighted.weights([1, 1, 3]).build().unwrap();
    let urls = [one.url(), two.url(), one.url(), one.url(), one.url()];
    let repeated = builder(&urls).routing(Routing::PythonMemcached);
    let repeated = repeated.build().unwrap();
    for n in 0..100 {
        let key = format!("key-{n}");
        weighted.set(&key, value("1")).await.unwrap();
        assert!(repeated.get(&key).await.unwrap().is_some(), "{key}");
    }
}

#[tokio::test]
async fn a_new_list_of_servers_respects_weights_and_families() {
    let (one, two) = (Memcached::start().unwrap(), Memcached::start().unwrap());
    let cache = builder([one.url(), two.url()]).weights([0, 1]);
    let cache = cache.build().unwrap();
    let error = cache.set_servers([one.url()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.message().contains("`weights`"), "{error}");
    cache.set("k", value("1")).await.unwrap();

    let name = one.url().replace("127.0.0.1", "localhost");
    cache.set_servers([&two.url(), &name]).unwrap();
    cache.set_servers([&name]).unwrap();
    cache.set("k", value("1")).await.unwrap();
    cache.set_servers([format!("inet6:{name}")]).unwrap();
    // memcached listens only on IPv4 here.
    let error = cache.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[test]
fn tls_files_without_tls_cause_a_warning() {
    let (sender, warnings) = std::sync::mpsc::channel();
    let cache = builder(["a"]).tls_cafile("ca.pem");
    let cache = cache.on_server_event(move |event| {
        if let ServerEvent::Warning { message, .. } = event {
            sender.send(message.clone()).unwrap();
        }
    });
    cache.build().unwrap();
    assert!(warnings.recv().unwrap().contains("tls_cafile"));
}
