//! Oversized values, oversized requests, and a full server.

use std::time::Duration;

use cache_core::{CacheBackend, Error, ErrorKind};
use cache_etcd3::Etcd3Backend;
use test_servers::Etcd;
use tokio::time::sleep;

use crate::{all, backend, heavy, payload, requests, value};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_value_is_refused_and_the_old_one_removed() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    // Over etcd's own limit, over the limit of its gRPC server, and far over.
    for size in [2 * MIB, 3 * MIB, 40 * MIB] {
        backend.set("k", value("old")).await.unwrap();
        let error = backend.set("k", value(vec![0; size])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueTooLarge, "{size}: {error}");
        assert_eq!(error.keys(), ["k"]);
        if size < 4 * MIB {
            assert!(error.message().contains("--max-request-bytes"), "{error}");
        }
        assert!(backend.get("k").await.unwrap().is_none(), "{size}");
    }
    assert_eq!(backend.stats().endpoints[0].connects, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_oversized_value_does_not_fail_the_others() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    backend.set("large", value("old")).await.unwrap();
    let entries = vec![
        ("a", value("1")),
        ("large", value(vec![0; 2 * MIB])),
        ("b", value("2")),
    ];
    let error = backend.set_multi(entries).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial, "{error}");
    assert_eq!(error.keys(), ["large"]);
    assert!(!error.is_transient());
    let found = all(backend.get_multi(&["a", "large", "b"]).await);
    let found: Vec<_> = found.into_iter().map(payload).collect();
    assert_eq!(found, [Some(b"1".to_vec()), None, Some(b"2".to_vec())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_smaller_limits_gets_smaller_pieces() {
    let _place = heavy();
    let etcd = Etcd::builder()
        .arg("--max-txn-ops=10")
        .arg("--max-request-bytes=65536")
        .start()
        .unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let keys: Vec<String> = (0..200).map(|i| format!("key {i}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let entries = names.iter().map(|key| (*key, value(vec![1; 20_000])));
    backend.set_multi(entries.collect()).await.unwrap();
    let found = all(backend.get_multi(&names).await);
    assert!(
        found
            .into_iter()
            .all(|found| payload(found) == Some(vec![1; 20_000]))
    );
    backend.delete_multi(&names).await.unwrap();
    let found = all(backend.get_multi(&names).await);
    assert!(found.into_iter().all(|found| found.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_responses_are_read_completely() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let keys: Vec<String> = (0..100).map(|i| format!("key {i}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let large = |i: usize| vec![u8::try_from(i).unwrap(); 700_000];
    let entries = names
        .iter()
        .enumerate()
        .map(|(i, key)| (*key, value(large(i))));
    backend.set_multi(entries.collect()).await.unwrap();
    // 70 MB in one transaction.
    let found = all(backend.get_multi(&names).await);
    for (i, found) in found.into_iter().enumerate() {
        assert!(payload(found) == Some(large(i)), "{i}");
    }
}

/// A server that is full with 2 MB.
fn small() -> (Etcd, Etcd3Backend) {
    let etcd = Etcd::builder().arg("--quota-backend-bytes=2000000");
    let etcd = etcd.start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    (etcd, backend)
}

/// Sets values until the server is full, and returns the error of the last set.
async fn fill(backend: &Etcd3Backend) -> Error {
    let mut transient = Vec::new();
    for i in 0..100 {
        let key = i.to_string();
        // On a slow machine, etcd may be out of use for a while.
        while let Err(error) = backend.set(&key, value(vec![0; 100_000])).await {
            if !error.is_transient() {
                return error;
            }
            transient.push(error.to_string());
            assert!(transient.len() < 1_000, "{transient:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("10 MB fit into 2 MB; {transient:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_reported_with_the_remedy_and_still_serves() {
    let _place = heavy();
    let (_etcd, backend) = small();
    backend.set("small", value("v")).await.unwrap();
    let error = fill(&backend).await;
    assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
    assert!(error.message().contains("alarm disarm"), "{error}");
    assert!(!error.is_transient());
    assert_eq!(
        payload(backend.get("small").await.unwrap()),
        Some(b"v".to_vec())
    );
    let found = all(backend.get_multi(&["small", "0"]).await);
    assert!(found.iter().all(Option::is_some));
    backend.delete("small").await.unwrap();
    assert!(backend.get("small").await.unwrap().is_none());
    backend.delete_multi(&["0", "1", "2"]).await.unwrap();
    assert!(backend.get("1").await.unwrap().is_none());
}

/// The removal is protected from a late set like every other delete.
#[tokio::test(flavor = "multi_thread")]
async fn the_removal_before_an_oversized_value_is_not_undone_by_a_late_set() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).max_request_bytes(40 * MIB);
    let backend = backend.build().unwrap();
    let mut client = etcd_client::Client::connect([etcd.endpoint()], None)
        .await
        .unwrap();
    let large = || value(vec![0; 2 * MIB]);
    for key in ["one", "many"] {
        let set = async |backend: &Etcd3Backend| {
            if key == "one" {
                return backend.set(key, large()).await;
            }
            let entries = vec![(key, large()), ("other", value("v"))];
            backend.set_multi(entries).await
        };
        backend.set(key, value("old")).await.unwrap();
        set(&backend).await.unwrap_err();
        assert!(backend.get(key).await.unwrap().is_none());
        assert!(client.get(key, None).await.unwrap().kvs().is_empty());

        etcd.pause().unwrap();
        let given_up = backend.set(key, value("given up"));
        let outcome = tokio::time::timeout(Duration::from_millis(50), given_up).await;
        assert!(outcome.is_err(), "a server that is stopped answered");
        etcd.resume().unwrap();
        let error = set(&backend).await.unwrap_err();
        assert_eq!(error.keys(), [key], "{error}");
        assert!(backend.get(key).await.unwrap().is_none());
        // A mark, which has a revision.
        assert!(!client.get(key, None).await.unwrap().kvs().is_empty());
    }
    assert_eq!(
        requests(&etcd, "DeleteRange"),
        0,
        "a delete without a revision"
    );
}

/// Concurrent calls for one key share a request, which sends only the last write. Its refusal does
/// not fail the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_does_not_fail_because_of_a_concurrent_set_on_a_full_server() {
    let _place = heavy();
    let (_etcd, backend) = small();
    fill(&backend).await;
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..90 {
        let backend = backend.clone();
        calls.spawn(async move {
            let key = format!("k{}", i % 4);
            let is_delete = i % 3 == 0;
            let outcome = if is_delete {
                backend.delete(&key).await
            } else {
                backend.set(&key, value("v")).await
            };
            (is_delete, outcome)
        });
    }
    for (is_delete, outcome) in calls.join_all().await {
        // A set may succeed, too: as if it came just before a delete.
        if is_delete {
            outcome.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_does_not_fail_because_a_concurrent_one_is_too_large() {
    let _place = heavy();
    let etcd = Etcd::builder()
        .arg("--max-request-bytes=4096")
        .start()
        .unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..64 {
        let backend = backend.clone();
        calls.spawn(async move {
            let is_small = i % 2 == 0;
            let len = if is_small { 10 } else { 10_000 };
            (is_small, backend.set("k", value(vec![0; len])).await)
        });
    }
    for (is_small, outcome) in calls.join_all().await {
        match outcome {
            Err(error) if !is_small => assert_eq!(error.kind(), ErrorKind::ValueTooLarge),
            outcome => outcome.unwrap(),
        }
    }
}

/// A set that may still arrive would undo a delete, so the delete stores a mark, which a full
/// server refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_deletes_keys_that_a_late_set_may_write() {
    let _place = heavy();
    let (etcd, backend) = small();
    let keys = ["a", "b", "c"];
    let entries = || keys.map(|key| (key, value("v"))).into();
    backend.set_multi(entries()).await.unwrap();
    etcd.pause().unwrap();
    let dropped = backend.set_multi(entries());
    let outcome = tokio::time::timeout(Duration::from_millis(50), dropped).await;
    assert!(outcome.is_err(), "a server that is stopped answered");
    etcd.resume().unwrap();
    fill(&backend).await;
    backend.delete("a").await.unwrap();
    backend.delete_multi(&["b", "c"]).await.unwrap();
    for found in all(backend.get_multi(&keys).await) {
        assert!(found.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_value_that_remains_is_reported() {
    let _place = heavy();
    let mut etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    etcd.kill().unwrap();
    let large = || value(vec![0; 2 * MIB]);
    let errors = [
        backend.set("k", large()).await.unwrap_err(),
        backend.set_multi(vec![("k", large())]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}
