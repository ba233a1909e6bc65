//! A large farm with churn: few keys move, no calls fail, and no resources accumulate.

use std::time::Duration;

use cache_core::{CacheBackend as _, CachedValue};
use cache_memcache_pool::MemcachePoolBackend;
use tokio::time::{Instant, sleep_until};

use crate::rng::Rng;
use crate::server::{Farm, fast};

/// How many keys are read each second.
const KEYS: usize = 2000;

/// How many tasks read them.
const READERS: usize = 8;

fn name(server: usize) -> String {
    format!("server-{server}:1")
}

/// Reads these keys and sets the missing ones. Returns the number of misses.
async fn read(cache: MemcachePoolBackend, keys: Vec<String>) -> usize {
    let mut missing = 0;
    for key in keys {
        if cache.get(&key).await.unwrap().is_none() {
            let value = CachedValue::new(key.clone().into_bytes());
            cache.set(&key, value).await.unwrap();
            missing += 1;
        }
    }
    missing
}

/// Reads all keys once, by several tasks. Returns the number of misses.
async fn read_all(cache: &MemcachePoolBackend) -> usize {
    let mut readers = Vec::new();
    for reader in 0..READERS {
        let keys = (reader..KEYS).step_by(READERS);
        let keys = keys.map(|key| format!("key-{key}")).collect();
        readers.push(tokio::spawn(read(cache.clone(), keys)));
    }
    let mut missing = 0;
    for reader in readers {
        missing += reader.await.unwrap();
    }
    missing
}

/// A farm of `servers`, of which the oldest `churn` are replaced each second. A key that moves is
/// a miss on its new server: it has never been there, since the servers it came from are older and
/// are removed first.
///
/// Returns the memory used by the process after a quarter of the time and at the end.
async fn servers_come_and_go(servers: usize, churn: usize, seconds: usize) -> (u64, u64) {
    let start = Instant::now();
    let metrics = tokio::runtime::Handle::current().metrics();
    let links = (0..servers + churn * seconds)
        .map(|_| fast(start))
        .collect();
    let farm = Farm::start(links, &[], start, &mut Rng::new(3));
    let net = farm.clone();
    let cache = MemcachePoolBackend::builder()
        .url((0..servers).map(name))
        .jitter_seed(1)
        .connect_with(move |address| net.clone().connect(address.to_owned()))
        .build()
        .unwrap();
    assert_eq!(read_all(&cache).await, KEYS);
    let largest = servers as f64;
    let (mut moved, mut ideal, mut most_tasks) = (0, 0.0, 0);
    let mut early = 0;
    for second in 1..=seconds {
        let first = second * churn;
        // The oldest servers are removed, then the same number is added.
        for servers in [first..first - churn + servers, first..first + servers] {
            // Either way, the share of `churn` servers.
            ideal += (KEYS * churn) as f64 / largest;
            cache.set_servers(servers.map(name)).unwrap();
            moved += read_all(&cache).await;
        }
        for gone in &farm.0[first - churn..first] {
            gone.clear();
            assert_eq!(gone.open(), 0, "a server that left still has connections");
        }
        if second == seconds.div_ceil(4) {
            early = resident();
        }
        // A connection is one task in the client and one in the model of its server.
        most_tasks = most_tasks.max(metrics.num_alive_tasks());
        sleep_until(start + Duration::from_secs(second as u64)).await;
    }
    let late = resident();
    let stats = cache.stats();
    assert!(stats.servers.iter().all(|server| server.downs == 0));
    assert!(most_tasks <= 4 * servers + READERS, "{most_tasks} tasks");
    let ratio = moved as f64 / ideal;
    assert!(
        (0.8..=1.1).contains(&ratio),
        "{moved} keys moved, {ideal:.0} had to"
    );
    (early, late)
}

#[tokio::test(start_paused = true)]
async fn few_keys_move_when_servers_are_replaced() {
    servers_come_and_go(100, 1, 40).await;
}

/// Ten minutes of a farm of a thousand servers.
#[tokio::test(start_paused = true)]
#[ignore = "takes minutes; cargo test --release -p cache-memcache-pool --test simulation -- --ignored"]
async fn few_keys_move_in_ten_minutes_with_a_thousand_servers() {
    let (early, late) = servers_come_and_go(1000, 10, 600).await;
    assert!(late <= early + early / 4, "{early} KiB became {late} KiB");
}

/// The memory used by this process in KiB, if the system reports it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}
