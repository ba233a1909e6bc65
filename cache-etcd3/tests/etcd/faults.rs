//! Members killed, stopped and restarted under load.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, ErrorKind, ServerEvent};
use cache_etcd3::{Consistency, Etcd3Backend};
use test_servers::{Etcd, EtcdCluster};

use crate::load::Load;
use crate::{all, backend, eventually, heavy, payload, value};

/// Enough for an election on a busy machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// How late a timer may be on a busy machine.
const LATE: Duration = Duration::from_secs(30);

fn on(cluster: &EtcdCluster) -> Etcd3Backend {
    backend(cluster.endpoints())
        .call_timeout(CALL_TIMEOUT)
        .build()
        .unwrap()
}

fn a_follower(cluster: &EtcdCluster) -> usize {
    (cluster.leader().unwrap() + 1) % 3
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() {
    let _place = heavy();
    let mut cluster = EtcdCluster::start().unwrap();
    let backend = on(&cluster);
    let load = Load::start(&backend);
    load.progress(20).await;
    let leader = cluster.leader().unwrap();
    cluster.members_mut()[leader].kill().unwrap();
    load.progress(100).await;
    let summary = load.stop().await;
    summary.assert_right();
    summary.assert_no_errors();
    summary.assert_ended_within(CALL_TIMEOUT + LATE);
    assert!(backend.stats().failovers > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_stopped() {
    one_is_stopped(|cluster| cluster.leader().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_stopped() {
    one_is_stopped(a_follower).await;
}

/// A member may execute the requests that it received before it was stopped when it resumes, long
/// after their callers have gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_stopped_and_callers_give_up() {
    let _place = heavy();
    let cluster = EtcdCluster::start().unwrap();
    let backend = on(&cluster);
    let load = Load::start_impatient(&backend, Duration::from_secs(1));
    load.progress(20).await;
    for round in 0..3 {
        let member = &cluster.members()[(cluster.leader().unwrap() + 1 + round % 2) % 3];
        member.pause().unwrap();
        load.progress(100).await;
        member.resume().unwrap();
        load.progress(50).await;
    }
    let summary = load.stop().await;
    summary.assert_right();
    summary.assert_no_errors();
}

/// Calls continue while that member is stopped, and it is used again once it resumes.
async fn one_is_stopped(which: impl FnOnce(&EtcdCluster) -> usize) {
    let _place = heavy();
    let cluster = EtcdCluster::start().unwrap();
    let backend = on(&cluster);
    let load = Load::start(&backend);
    load.progress(20).await;
    let member = &cluster.members()[which(&cluster)];
    member.pause().unwrap();
    load.progress(100).await;
    let summary = load.stop().await;
    summary.assert_right();
    summary.assert_no_errors();
    summary.assert_ended_within(CALL_TIMEOUT + LATE);

    member.resume().unwrap();
    is_used_again(&backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_restarted() {
    let _place = heavy();
    let mut cluster = EtcdCluster::start().unwrap();
    let backend = on(&cluster);
    let load = Load::start(&backend);
    load.progress(20).await;
    let follower = a_follower(&cluster);
    cluster.members_mut()[follower].stop().unwrap();
    load.progress(20).await;
    cluster.members_mut()[follower].restart().unwrap();
    load.progress(20).await;
    let summary = load.stop().await;
    summary.assert_right();
    summary.assert_no_errors();
    is_used_again(&backend).await;
}

/// All endpoints are in use: a probe of the one that failed succeeded.
async fn is_used_again(backend: &Etcd3Backend) {
    eventually(
        Duration::from_secs(60),
        "all endpoints in use",
        async || {
            let _ = backend.get("any").await;
            let endpoints = backend.stats().endpoints;
            endpoints.iter().all(|endpoint| endpoint.down_for.is_none())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_is_lost_and_regained() {
    let _place = heavy();
    let mut cluster = EtcdCluster::start().unwrap();
    let call_timeout = Duration::from_secs(3);
    let reads = async |endpoints: Vec<String>| {
        let backend = backend(endpoints).call_timeout(call_timeout);
        let serializable = backend.consistency(Consistency::Serializable);
        let serializable = serializable.build().unwrap();
        eventually(Duration::from_secs(60), "a serializable read", async || {
            matches!(serializable.get("k").await, Ok(Some(_)))
        })
        .await;
    };
    let endpoints = cluster.endpoints();
    let backend = backend(endpoints.clone())
        .call_timeout(call_timeout)
        .build()
        .unwrap();
    backend.set("k", value("before")).await.unwrap();
    // The member that will remain may be behind the others.
    reads(vec![endpoints[2].clone()]).await;

    for member in &mut cluster.members_mut()[..2] {
        member.kill().unwrap();
    }
    // Sequential and concurrent calls all end in time with a meaningful error.
    for _ in 0..3 {
        let mut calls = tokio::task::JoinSet::new();
        for i in 0..32 {
            let backend = backend.clone();
            calls.spawn(async move {
                let began = Instant::now();
                let error = match i % 4 {
                    0 => backend.get("k").await.unwrap_err(),
                    1 => backend.set("k", value("after")).await.unwrap_err(),
                    2 => backend.get_multi(&["k", "l"]).await.remove(0).unwrap_err(),
                    _ => backend.delete_multi(&["x", "y"]).await.unwrap_err(),
                };
                (began.elapsed(), error)
            });
        }
        for (took, error) in calls.join_all().await {
            assert!(took < call_timeout + LATE, "{took:?}");
            let kind = error.kind();
            assert!(
                matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable),
                "{error}"
            );
            assert!(error.is_transient(), "{error}");
        }
    }
    // The remaining member still serves.
    reads(endpoints).await;

    for member in &mut cluster.members_mut()[..2] {
        member.launch().unwrap();
    }
    for member in cluster.members_mut() {
        member.wait_until_serving().unwrap();
    }
    eventually(Duration::from_secs(60), "service", async || {
        backend.set("k", value("again")).await.is_ok()
    })
    .await;
    let found = backend.get("k").await.unwrap();
    assert_eq!(payload(found), Some(b"again".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_is_stopped() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let call_timeout = Duration::from_secs(2);
    let backend = backend([etcd.endpoint()])
        .call_timeout(call_timeout)
        .build()
        .unwrap();
    let load = Load::start(&backend);
    load.progress(20).await;
    etcd.pause().unwrap();
    tokio::time::sleep(Duration::from_secs(8)).await;
    etcd.resume().unwrap();
    load.progress(20).await;
    let summary = load.stop().await;
    assert!(!summary.errors.is_empty());
    assert!(summary.errors.iter().all(cache_core::Error::is_transient));
    summary.assert_ended_within(call_timeout + LATE);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_that_times_out_is_counted_once() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()])
        .call_timeout(Duration::from_secs(1))
        .build()
        .unwrap();
    backend.set("k", value("v")).await.unwrap();
    etcd.pause().unwrap();
    let is_timeout = |error: &cache_core::Error| error.message().contains("`call_timeout`");
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..64 {
        let backend = backend.clone();
        calls.spawn(async move {
            // Several transactions.
            let keys: Vec<String> = (0..300).map(|key| key.to_string()).collect();
            let names: Vec<&str> = keys.iter().map(String::as_str).collect();
            match i {
                0 => {
                    let found = backend.get_multi(&names).await.into_iter();
                    let mut errors = found.map(Result::unwrap_err);
                    let first = errors.next().unwrap();
                    errors.find(is_timeout).unwrap_or(first)
                }
                1 => backend.delete_multi(&names).await.unwrap_err(),
                i if i % 2 == 0 => backend.get(&keys[i]).await.unwrap_err(),
                i => backend.set(&keys[i], value("v")).await.unwrap_err(),
            }
        });
    }
    let errors = calls.join_all().await;
    let timeouts = errors.iter().filter(|error| is_timeout(error)).count();
    assert_eq!(backend.stats().timeouts, timeouts as u64);
    assert!(backend.stats().timeouts > 0);
    etcd.resume().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_set_does_not_undo_later_writes() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    backend.set("k", value("first")).await.unwrap();
    for round in 0..10 {
        etcd.pause().unwrap();
        let given_up = backend.set("k", value("given up"));
        let outcome = tokio::time::timeout(Duration::from_millis(50), given_up).await;
        assert!(outcome.is_err(), "a server that is stopped answered");
        etcd.resume().unwrap();
        let expected = if round % 2 == 0 {
            backend.delete("k").await.unwrap();
            None
        } else {
            backend.set("k", value("after")).await.unwrap();
            Some(b"after".to_vec())
        };
        for _ in 0..20 {
            let found = backend.get("k").await.unwrap();
            assert_eq!(payload(found), expected, "round {round}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_report_endpoints_that_fail_and_recover() {
    let _place = heavy();
    let mut etcd = Etcd::start().unwrap();
    let events: Arc<Mutex<Vec<ServerEvent>>> = Arc::default();
    let told = Arc::clone(&events);
    let backend = backend([etcd.endpoint()])
        .on_server_event(move |event| told.lock().unwrap().push(event.clone()))
        .build()
        .unwrap();
    backend.set("k", value("1")).await.unwrap();
    etcd.kill().unwrap();
    backend.get("k").await.unwrap_err();
    etcd.restart().unwrap();
    eventually(Duration::from_secs(60), "service", async || {
        backend.get("k").await.is_ok()
    })
    .await;
    let events = events.lock().unwrap();
    assert!(matches!(events[0], ServerEvent::Down { .. }), "{events:?}");
    assert!(matches!(events[1], ServerEvent::Up { .. }), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_is_restarted() {
    let _place = heavy();
    let mut etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let load = Load::start(&backend);
    load.progress(20).await;
    etcd.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    etcd.restart().unwrap();
    load.progress(20).await;
    let summary = load.stop().await;
    summary.assert_right();
    // No call waits for a server that refuses connections.
    for error in &summary.errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&etcd.endpoint()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_returns_without_its_data() {
    let _place = heavy();
    let mut etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    backend.set("single", value("1")).await.unwrap();
    let entries = |value_of: &str| {
        let entry = |key| (key, value(value_of));
        vec![entry("a"), entry("b"), entry("c")]
    };
    backend.set_multi(entries("1")).await.unwrap();
    assert_eq!(backend.stats().lost_leases, 0);

    etcd.restart_empty().unwrap();
    eventually(Duration::from_secs(30), "an empty server", async || {
        matches!(backend.get("single").await, Ok(None))
    })
    .await;
    // The lease for these keys is gone with the data.
    backend.set("single", value("2")).await.unwrap();
    backend.set_multi(entries("2")).await.unwrap();
    assert_eq!(backend.stats().lost_leases, 1);
    let found = all(backend.get_multi(&["single", "a", "b", "c"]).await);
    for found in found {
        assert_eq!(payload(found), Some(b"2".to_vec()));
    }

    // The same with many concurrent calls, which all use the lost lease.
    etcd.restart_empty().unwrap();
    eventually(Duration::from_secs(30), "an empty server", async || {
        matches!(backend.get("single").await, Ok(None))
    })
    .await;
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..64 {
        let backend = backend.clone();
        calls.spawn(async move { backend.set(&format!("k{i}"), value("3")).await });
    }
    for outcome in calls.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(backend.stats().lost_leases, 2);
}

/// Members of etcd 3.5.0 to 3.5.6 panic if a transaction that only reads is cancelled while it
/// executes. A server that was stopped receives the requests and their cancellations at once.
#[tokio::test(flavor = "multi_thread")]
async fn reads_that_were_sent_are_not_cancelled() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let handled = |code: &str| {
        let labels = "grpc_method=\"Txn\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
        let name = format!("grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}}");
        etcd.metric(&name)
    };
    let backend = backend([etcd.endpoint()]).build().unwrap();
    backend.set("k0", value("v")).await.unwrap();
    let read_all = || {
        let mut calls = tokio::task::JoinSet::new();
        for i in 0..200 {
            let (one, many) = (backend.clone(), backend.clone());
            calls.spawn(async move { drop(one.get(&format!("k{i}")).await) });
            calls.spawn(async move { drop(many.get_multi(&["k0", "k1"]).await) });
        }
        calls
    };
    read_all().join_all().await;
    let before = handled("OK").unwrap();

    etcd.pause().unwrap();
    let calls = read_all();
    // Long enough for the rounds that stall to make room for one more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(calls);
    etcd.resume().unwrap();
    eventually(Duration::from_secs(20), "all responses", async || {
        handled("OK").is_ok_and(|handled| handled > before + 200.0)
    })
    .await;
    assert!(handled("Canceled").unwrap() < 1.0);
}
