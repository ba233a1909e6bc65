//! [`Connection`]: a pipelined connection, as callers see it: a queue that its driver empties.

mod driver;
mod pipeline;
#[cfg(test)]
mod properties;
mod queue;
#[cfg(test)]
mod recorded;
mod slots;
mod stream;
mod turns;

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cache_core::{Error, Result};
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(crate) use driver::{Driver, End, Ended};
pub(crate) use stream::{ConnectError, Stream, cannot_connect};
pub(crate) use turns::drive;

use crate::later::later;
use crate::protocol::{Dialect, Expected, Outgoing, Response};
use queue::Queue;
use slots::Slots;
use turns::Turns;

/// Why a request has no response.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The connection ended; the server may be well.
    Lost(Arc<str>),
    /// The server is down, for this reason.
    Down(Error),
    /// A retry would fail as well.
    Final(Error),
    /// This request was not answered in time, and the server is not known to be down.
    TooSlow,
}

/// A request that has no response.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) failure: Failure,
    /// Part of it may have been written, so the server may have executed it.
    pub(crate) was_sent: bool,
}

/// The slot in which a caller finds its response.
pub(crate) type Caller = usize;

/// A request.
pub(crate) struct Exchange<F> {
    /// Appends the request, and returns the expected response.
    pub(crate) encode: F,
    /// 1 for a small one.
    pub(crate) weight: usize,
    /// The first reply is the mark of the server's last return, which the caller did not request.
    pub(crate) has_mark: bool,
}

/// Counters of the drivers, for all connections to a server.
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
    pub(crate) fn has_large_lately(&self) -> bool {
        const LATELY: u64 = 10_000;
        let large = self.large.load(Ordering::Relaxed);
        if large == 0 {
            return false;
        }
        let is_lately = self.millis(Instant::now()).saturating_sub(large) < LATELY;
        if !is_lately {
            // Calls need not read the clock again.
            let (order, other) = (Ordering::Relaxed, Ordering::Relaxed);
            let _ = self.large.compare_exchange(large, 0, order, other);
        }
        is_lately
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
    /// How long the first attempt of a call may take.
    patience: Duration,
    shared: Mutex<Shared>,
    turns: Turns,
    /// The weight of all unanswered requests. Changed only under the lock.
    load: AtomicUsize,
    /// Callers acquire the weight of a request in permits before they queue it.
    room: Arc<Semaphore>,
    state: AtomicU8,
    /// When the server last sent something, in nanoseconds since `begun`; 0: never.
    heard: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    queue: Queue<Caller>,
    callers: Slots<Result<Response, Unanswered>>,
    driver: Option<Waker>,
    /// The driver is woken when this many requests are queued.
    wake_at: usize,
    /// Nothing is in flight, and requests come one at a time.
    is_idle: bool,
    /// The next caller writes its own request if the connection is idle. Otherwise that is only
    /// worthwhile if it is the only caller.
    is_current_thread: bool,
    /// The time of the last sign of life, or of the first request after idling.
    recent: Instant,
    /// See [`Pipeline::excused`](pipeline::Pipeline::excused).
    excused: Duration,
    /// The deadline of a call that begins at `recent`, on the connection's clock.
    due: Instant,
    closed: Option<Failure>,
}

impl Shared {
    fn set_recent(&mut self, now: Instant, patience: Duration) {
        self.recent = now;
        self.due = self.excuse(later(now, patience));
    }

    /// A deadline on the connection's clock.
    fn excuse(&self, deadline: Instant) -> Instant {
        deadline.checked_sub(self.excused).unwrap_or(deadline)
    }

