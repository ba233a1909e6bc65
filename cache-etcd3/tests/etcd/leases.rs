//! The number of leases, their keys, and their expiry.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cache_core::CacheBackend;
use etcd_client::{Client, LeaseTimeToLiveOptions};
use test_servers::Etcd;
use tokio::task::JoinSet;

use crate::{backend, eventually, heavy, payload, value};

/// How many keys a lease should have, and how many it may have: keys are added while the next one
/// is granted, and by sets in flight at that time.
const CAP: usize = 256;
const HARD_CAP: usize = 512;

const TTLS_MS: [u64; 6] = [2000, 2500, 3000, 5000, 20_000, 300_000];

async fn client(etcd: &Etcd) -> Client {
    Client::connect([etcd.endpoint()], None).await.unwrap()
}

async fn leases(client: &mut Client) -> Vec<i64> {
    let leases = client.leases().await.unwrap();
    leases
        .leases()
        .iter()
        .map(etcd_client::LeaseStatus::id)
        .collect()
}

/// The buckets of a TTL class whose leases may be alive at once: one for each lease opened within
/// the lifetime of a lease, which is open for 7/8 of the granularity and removed up to a second
/// late.
fn buckets(ttl_ms: u64) -> usize {
    let class = ttl_ms.div_ceil(1000);
    let granularity = (class / 4).clamp(1, 60);
    let alive_ms = (class + granularity + 1) * 1000;
    let buckets = alive_ms.div_ceil(granularity * 875) + 1;
    usize::try_from(buckets).unwrap()
}

