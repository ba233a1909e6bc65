//! Single writes that wait for others go together, as one transaction.
//!
//! Few requests are under way at a time. Whoever finds room sends a plain request at once, so one
//! task alone waits for nobody; what comes meanwhile waits, and goes as soon as one of the
//! requests is answered. Many tasks are so served by few requests, each of which etcd does about
//! as fast as a single put.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::backend::Shared;
use crate::batch::{self, MAX_BYTES, MAX_OPERATIONS, Write};
use crate::endpoint::lock;
use crate::failure::{Failure, Next};

/// How many requests are under way before others wait for them.
const SLOTS: usize = 2;

/// Requests that take longer are held up by a fault: nobody waits for those.
const STALLED: Duration = Duration::from_millis(100);

/// Larger writes go by themselves and hold nobody up.
const MAX_SHARED_BYTES: usize = 16 * 1024;

#[derive(Default)]
pub(crate) struct Queue(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// How many slots are taken.
    taken: usize,
    /// When the last of them was taken, or used anew.
    last_sent: Option<Instant>,
}

struct Waiting {
    write: Write,
    deadline: Instant,
    done: oneshot::Sender<Result<(), Failure>>,
}

/// Writes one key, together with others if there are any.
pub(crate) async fn write(
    shared: &Arc<Shared>,
    write: Write,
    deadline: Instant,
) -> Result<(), Failure> {
    if write.bytes() > MAX_SHARED_BYTES {
        return alone(shared, write, deadline).await;
    }
    let answer = {
        let mut state = lock(&shared.queue.0);
        let now = Instant::now();
        let is_stalled = |sent: Instant| now.saturating_duration_since(sent) > STALLED;
        if state.taken < SLOTS || state.last_sent.is_some_and(is_stalled) {
            state.taken += 1;
            state.last_sent = Some(now);
            Err(write)
        } else {
            let (done, answer) = oneshot::channel();
            state.waiting.push_back(Waiting {
                write,
                deadline,
                done,
            });
            Ok(answer)
        }
    };
    match answer {
        Err(write) => {
            let _slot = Slot {
                shared: Arc::clone(shared),
                is_in_use: true,
            };
            alone(shared, write, deadline).await
        }
        Ok(answer) => match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(outcome)) => outcome,
            // The runtime of those that it waited for has shut down.
            Ok(Err(_)) => Err(Failure::new(Next::Repeat, "the request was abandoned")),
            Err(_) => {
                shared.counters.timeouts.add(1);
                Err(Failure::new(
                    Next::Silent,
                    "no answer in time; requests that were sent before are not answered either",
                ))
            }
        },
    }
}

async fn alone(shared: &Shared, write: Write, deadline: Instant) -> Result<(), Failure> {
    let failed = batch::write_chunk(shared, vec![write], deadline, false).await;
    match failed.into_iter().next() {
        None => Ok(()),
        Some((_, failure)) => Err(failure),
    }
}

/// The right to have a request under way. Dropped, however that comes about, it goes to those
/// that wait.
struct Slot {
    shared: Arc<Shared>,
    /// False on the way to those that wait. A runtime that shuts down drops it there, and is not
    /// to be asked again.
    is_in_use: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.queue.0);
        match Handle::try_current() {
            Ok(runtime) if self.is_in_use && !state.waiting.is_empty() => {
                drop(state);
                runtime.spawn(serve(Self {
                    shared: Arc::clone(&self.shared),
                    is_in_use: false,
                }));
            }
            // Nobody waits; or nobody can be served, and the next call that comes does it.
            _ => state.taken -= 1,
        }
    }
}

/// Sends what waits until nothing does.
async fn serve(mut slot: Slot) {
    slot.is_in_use = true;
    while let Some(round) = Round::take(&slot.shared.queue) {
        round.send(&slot.shared).await;
        // Those that were answered may have more to write: that is to go together.
        tokio::task::yield_now().await;
    }
}

/// Writes that go together.
struct Round {
    writes: Vec<Write>,
    /// Who waits for each of them, by key.
    waiting: HashMap<String, Vec<oneshot::Sender<Result<(), Failure>>>>,
    deadline: Instant,
}

impl Round {
    fn take(queue: &Queue) -> Option<Self> {
        let mut state = lock(&queue.0);
        let mut positions: HashMap<String, usize> = HashMap::new();
        let first = state.waiting.front()?;
        let mut round = Self {
            writes: Vec::new(),
            waiting: HashMap::new(),
            deadline: first.deadline,
        };
        let mut bytes = 0;
        while let Some(next) = state.waiting.pop_front() {
            bytes += next.write.bytes();
            round.deadline = round.deadline.min(next.deadline);
            let key = next.write.key.clone();
            let known = positions.get(&key).copied();
            if let Some(write) = known.and_then(|at| round.writes.get_mut(at)) {
                // Two calls at once on one key: as if the first had come just before the second.
                *write = next.write;
            } else {
                positions.insert(key.clone(), round.writes.len());
                round.writes.push(next.write);
            }
            round.waiting.entry(key).or_default().push(next.done);
            if round.writes.len() == MAX_OPERATIONS || bytes + MAX_SHARED_BYTES > MAX_BYTES {
                break;
            }
        }
        state.last_sent = Some(Instant::now());
        Some(round)
    }

    async fn send(mut self, shared: &Shared) {
        let failed = batch::write_chunk(shared, self.writes, self.deadline, true).await;
        // Whoever does not wait any more was dropped.
        for (key, failure) in failed {
            for done in self.waiting.remove(&key).unwrap_or_default() {
                let _ = done.send(Err(failure.clone()));
            }
        }
        for done in self.waiting.into_values().flatten() {
            let _ = done.send(Ok(()));
        }
    }
}
