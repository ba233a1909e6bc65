//! One pipelined connection, as callers see it: a queue that its driver empties.

mod driver;
mod patience;
mod pipeline;
#[cfg(test)]
mod properties;
mod queue;
#[cfg(test)]
mod recorded;
mod stream;

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use cache_core::{Error, Result};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

pub(crate) use driver::{Driver, End, Ended};
pub(crate) use stream::{ConnectError, Stream, cannot_connect, odd};

use crate::protocol::{Dialect, Expected, Outgoing, Response};
use queue::Queue;

/// Why a request has no response.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The connection ended; the server may be well.
    Lost(Arc<str>),
    /// The server is left alone, for this reason.
    Down(Error),
    /// Another attempt would end alike.
    Final(Error),
    /// The server answers, but not within the time that this request has.
    TooSlow,
}

/// A request that has no response.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) failure: Failure,
    /// Something of it may have been written, and the server may have done it.
    pub(crate) was_sent: bool,
}

/// How a caller is told of its response.
pub(crate) type Caller = oneshot::Sender<Result<Response, Unanswered>>;

/// What a caller wants done: how to write it down, and how much work it is.
pub(crate) struct Exchange<F> {
    /// Appends the request, and says what to expect for it.
    pub(crate) encode: F,
    /// 1 for a small one.
    pub(crate) weight: usize,
}

/// What a driver counts, for all connections of a server.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) calls: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    epoch: Instant,
    /// When a large value was last read, in milliseconds since `epoch`.
    large: AtomicU64,
}

impl Gauges {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            calls: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            epoch: now,
            large: AtomicU64::new(0),
        }
    }

    fn saw_large(&self, now: Instant) {
        self.large.store(self.millis(now), Ordering::Relaxed);
    }

    /// Whether a large value has been read within the last few seconds.
    pub(crate) fn has_large_lately(&self, now: Instant) -> bool {
        const LATELY: u64 = 10_000;
        let large = self.large.load(Ordering::Relaxed);
        large > 0 && self.millis(now).saturating_sub(large) < LATELY
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }
}

/// What callers and the driver share.
#[derive(Debug)]
pub(crate) struct Connection {
    begun: Instant,
    shared: Mutex<Shared>,
    /// The weight of all that is not answered.
    load: AtomicUsize,
    /// What callers take a part of before they queue a request, as much as it weighs.
    room: Arc<Semaphore>,
    state: AtomicU8,
    /// See [`Patience::excused`](patience::Patience::excused), in nanoseconds.
    excused: AtomicU64,
    /// When the server last sent something, in nanoseconds since `begun`; 0: never.
    heard: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    queue: Queue<Caller>,
    driver: Option<Waker>,
    /// The driver is woken when so many requests are queued.
    wake_at: usize,
    closed: Option<Failure>,
}

impl Shared {
    /// Has the driver woken once `enough` requests are queued, or the connection is closed.
    fn wake(&mut self, cx: &Context<'_>, enough: usize) {
        self.wake_at = enough;
        match &mut self.driver {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    Ready,
    Closed,
}

impl Connection {
    pub(crate) fn new(dialect: Dialect, room: Arc<Semaphore>) -> Self {
        Self {
            begun: Instant::now(),
            shared: Mutex::new(Shared {
                queue: Queue::new(dialect),
                driver: None,
                wake_at: 1,
                closed: None,
            }),
            load: AtomicUsize::new(0),
            room,
            state: AtomicU8::new(State::Connecting as u8),
            excused: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        }
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Connecting,
            1 => State::Ready,
            _ => State::Closed,
        }
    }

    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Whether the server has sent something since `since`.
    pub(crate) fn has_heard_since(&self, since: Instant) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        heard > 0 && self.begun + Duration::from_nanos(heard) > since
    }

    /// Queues a request for which there is room, and of which the caller will not wait longer than `patience`; `None` if the
    /// connection is closed.
    pub(crate) fn submit<F>(
        self: Arc<Self>,
        exchange: &Exchange<F>,
        weight: usize,
        now: Instant,
        patience: Duration,
    ) -> Result<Option<Waiter>>
    where
        F: Fn(&mut Outgoing) -> Result<Expected>,
    {
        let (caller, response) = oneshot::channel();
        let excused = Duration::from_nanos(self.excused.load(Ordering::Relaxed));
        let due = now
            .saturating_duration_since(self.begun)
            .saturating_sub(excused)
            .saturating_add(patience);
        let mut shared = self.lock();
        if shared.closed.is_some() {
            return Ok(None);
        }
        let id = shared.queue.push(&exchange.encode, caller, weight, due)?;
        self.load.fetch_add(weight, Ordering::Relaxed);
        let is_enough = shared.queue.len() >= shared.wake_at;
        let driver = if is_enough {
            shared.driver.take()
        } else {
            None
        };
        drop(shared);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(Some(Waiter {
            response,
            connection: self,
            id,
        }))
    }

    /// Ends the connection: its driver tells `failure` to all who wait.
    pub(crate) fn close(&self, failure: Failure) {
        self.state.store(State::Closed as u8, Ordering::Release);
        let mut shared = self.lock();
        shared.closed.get_or_insert(failure);
        let driver = shared.driver.take();
        drop(shared);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// The connection can be used, unless it was closed meanwhile.
    pub(crate) fn set_ready(&self) {
        let _ = self.state.compare_exchange(
            State::Connecting as u8,
            State::Ready as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// So much is answered, or never will be.
    fn release(&self, weight: usize) {
        if weight > 0 {
            self.load.fetch_sub(weight, Ordering::Relaxed);
            self.room.add_permits(weight);
        }
    }

    fn set_heard(&self, now: Instant, excused: Duration) {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let heard = nanos(now.saturating_duration_since(self.begun)).max(1);
        self.heard.store(heard, Ordering::Relaxed);
        self.excused.store(nanos(excused), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Encoding may not panic; if it did, half a command would be the worst of it, and the
        // server would refuse that.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller's claim to a response. Dropping it withdraws the request, if it is not on its way
/// to the server yet.
#[derive(Debug)]
pub(crate) struct Waiter {
    response: oneshot::Receiver<Result<Response, Unanswered>>,
    connection: Arc<Connection>,
    id: u64,
}

impl Waiter {
    pub(crate) async fn response(mut self) -> Result<Response, Unanswered> {
        // The driver tells everybody before it ends, unless its runtime is shut down.
        let gone = |_| {
            Err(Unanswered {
                failure: Failure::Lost("the runtime was shut down".into()),
                was_sent: true,
            })
        };
        (&mut self.response).await.unwrap_or_else(gone)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.response.is_terminated() {
            return;
        }
        let withdrawn = self.connection.lock().queue.withdraw(self.id);
        if let Some(request) = withdrawn {
            self.connection.release(request.weight);
        }
    }
}