/// Sets at full speed from 64 tasks with all TTLs. With `distinct` the keys repeat after that many.
async fn set_at_full_speed(
    backend: &cache_etcd3::Etcd3Backend,
    seconds: u64,
    distinct: Option<usize>,
) -> usize {
    let sets = Arc::new(AtomicUsize::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let (backend, sets) = (backend.clone(), Arc::clone(&sets));
        tasks.spawn(async move {
            while Instant::now() < end {
                let i = sets.fetch_add(1, Ordering::Relaxed);
                let key = format!("key {}", distinct.map_or(i, |distinct| i % distinct));
                let ttl = Duration::from_millis(TTLS_MS[i % TTLS_MS.len()]);
                backend.set(&key, value("v").with_ttl(ttl)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    sets.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_leases_and_of_their_keys_is_bounded() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let mut client = client(&etcd).await;
    let sets = set_at_full_speed(&backend, 15, None).await;

    let leases = leases(&mut client).await;
    let mut living = 0;
    let mut most = 0;
    for lease in &leases {
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let lease = client
            .lease_time_to_live(*lease, Some(options))
            .await
            .unwrap();
        living += lease.keys().len();
        most = most.max(lease.keys().len());
    }
    // Leases that expired while they were counted had keys, too.
    let living = living.max(usize::try_from(etcd_keys(&mut client).await).unwrap());
    let allowed = living / CAP + TTLS_MS.map(buckets).iter().sum::<usize>();
    println!(
        "{sets} sets, {living} living keys on {} leases ({allowed} allowed), {most} keys at most on one",
        leases.len()
    );
    assert!(leases.len() <= allowed, "{} leases", leases.len());
    assert!(most <= HARD_CAP, "{most} keys on a lease");
    assert!(sets > 0);

    let stats = backend.stats();
    assert!(stats.leases <= stats.grants);
    assert!(
        stats.leases.abs_diff(leases.len() as u64) <= 2 + allowed as u64 / 4,
        "{} leases in the statistics, {} at the server",
        stats.leases,
        leases.len()
    );
}

async fn etcd_keys(client: &mut Client) -> i64 {
    let options = etcd_client::GetOptions::new()
        .with_prefix()
        .with_count_only();
    client.get("key", Some(options)).await.unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_the_same_keys_again_needs_no_more_leases() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let keys = 1200;
    let sets = set_at_full_speed(&backend, 6, Some(keys)).await;
    let leases = leases(&mut client(&etcd).await).await.len();
    // In each bucket the keys of a class have their own lease: 200 keys per class, on one lease.
    let allowed = TTLS_MS.map(buckets).iter().sum::<usize>();
    println!("{sets} sets of {keys} keys: {leases} leases, {allowed} allowed");
    assert!(leases <= allowed, "{leases} leases, {allowed} allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_at_once_are_spread_over_leases() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let keys: Vec<String> = (0..5000).map(|i| format!("key {i}")).collect();
    let entries = keys.iter().map(|key| (key.as_str(), value("v")));
    backend.set_multi(entries.collect()).await.unwrap();

    let mut client = client(&etcd).await;
    let mut on: HashMap<i64, usize> = HashMap::new();
    let options = etcd_client::GetOptions::new().with_prefix();
    for found in client.get("key", Some(options)).await.unwrap().kvs() {
        *on.entry(found.lease()).or_default() += 1;
    }
    assert_eq!(on.values().sum::<usize>(), keys.len());
    assert!(!on.contains_key(&0), "keys without a lease");
    assert!(on.values().all(|keys| *keys <= HARD_CAP), "{on:?}");
    assert!(on.len() <= keys.len() / CAP + 2, "{} leases", on.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn values_outlive_the_backend_and_expire() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let first = backend([etcd.endpoint()]).build().unwrap();
    let short = Duration::from_secs(2);
    first
        .set("short", value("s").with_ttl(short))
        .await
        .unwrap();
    let long = Duration::from_secs(600);
    first.set("long", value("l").with_ttl(long)).await.unwrap();
    drop(first);

    let second = backend([etcd.endpoint()]).build().unwrap();
    let found = second.get("long").await.unwrap();
    assert_eq!(payload(found), Some(b"l".to_vec()));
    let mut client = client(&etcd).await;
    eventually(
        Duration::from_secs(30),
        "removal by the server",
        async || client.get("short", None).await.unwrap().kvs().is_empty(),
    )
    .await;
    assert!(second.get("long").await.unwrap().is_some());
}

async fn revoke_all(etcd: &Etcd) {
    let mut client = client(etcd).await;
    for lease in leases(&mut client).await {
        client.lease_revoke(lease).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_revoked_is_replaced() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    backend.set("k", value("1")).await.unwrap();
    revoke_all(&etcd).await;
    assert!(backend.get("k").await.unwrap().is_none());
    backend.set("k", value("2")).await.unwrap();
    assert_eq!(
        payload(backend.get("k").await.unwrap()),
        Some(b"2".to_vec())
    );
    assert_eq!(backend.stats().lost_leases, 1);
}

/// etcd refuses the whole transaction, and does not name the lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_fails_no_write_that_shares_its_request() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let never = |payload: &str| value(payload).with_ttl(cache_core::Ttl::Never);
    backend.set("k", value("v")).await.unwrap();
    revoke_all(&etcd).await;
    // The lease of this one is not lost.
    let minute = Duration::from_secs(60);
    let kept = value("4").with_ttl(minute);
    backend.set("kept", kept.clone()).await.unwrap();
    let entries = vec![
        ("lost", value("1")),
        ("never", never("2")),
        ("deleted", value("3").with_ttl(Duration::ZERO)),
        ("kept", kept),
    ];
    backend.set_multi(entries).await.unwrap();
    let found = backend.get_multi(&["lost", "never", "kept"]).await;
    assert!(found.iter().all(|found| matches!(found, Ok(Some(_)))));
    assert_eq!(backend.stats().lost_leases, 1);

    revoke_all(&etcd).await;
    let mut calls = JoinSet::new();
    for i in 0..96 {
        let (backend, never) = (backend.clone(), never("v"));
        calls.spawn(async move {
            let key = format!("{}", i % 48);
            match i % 3 {
                0 => backend.set(&key, value("v")).await,
                1 => backend.set(&key, never).await,
                _ => backend.delete(&key).await,
            }
        });
    }
    for outcome in calls.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(backend.stats().lost_leases, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_lease_than_requested_is_accepted() {
    let _place = heavy();
    // The shortest lease is one and a half elections.
    let etcd = Etcd::builder()
        .arg("--election-timeout=5000")
        .start()
        .unwrap();
    let backend = backend([etcd.endpoint()]).build().unwrap();
    let ttl = Duration::from_secs(1);
    let began = Instant::now();
    backend.set("k", value("v").with_ttl(ttl)).await.unwrap();
    match backend.get("k").await.unwrap() {
        Some(found) => assert!(found.ttl().duration().unwrap() <= ttl),
        None => assert!(began.elapsed() >= ttl),
    }
    tokio::time::sleep(ttl + Duration::from_millis(50)).await;
    assert!(backend.get("k").await.unwrap().is_none());
    assert_eq!(backend.stats().leases, 1);
}
