//! [`Load`], many clients at once, from the opening of the backends to the proof that nothing of
//! them is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::book::Book;
use crate::client::Client;
use crate::store::{Opened, Space, Store};
use crate::time::{RunTime, nanos, wall};

/// How long one set of keys is used.
pub(crate) const ROUND: Duration = Duration::from_secs(15);

/// How long the backends may take to let go of what they hold.
const LETTING_GO: Duration = Duration::from_secs(15);

/// What the clients share.
pub(crate) struct Load {
    /// In each key and value, so that runs do not disturb each other.
    pub(crate) run: u64,
    pub(crate) seed: u64,
    pub(crate) time: RunTime,
    pub(crate) spaces: Vec<Space>,
    /// Calls a second, of all clients together.
    pub(crate) rate: f64,
    pub(crate) clients: u32,
    pub(crate) stop: AtomicBool,
    pub(crate) book: Arc<Book>,
    last_version: AtomicU64,
}

impl Load {
    pub(crate) fn round(&self) -> u32 {
        u32::try_from(self.time.now() / nanos(ROUND)).unwrap_or(u32::MAX)
    }

    /// Microseconds since 1970 that no other write of this run has, and more than any before.
    pub(crate) fn version(&self) -> u64 {
        let next = |last: u64| Some((wall() / 1000).max(last + 1));
        let order = Ordering::SeqCst;
        let before = self.last_version.fetch_update(order, order, next);
        before.ok().and_then(next).unwrap_or(u64::MAX)
    }

    /// Sleeps, but not beyond the end of the run.
    async fn nap(&self, mut time: Duration) {
        const STEP: Duration = Duration::from_millis(200);
        while !time.is_zero() && !self.stop.load(Ordering::Relaxed) {
            let step = time.min(STEP);
            tokio::time::sleep(step).await;
            time -= step;
        }
    }
}

/// What distinguishes one run from others.
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) rate: f64,
    pub(crate) clients: u32,
}

/// A load that is running, in the runtime that it was started in.
pub(crate) struct Running {
    load: Arc<Load>,
    tasks: Vec<JoinHandle<()>>,
    tasks_before: usize,
}

impl Running {
    /// Opens the backends and starts the clients.
    pub(crate) fn start(
        store: &Arc<dyn Store>,
        book: Arc<Book>,
        settings: &Settings,
    ) -> Result<Self> {
        let tasks_before = Handle::current().metrics().num_alive_tasks();
        let load = Arc::new(Load {
            run: wall() ^ settings.seed,
            seed: settings.seed,
            time: book.faults.time,
            spaces: store.spaces()?,
            rate: settings.rate,
            clients: settings.clients,
            stop: AtomicBool::new(false),
            book,
            last_version: AtomicU64::new(0),
        });
        let client = |number| tokio::spawn(Client::new(Arc::clone(&load), number).run());
        let mut tasks: Vec<JoinHandle<()>> = (0..load.clients).map(client).collect();
        tasks.push(tokio::spawn(reopen(Arc::clone(&load), Arc::clone(store))));
        Ok(Self {
            load,
            tasks,
            tasks_before,
        })
    }

    /// Stops the clients, drops the backends, and takes down what is left of them.
    pub(crate) async fn finish(self) {
        let Self {
            load,
            tasks,
            tasks_before,
        } = self;
        let book = Arc::clone(&load.book);
        load.stop.store(true, Ordering::Relaxed);
        let longest = book.promises.patience() * 2;
        for task in tasks {
            match tokio::time::timeout(longest, task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => book.wrong("panic", format!("a client ended: {error}")),
                Err(_) => book.wrong(
                    "bound",
                    format!("a client has not stopped after {longest:?}"),
                ),
            }
        }
        let instances: Vec<Arc<Opened>> = load
            .spaces
            .iter()
            .flat_map(|space| (0..space.instances.len()).filter_map(|at| space.instance(at)))
            .collect();
        let busy = || instances.iter().flat_map(|one| (one.busy)()).collect();
        for text in until_none(LETTING_GO, busy).await {
            book.wrong("leak", format!("while nobody uses it: {text}"));
        }
        drop((instances, load));
        let left = || {
            let tasks = Handle::current().metrics().num_alive_tasks();
            let tasks = tasks.saturating_sub(tasks_before);
            Vec::from_iter((tasks > 0).then(|| format!("{tasks} tasks that run")))
        };
        for text in until_none(LETTING_GO, left).await {
            book.wrong("leak", format!("all backends were dropped and left {text}"));
        }
    }
}

/// Asks until the answer is empty or the patience is gone.
async fn until_none(patience: Duration, mut ask: impl FnMut() -> Vec<String>) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let left = ask();
        if left.is_empty() || tokio::time::Instant::now() > deadline {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Now and then drops a backend and opens another one in its place.
async fn reopen(load: Arc<Load>, store: Arc<dyn Store>) {
    let mut rng = fastrand::Rng::with_seed(load.seed);
    while !load.stop.load(Ordering::Relaxed) {
        load.nap(Duration::from_millis(rng.u64(4_000..12_000)))
            .await;
        let Some(space) = load.spaces.first() else {
            return;
        };
        match store.again() {
            None => return,
            Some(Ok(opened)) => space.replace(rng.usize(..space.instances.len()), opened),
            // Opening does not need the servers, so a fault is no excuse.
            Some(Err(error)) => load
                .book
                .wrong("error", format!("a backend cannot be opened: {error:#}")),
        }
    }
}
