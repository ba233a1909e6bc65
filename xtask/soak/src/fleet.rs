//! The clients of one process, from the opening of the backends to the proof that nothing of
//! them is left.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::Result;
use cache_core::CacheBackend as _;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::event::Report;
use super::key::{KEYS, Key};
use super::load::{Load, patience};
use super::promises::Promises;
use super::rng::Rng;
use super::space::{Opened, Space};
use super::time::RunTime;

/// How a backend is opened.
pub(crate) trait Store: Send + Sync {
    fn promises(&self) -> Promises;

    /// All stores with their backends. Within a runtime.
    fn spaces(&self) -> Result<Vec<Space>>;

    /// Another backend that reaches the same store; `None` if only the first one can, as it is
    /// the store.
    fn again(&self) -> Option<Result<Opened>> {
        None
    }
}

/// What distinguishes one process, and one run, from others.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) run: u64,
    pub(crate) seed: u64,
    pub(crate) process: u32,
    pub(crate) rate: f64,
    pub(crate) clients: u32,
    pub(crate) time: RunTime,
}

pub(crate) struct Fleet {
    runtime: Runtime,
    load: Arc<Load>,
    running: Vec<JoinHandle<()>>,
    files_before: usize,
    tasks_before: usize,
}

/// How long the backends may take to let go of what they hold.
const LETTING_GO: Duration = Duration::from_secs(15);

impl Fleet {
    /// Opens the backends and starts the clients.
    pub(crate) fn start(
        store: &Arc<dyn Store>,
        settings: &Settings,
        to: &Sender<Report>,
    ) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let files_before = open_files();
        let tasks_before = runtime.metrics().num_alive_tasks();
        let spaces = runtime.block_on(async { store.spaces() })?;
        let load = Arc::new(Load {
            run: settings.run,
            seed: settings.seed,
            process: settings.process,
            time: settings.time,
            spaces,
            promises: store.promises(),
            rate: settings.rate,
            clients: settings.clients,
            stop: AtomicBool::new(false),
            last_version: AtomicU64::new(0),
        });
        let mut running = vec![
            runtime.spawn(Arc::clone(&load).run(to.clone())),
            runtime.spawn(reopen(
                Arc::clone(&load),
                Arc::clone(store),
                Rng::new(settings.seed, "reopen"),
            )),
        ];
        if settings.process == 0 {
            running.push(runtime.spawn(clear(Arc::clone(&load))));
        }
        Ok(Self {
            runtime,
            load,
            running,
            files_before,
            tasks_before,
        })
    }

    /// Stops the clients, drops the backends, and tells what is left of them. `files` is how
    /// many files were opened since the start by others.
    pub(crate) fn finish(self, to: &Sender<Report>, files: usize) {
        let Self {
            runtime,
            load,
            running,
            files_before,
            tasks_before,
        } = self;
        let time = load.time;
        let wrong = |rule: &str, text: String| {
            let _ = to.send(Report::Wrong {
                rule: rule.to_owned(),
                key: None,
                at: time.now(),
                text,
            });
        };
        load.stop.store(true, Ordering::Relaxed);
        let longest = patience(&load.promises) * 2;
        for task in running {
            let ended = runtime.block_on(async { tokio::time::timeout(longest, task).await });
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => wrong("panic", format!("a task of the soak ended: {error}")),
                Err(_) => wrong(
                    "bound",
                    format!("a client had not stopped after {longest:?}"),
                ),
            }
        }
        let spaces = load.spaces.iter();
        let instances: Vec<Arc<Opened>> = spaces
            .flat_map(|space| (0..space.instances.len()).filter_map(|at| space.instance(at)))
            .collect();
        let busy = until_none(|| instances.iter().flat_map(|one| (one.busy)()).collect());
        for text in busy {
            wrong("leak", format!("while nobody uses it: {text}"));
        }
        drop(instances);
        drop(load);
        let left = until_none(|| {
            let mut left = Vec::new();
            let tasks = runtime.metrics().num_alive_tasks();
            if tasks > tasks_before {
                left.push(format!("{} tasks still run", tasks - tasks_before));
            }
            let open = open_files();
            let allowed = files_before.saturating_add(files);
            if open > allowed {
                let more = open - allowed;
                left.push(format!("{more} files or connections are still open"));
            }
            left
        });
        for text in left {
            wrong("leak", format!("all backends were dropped, and {text}"));
        }
        runtime.shutdown_timeout(Duration::from_secs(2));
    }
}

/// Asks until the answer is empty or the patience is gone.
fn until_none(ask: impl Fn() -> Vec<String>) -> Vec<String> {
    let deadline = Instant::now() + LETTING_GO;
    loop {
        let left = ask();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How many files this process has open, sockets included; zero where the system does not tell.
fn open_files() -> usize {
    std::fs::read_dir(Path::new("/proc/self/fd")).map_or(0, Iterator::count)
}

/// The memory of this process in MiB; zero where the system does not tell.
pub(crate) fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// Now and then drops a backend and opens another one in its place.
async fn reopen(load: Arc<Load>, store: Arc<dyn Store>, mut rng: Rng) {
    while !load.stop.load(Ordering::Relaxed) {
        nap(&load, Duration::from_millis(rng.between(4_000, 12_000))).await;
        let Some(space) = load.spaces.first() else {
            return;
        };
        match store.again() {
            None => return,
            Some(Ok(opened)) => space.replace(rng.below(space.instances.len()), opened),
            Some(Err(error)) => {
                // Opening does not need the servers, so a fault is no excuse.
                eprintln!("a backend could not be opened: {error:#}");
                return;
            }
        }
    }
}

/// Clears away what rounds that are long over have left, so that the stores do not grow.
async fn clear(load: Arc<Load>) {
    let mut next = 0;
    while !load.stop.load(Ordering::Relaxed) {
        nap(&load, Duration::from_secs(1)).await;
        // Later than the last round that may still be judged.
        let over = load.round().saturating_sub(5);
        if next >= over {
            continue;
        }
        for (number, space) in load.spaces.iter().enumerate() {
            let Some(instance) = space.instance(0) else {
                continue;
            };
            let keys = (0..KEYS).map(|index| Key {
                space: u32::try_from(number).unwrap_or(0),
                round: next,
                index: u32::try_from(index).unwrap_or(0),
            });
            let names: Vec<String> = keys
                .filter(|key| !key.is_kept())
                .map(|key| key.name(load.run))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            for names in names.chunks(50) {
                // It fails where a fault is about; what stays is bounded by its TTL.
                let call = instance.backend.delete_multi(names);
                let _ = tokio::time::timeout(patience(&load.promises), call).await;
            }
        }
        next += 1;
    }
}

/// Sleeps, but not beyond the end of the run.
async fn nap(load: &Load, mut time: Duration) {
    const STEP: Duration = Duration::from_millis(200);
    while !time.is_zero() && !load.stop.load(Ordering::Relaxed) {
        let step = time.min(STEP);
        tokio::time::sleep(step).await;
        time -= step;
    }
}
