//! Tasks that set and get continuously and check every result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, CachedValue, Error, Result};
use cache_etcd3::Etcd3Backend;
use tokio::task::JoinSet;

pub(crate) const TASKS: usize = 16;

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: JoinSet<Summary>,
}

#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) calls: u64,
    pub(crate) errors: Vec<Error>,
    /// Calls that their callers abandoned.
    pub(crate) given_up: u64,
    pub(crate) slowest: Duration,
    /// Results that were neither the last value set nor one that may have been applied since.
    pub(crate) wrong: Vec<String>,
}

impl Load {
    pub(crate) fn start(backend: &Etcd3Backend) -> Self {
        Self::start_with(backend, None)
    }

    /// Starts callers that give up after `patience`.
    pub(crate) fn start_impatient(backend: &Etcd3Backend, patience: Duration) -> Self {
        Self::start_with(backend, Some(patience))
    }

    fn start_with(backend: &Etcd3Backend, patience: Option<Duration>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (backend, stop, done) = (backend.clone(), Arc::clone(&stop), Arc::clone(&done));
            tasks.spawn(async move {
                let mut worker = Worker::new(task, backend, patience);
                while !stop.load(Ordering::Relaxed) {
                    if worker.step().await {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
                worker.summary
            });
        }
        Self { stop, done, tasks }
    }

    /// Waits until this many more rounds per task have succeeded.
    pub(crate) async fn progress(&self, rounds_a_task: u64) {
        let aim = self.done.load(Ordering::Relaxed) + rounds_a_task * TASKS as u64;
        let limit = Instant::now() + Duration::from_secs(90);
        while self.done.load(Ordering::Relaxed) < aim {
            assert!(Instant::now() < limit, "no progress in 90 s");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(mut self) -> Summary {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Summary::default();
        while let Some(summary) = self.tasks.join_next().await {
            let summary = summary.unwrap();
            total.calls += summary.calls;
            total.errors.extend(summary.errors);
            total.given_up += summary.given_up;
            total.slowest = total.slowest.max(summary.slowest);
            total.wrong.extend(summary.wrong);
        }
        println!(
            "{} calls, {} errors, {} given up, slowest {:?}",
            total.calls,
            total.errors.len(),
            total.given_up,
            total.slowest
        );
        total
    }
}

impl Summary {
    pub(crate) fn assert_right(&self) {
        assert_eq!(self.wrong, [""; 0], "wrong answers");
    }

    pub(crate) fn assert_no_errors(&self) {
        assert!(
            self.errors.is_empty(),
            "{} errors: {}",
            self.errors.len(),
            self.errors[0]
        );
    }

    pub(crate) fn assert_ended_within(&self, limit: Duration) {
        assert!(self.slowest < limit, "a call took {:?}", self.slowest);
    }
}

/// The only writer of its keys, so it knows their possible values: the last one set, or one that a
/// failed call may have set since.
struct Worker {
    backend: Etcd3Backend,
    patience: Option<Duration>,
    keys: Vec<String>,
    /// The round of the last write that is known to be applied, by key.
    applied: Vec<u64>,
    round: u64,
    summary: Summary,
}

impl Worker {
    fn new(task: usize, backend: Etcd3Backend, patience: Option<Duration>) -> Self {
        let keys: Vec<String> = (0..4)
            .map(|key| format!("task {task}, key {key}"))
            .collect();
        Self {
            backend,
            patience,
            applied: vec![0; keys.len()],
            keys,
            round: 0,
            summary: Summary::default(),
        }
    }

    /// A write and a read, single and multi operations in turn. Returns whether both succeeded.
    async fn step(&mut self) -> bool {
        self.round += 1;
        let single = usize::try_from(self.round).unwrap() % self.keys.len();
        let is_multi = self.round.is_multiple_of(8);
        let written: Vec<usize> = if is_multi {
            (0..self.keys.len()).collect()
        } else {
            vec![single]
        };
        let backend = self.backend.clone();
        let round = self.round;
        let keys = self.keys.clone();
        let set = self
            .timed(async {
                let value = |key: &str| {
                    CachedValue::new(format!("{key}: {round}").into_bytes())
                        .with_ttl(Duration::from_secs(300))
                };
                if is_multi {
                    let entries = keys.iter().map(|key| (key.as_str(), value(key)));
                    backend.set_multi(entries.collect()).await
                } else {
                    backend.set(&keys[single], value(&keys[single])).await
                }
            })
            .await;
        if set.is_some() {
            for key in written {
                self.applied[key] = round;
            }
        }
        let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = self
            .timed(async {
                if is_multi {
                    backend.get_multi(&asked).await.into_iter().collect()
                } else {
                    Ok(vec![backend.get(&keys[single]).await?])
                }
            })
            .await;
        let Some(found) = found else { return false };
        let first = if is_multi { 0 } else { single };
        for (position, found) in found.into_iter().enumerate() {
            self.check(first + position, found);
        }
        set.is_some()
    }

    fn check(&mut self, key: usize, found: Option<CachedValue<Vec<u8>>>) {
        let name = &self.keys[key];
        let known = self.applied[key];
        let Some(found) = found else {
            if known > 0 {
                self.summary.wrong.push(format!("{name} is lost"));
            }
            return;
        };
        let payload = String::from_utf8(found.into_payload()).unwrap();
        let round: Option<u64> = payload
            .strip_prefix(&format!("{name}: "))
            .and_then(|round| round.parse().ok());
        if !round.is_some_and(|round| (known..=self.round).contains(&round)) {
            self.summary
                .wrong
                .push(format!("{name} has {payload:?} after {known}"));
        }
    }

    async fn timed<T>(&mut self, call: impl Future<Output = Result<T>>) -> Option<T> {
        let began = Instant::now();
        let outcome = match self.patience {
            None => Some(call.await),
            Some(patience) => tokio::time::timeout(patience, call).await.ok(),
        };
        let took = began.elapsed();
        self.summary.calls += 1;
        self.summary.slowest = self.summary.slowest.max(took);
        match outcome {
            Some(Ok(answer)) => Some(answer),
            None => {
                self.summary.given_up += 1;
                None
            }
            Some(Err(error)) => {
                self.summary.errors.push(error);
                // Like a real service, it retries less often.
                tokio::time::sleep(Duration::from_millis(20)).await;
                None
            }
        }
    }
}
