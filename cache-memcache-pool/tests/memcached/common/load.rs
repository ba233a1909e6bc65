//! Many tasks that read and write concurrently and check everything they read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cache_core::{CacheBackend as _, CachedValue, Error, ErrorKind};
use cache_memcache_pool::MemcachePoolBackend;
use tokio::task::JoinHandle;

use super::{CALL_LIMIT, all, scrambled, value};

/// The results of a [`Load`].
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: u64,
    pub(crate) hits: u64,
    pub(crate) errors: BTreeMap<ErrorKind, u64>,
    /// One of the errors.
    pub(crate) error: Option<Error>,
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// `tasks` tasks with separate keys, each calling one operation after the other.
    pub(crate) fn start(cache: &MemcachePoolBackend, tasks: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..tasks)
            .map(|task| tokio::spawn(work(cache.clone(), task, Arc::clone(&stop))))
            .collect();
        Self { stop, tasks }
    }

    pub(crate) async fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for task in self.tasks {
            let seen = task.await.unwrap();
            all.calls += seen.calls;
            all.hits += seen.hits;
            all.error = all.error.or(seen.error);
            for (kind, n) in seen.errors {
                *all.errors.entry(kind).or_default() += n;
            }
        }
        all
    }
}

/// The payload names its key, and is too long to match by chance.
fn payload(key: &str, version: u64) -> Vec<u8> {
    let len = (scrambled(version) % 300) as usize;
    let mut payload = format!("{key} {version} ").into_bytes();
    payload.resize(payload.len() + len, b'a' + (version % 26) as u8);
    payload
}

/// Panics unless `found` is a complete version of `key`'s value.
fn check(key: &str, found: Option<CachedValue<Vec<u8>>>) -> bool {
    let Some(found) = found else {
        return false;
    };
    let found = found.into_payload();
    let text = String::from_utf8(found).unwrap();
    let mut words = text.split(' ');
    assert_eq!(words.next(), Some(key), "a foreign value");
    let version = words.next().unwrap().parse().unwrap();
    assert_eq!(text.into_bytes(), payload(key, version), "a wrong value");
    true
}

async fn work(cache: MemcachePoolBackend, task: u64, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let keys: Vec<String> = (0..16).map(|i| format!("task-{task}-{i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for turn in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let dice = scrambled(turn ^ task << 32);
        let key = keys[(dice >> 8) as usize % keys.len()];
        let began = Instant::now();
        let outcome = match dice % 10 {
            0..=5 => cache
                .get(key)
                .await
                .map(|found| u64::from(check(key, found))),
            6..=7 => cache.set(key, value(payload(key, turn))).await.map(|()| 0),
            8 => all(cache.get_multi(&keys).await).map(|found| {
                assert_eq!(found.len(), keys.len());
                let checked = keys.iter().zip(found).map(|(key, found)| check(key, found));
                checked.map(u64::from).sum()
            }),
            _ => {
                let entries = keys.iter().map(|key| (*key, value(payload(key, turn))));
                cache.set_multi(entries.collect()).await.map(|()| 0)
            }
        };
        let took = began.elapsed();
        assert!(took < CALL_LIMIT, "a call took {took:?}");
        seen.calls += 1;
        match outcome {
            Ok(hits) => seen.hits += hits,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                *seen.errors.entry(error.kind()).or_default() += 1;
                seen.error = Some(error);
                // A task whose calls fail immediately would otherwise only produce errors.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    seen
}
