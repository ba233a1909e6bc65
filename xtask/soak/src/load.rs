//! [`Load`], many clients at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::task::JoinSet;

use super::client::Client;
use super::event::Report;
use super::promises::Promises;
use super::space::Space;
use super::time::{RunTime, nanos, wall};

/// How long one set of keys is used.
pub(crate) const ROUND: Duration = Duration::from_secs(15);

/// What the clients of one process share.
pub(crate) struct Load {
    /// Stands in each key and value, so that runs do not disturb each other.
    pub(crate) run: u64,
    pub(crate) seed: u64,
    /// Number of the process, 0 to 7.
    pub(crate) process: u32,
    pub(crate) time: RunTime,
    pub(crate) spaces: Vec<Space>,
    pub(crate) promises: Promises,
    /// Calls a second, of all clients together.
    pub(crate) rate: f64,
    pub(crate) clients: u32,
    pub(crate) stop: AtomicBool,
    pub(crate) last_version: AtomicU64,
}

/// The longest that a call is waited for: long enough to tell a late end from none.
pub(crate) fn patience(promises: &Promises) -> Duration {
    promises.bound * 2 + Duration::from_secs(5)
}

impl Load {
    /// Runs the clients until [`stop`](Self::stop) is set and each has ended its last call.
    pub(crate) async fn run(self: Arc<Self>, to: Sender<Report>) {
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let client = Client::new(Arc::clone(&self), number, to.clone());
            clients.spawn(client.run());
        }
        while let Some(ended) = clients.join_next().await {
            if let Err(error) = ended {
                let _ = to.send(Report::Wrong {
                    rule: "panic".to_owned(),
                    key: None,
                    at: self.time.now(),
                    text: format!("a client ended: {error}"),
                });
            }
        }
    }

    pub(crate) fn round(&self) -> u32 {
        u32::try_from(self.time.now() / nanos(ROUND)).unwrap_or(u32::MAX)
    }

    /// Microseconds that no other write of this run has.
    pub(crate) fn version(&self) -> u64 {
        let now = wall() / 1000 / 8 * 8 + u64::from(self.process);
        let taken = |last: u64| Some(now.max(last + 8));
        let last = self
            .last_version
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken)
            .unwrap_or_else(|last| last);
        now.max(last + 8)
    }
}