    /// Wakes the driver once `enough` requests are queued or the connection is closed.
    fn wake(&mut self, cx: &Context<'_>, enough: usize) {
        self.wake_at = enough;
        self.is_idle = false;
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
    pub(crate) fn new(dialect: Dialect, patience: Duration, room: Arc<Semaphore>) -> Self {
        let begun = Instant::now();
        Self {
            begun,
            patience,
            shared: Mutex::new(Shared {
                queue: Queue::new(dialect),
                callers: Slots::new(),
                driver: None,
                wake_at: 1,
                is_idle: false,
                is_current_thread: false,
                recent: begun,
                excused: Duration::ZERO,
                due: later(begun, patience),
                closed: None,
            }),
            turns: Turns::default(),
            load: AtomicUsize::new(0),
            room,
            state: AtomicU8::new(State::Connecting as u8),
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

    /// Why it is closed.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.lock().closed.clone()
    }

    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Whether the server has sent something since `since`.
    pub(crate) fn has_heard_since(&self, since: Instant) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        heard > 0 && self.begun + Duration::from_nanos(heard) > since
    }

    /// Queues a request for which there is room. The caller waits for its response until
    /// `deadline`, or at most for the patience of the connection; the response wakes `waker` unless
    /// the [`Waiter`] was polled with another one. `is_alone`: no other request is in flight. `None`
    /// if the connection is closed.
    #[inline]
    pub(crate) fn submit<F>(
        self: &Arc<Self>,
        exchange: &Exchange<F>,
        weight: usize,
        deadline: Option<Instant>,
        waker: Option<&Waker>,
        is_alone: bool,
    ) -> Result<Option<Submitted>>
    where
        F: Fn(&mut Outgoing) -> Result<Expected>,
    {
        let mut shared = self.lock();
        if shared.closed.is_some() {
            return Ok(None);
        }
        // While requests are in flight, the time of the last sign of life saves reading the clock.
        // It is at most `socket_timeout` ago: otherwise the connection would be silent, and end.
        if self.load() == 0 {
            shared.set_recent(Instant::now(), self.patience);
        }
        let begun = shared.recent;
        let due = deadline.map_or(shared.due, |deadline| shared.excuse(deadline));
        let slot = shared.callers.acquire(waker);
        let (encode, has_mark) = (&exchange.encode, exchange.has_mark);
        let id = match shared.queue.push(encode, has_mark, slot, weight, due) {
            Ok(id) => id,
            Err(error) => {
                let _ = shared.callers.abandon(slot, true);
                return Err(error);
            }
        };
        self.load.store(self.load() + weight, Ordering::Relaxed);
        let is_enough = shared.queue.len() >= shared.wake_at;
        let mut driver = if is_enough {
            shared.driver.take()
        } else {
            None
        };
        let may_write = shared.is_idle && (is_alone || shared.is_current_thread);
        drop(shared);
        if !may_write && let Some(driver) = driver.take() {
            driver.wake();
        }
        Ok(Some(Submitted {
            slot,
            id,
            begun,
            driver,
        }))
    }

    /// Writes what is queued, if the connection was idle. Call it without holding any lock.
    #[inline]
    pub(crate) fn start(self: Arc<Self>, submitted: Submitted) -> Queued {
        if let Some(driver) = submitted.driver {
            self.turns.poll_for(&driver);
        }
        Queued {
            waiter: Waiter {
                connection: self,
                slot: submitted.slot,
                id: submitted.id,
                is_over: false,
            },
            begun: submitted.begun,
        }
    }

    /// Closes the connection: its driver fails all waiting calls with `failure`.
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

    /// Marks the connection as ready, unless it was closed meanwhile.
    pub(crate) fn set_ready(&self) {
        let _ = self.state.compare_exchange(
            State::Connecting as u8,
            State::Ready as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// Unlocks, and releases the weight of requests that were answered or failed.
    fn release(&self, shared: MutexGuard<'_, Shared>, weight: usize) {
        self.load.store(self.load() - weight, Ordering::Relaxed);
        drop(shared);
        if weight > 0 {
            self.room.add_permits(weight);
        }
    }

    pub(crate) fn set_heard(&self, now: Instant, excused: Duration) {
        let since = now.saturating_duration_since(self.begun).as_nanos();
        let nanos = u64::try_from(since).unwrap_or(u64::MAX);
        self.heard.store(nanos.max(1), Ordering::Relaxed);
        let mut shared = self.lock();
        shared.excused = excused;
        shared.set_recent(now, self.patience);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Encoding does not panic; if it did, the worst outcome would be an incomplete command,
        // which the server would refuse.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) waiter: Waiter,
    /// When its call began, approximately, if this is the first attempt.
    pub(crate) begun: Instant,
}

/// A request that was queued, to be passed to [`Connection::start`].
#[must_use]
#[derive(Debug)]
pub(crate) struct Submitted {
    slot: Caller,
    id: u64,
    begun: Instant,
    /// The task of a connection that was idle.
    driver: Option<Waker>,
}

/// A caller that waits for a response. Dropping it withdraws the request, unless part of it was
/// written.
#[derive(Debug)]
pub(crate) struct Waiter {
    connection: Arc<Connection>,
    slot: Caller,
    id: u64,
    is_over: bool,
}

impl Future for Waiter {
    type Output = Result<Response, Unanswered>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Dropped after the lock is released.
        let mut stale = None;
        let mut shared = self.connection.lock();
        let response = shared.callers.poll(self.slot, cx.waker(), &mut stale);
        drop(shared);
        self.is_over = response.is_ready();
        response
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut shared = self.connection.lock();
        let withdrawn = shared.queue.withdraw(self.id);
        let unused = shared.callers.abandon(self.slot, withdrawn.is_some());
        let weight = withdrawn.as_ref().map_or(0, |request| request.weight);
        self.connection.release(shared, weight);
        drop(unused);
    }
}
