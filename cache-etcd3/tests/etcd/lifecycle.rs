//! Building, the first call, other runtimes, prefixes.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, Error, ErrorKind, Result};
use cache_etcd3::Etcd3Backend;
use test_servers::{Etcd, refusing};

use crate::{all, backend, heavy, payload, value};

#[tokio::test]
async fn the_first_call_names_the_unreachable_endpoint() {
    let (_socket, refused) = refusing().unwrap();
    let backend = backend([refused.clone()]).build().unwrap();
    let began = Instant::now();
    let error = backend.get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains(&refused), "{error}");
    assert!(
        error.to_string().to_lowercase().contains("refused"),
        "{error}"
    );
    assert_eq!(error.keys(), ["k"]);
    // Long before the 30 seconds that a call may take.
    assert!(began.elapsed() < Duration::from_secs(10));

    let unknown = Etcd3Backend::builder()
        .host("no-such-host.invalid")
        .build()
        .unwrap();
    let error = unknown.set("k", value("v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("no-such-host.invalid"), "{error}");
    assert!(error.message().contains("check the name"), "{error}");
}

#[test]
fn a_backend_outlives_the_runtime_it_was_first_used_in() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    for round in 0..3 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let key = format!("k{round}");
            backend.set(&key, value("v")).await.unwrap();
            assert_eq!(
                payload(backend.get(&key).await.unwrap()),
                Some(b"v".to_vec())
            );
        });
    }
}

#[test]
fn an_idle_runtime_does_not_block_another() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let rests = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    rests.block_on(async { backend.set("k", value("1")).await.unwrap() });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        backend.set("k", value("2")).await.unwrap();
        let found = backend.get("k").await.unwrap();
        assert_eq!(payload(found), Some(b"2".to_vec()));
    });
    assert_eq!(backend.stats().endpoints[0].down_for, None);
    drop(rests);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prefix_is_prepended_to_each_key() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let prefixed = backend([etcd.endpoint()]).prefix("cache/").build().unwrap();
    let plain = backend([etcd.endpoint()]).build().unwrap();
    prefixed.set("k", value("1")).await.unwrap();
    prefixed
        .set_multi(vec![("a", value("2")), ("b", value("3"))])
        .await
        .unwrap();
    assert!(plain.get("k").await.unwrap().is_none());
    let found = all(plain.get_multi(&["cache/k", "cache/a", "cache/b"]).await);
    let found: Vec<_> = found.into_iter().map(payload).collect();
    assert_eq!(found, [b"1", b"2", b"3"].map(|found| Some(found.to_vec())));
    plain.delete("cache/k").await.unwrap();
    assert!(prefixed.get("k").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_share_requests() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let before = etcd.metric("etcd_mvcc_put_total").unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..500 {
        let backend = backend.clone();
        calls.spawn(async move {
            // Many tasks set the same few keys at once.
            let key = format!("k{}", i % 100);
            backend.set(&key, value(format!("{i}"))).await.unwrap();
            let found = backend.get(&key).await.unwrap().unwrap().into_payload();
            let found: usize = String::from_utf8(found).unwrap().parse().unwrap();
            assert_eq!(found % 100, i % 100, "a foreign value");
        });
    }
    calls.join_all().await;
    let transactions = backend.stats().transactions;
    assert!(transactions > 0 && transactions < 250, "{transactions}");
    // Of several waiting sets of one key, only the last is sent.
    assert!(etcd.metric("etcd_mvcc_put_total").unwrap() - before <= 500.0);

    // A single call does not wait and needs no transaction.
    backend.set("alone", value("v")).await.unwrap();
    backend.delete("alone").await.unwrap();
    assert_eq!(backend.stats().transactions, transactions);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_from_other_programs_are_errors_that_name_the_keys() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    backend.set("good", value("v")).await.unwrap();
    let mut client = etcd_client::Client::connect([etcd.endpoint()], None)
        .await
        .unwrap();
    client.put("bad", "no envelope", None).await.unwrap();
    client.put("worse", vec![0x80, 4], None).await.unwrap();
    let error = backend.get("bad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    let found = backend.get_multi(&["bad", "good", "worse", ""]).await;
    let kinds = [
        Some(ErrorKind::Decode),
        None,
        Some(ErrorKind::Decode),
        Some(ErrorKind::InvalidKey),
    ];
    for ((found, kind), key) in found.iter().zip(kinds).zip(["bad", "good", "worse", ""]) {
        match found {
            Ok(found) => assert_eq!(found.as_ref().unwrap().payload(), b"v"),
            Err(error) => assert_eq!(error.keys(), [key]),
        }
        assert_eq!(found.as_ref().err().map(Error::kind), kind, "{key}");
    }
    backend.set("bad", value("v")).await.unwrap();
    assert!(backend.get("bad").await.unwrap().is_some());
}

#[cfg(feature = "json")]
#[tokio::test(flavor = "multi_thread")]
async fn python_json_values_are_json_arrays() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()])
        .stored_format(cache_etcd3::StoredFormat::PythonJson)
        .timeout(Duration::ZERO)
        .build()
        .unwrap();
    let mut client = etcd_client::Client::connect([etcd.endpoint()], None)
        .await
        .unwrap();
    let python = r#"[{"a": 1}, {"ct": 1700000000.5, "v": 2}]"#;
    client.put("python", python, None).await.unwrap();
    let found = backend.get("python").await.unwrap().unwrap();
    assert_eq!(found.payload(), br#"{"a": 1}"#);
    backend.set("copy", found).await.unwrap();
    let stored = client.get("copy", None).await.unwrap().take_kvs().remove(0);
    assert_eq!(stored.value_str().unwrap(), python);

    let error = backend.set("k", value("no json")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    assert_eq!(error.keys(), ["k"]);
    let entries = vec![("good", value("1")), ("bad", value("no json"))];
    let error = backend.set_multi(entries).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial, "{error}");
    assert_eq!(error.keys(), ["bad"]);
    assert!(backend.get("good").await.unwrap().is_some());
}

#[test]
fn a_call_outside_a_runtime_is_an_error() {
    let backend = backend(["localhost:1".to_owned()]).build().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let calls: [Pin<Box<dyn Future<Output = Result<()>>>>; 5] = [
        Box::pin(backend.set("k", value("v"))),
        Box::pin(backend.delete("k")),
        Box::pin(backend.set_multi(vec![("k", value("v"))])),
        Box::pin(backend.delete_multi(&["k"])),
        Box::pin(async { backend.get("k").await.map(drop) }),
    ];
    for mut call in calls {
        let Poll::Ready(Err(error)) = call.as_mut().poll(&mut context) else {
            panic!("there is no runtime to wait in");
        };
        assert!(error.message().contains("Tokio runtime"), "{error}");
        assert_eq!(error.keys(), ["k"]);
    }
}
