//! One pipelined connection, as callers see it: a queue that its driver empties.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

use cache_core::{ErrorKind, Result};
use tokio::runtime::Id;
use tokio::sync::oneshot;

use crate::answer::{Answer, Expect};
use crate::command::Outgoing;
use crate::health::Death;

/// Why an exchange has no answer.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The connection ended; the server may be well.
    Lost(Arc<str>),
    /// The server is dead.
    Dead(Arc<Death>),
    /// Another attempt would end alike.
    Final(ErrorKind, Arc<str>),
}

pub(crate) type Waiter = oneshot::Receiver<Result<Answer, Failure>>;

/// An exchange that waits for its answer.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) expect: Expect,
    /// Sending fails when the caller is gone, and then the answer is nobody's.
    pub(crate) caller: oneshot::Sender<Result<Answer, Failure>>,
    pub(crate) weight: usize,
    /// Set by the driver when it takes the slot over.
    pub(crate) deadline: Option<Instant>,
}

/// What a caller wants done: how to write it down, and how much work it is.
pub(crate) struct Exchange<F> {
    /// Appends the request, and says what to expect for it.
    pub(crate) encode: F,
    /// 1 for a small one.
    pub(crate) weight: usize,
}

#[derive(Debug)]
pub(crate) struct Connection {
    /// Where its driver runs. Callers elsewhere do not use it: they would wait for as long as
    /// that runtime is not run, which is not theirs to say.
    runtime: Id,
    queue: Mutex<Queue>,
    /// The weight of all that is not answered.
    load: AtomicUsize,
    state: AtomicU8,
}

#[derive(Debug, Default)]
struct Queue {
    out: Outgoing,
    slots: Vec<Slot>,
    driver: Option<Waker>,
    /// The driver wants to be woken when so many slots are there.
    wake_at: usize,
    closed: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    Ready,
    Closed,
}

impl Connection {
    pub(crate) fn new(runtime: Id) -> Self {
        Self {
            runtime,
            queue: Mutex::default(),
            load: AtomicUsize::new(0),
            state: AtomicU8::new(State::Connecting as u8),
        }
    }

    pub(crate) fn runtime(&self) -> Id {
        self.runtime
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

    /// Queues an exchange; `None` if the connection is closed.
    pub(crate) fn submit<F>(&self, exchange: &Exchange<F>) -> Result<Option<Waiter>>
    where
        F: Fn(&mut Outgoing) -> Result<Expect>,
    {
        let (caller, waiter) = oneshot::channel();
        let mut queue = self.lock();
        if queue.closed.is_some() {
            return Ok(None);
        }
        let expect = (exchange.encode)(&mut queue.out)?;
        queue.slots.push(Slot {
            expect,
            caller,
            weight: exchange.weight,
            deadline: None,
        });
        self.load.fetch_add(exchange.weight, Ordering::Relaxed);
        let driver = if queue.slots.len() >= queue.wake_at {
            queue.driver.take()
        } else {
            None
        };
        drop(queue);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(Some(waiter))
    }

    /// Ends the connection: the driver tells `failure` to all who wait.
    pub(crate) fn close(&self, failure: Failure) {
        self.state.store(State::Closed as u8, Ordering::Release);
        let mut queue = self.lock();
        queue.closed.get_or_insert(failure);
        let driver = queue.driver.take();
        drop(queue);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// For the driver: the connection can be used.
    pub(crate) fn is_now_ready(&self) {
        // Unless it was closed meanwhile.
        let _ = self.state.compare_exchange(
            State::Connecting as u8,
            State::Ready as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// For the driver: why to end, if anybody wants it to.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Option<Failure> {
        let mut queue = self.lock();
        if queue.closed.is_none() {
            queue.driver = Some(cx.waker().clone());
            queue.wake_at = usize::MAX;
        }
        queue.closed.clone()
    }

    /// For the driver: takes what is queued, once there are `at_least` slots. `Ok(false)`:
    /// there are fewer, and the driver will be woken.
    pub(crate) fn take(
        &self,
        at_least: usize,
        cx: &mut Context<'_>,
        out: &mut Outgoing,
        slots: &mut Vec<Slot>,
    ) -> Result<bool, Failure> {
        let mut queue = self.lock();
        if let Some(failure) = &queue.closed {
            return Err(failure.clone());
        }
        if queue.slots.len() < at_least {
            queue.driver = Some(cx.waker().clone());
            queue.wake_at = at_least;
            return Ok(false);
        }
        queue.out.move_to(out);
        std::mem::swap(&mut queue.slots, slots);
        Ok(true)
    }

    /// For the driver: how many slots are queued.
    pub(crate) fn queued(&self) -> usize {
        self.lock().slots.len()
    }

    /// For the driver: so much is answered, or never will be.
    pub(crate) fn is_done(&self, weight: usize) {
        self.load.fetch_sub(weight, Ordering::Relaxed);
    }

    /// For the driver: closes the connection if nothing is queued. Whether it did.
    pub(crate) fn close_if_unused(&self, failure: Failure) -> bool {
        let mut queue = self.lock();
        if !queue.slots.is_empty() {
            return false;
        }
        self.state.store(State::Closed as u8, Ordering::Release);
        queue.closed.get_or_insert(failure);
        true
    }

    /// For the driver, when it ends: lets nothing more in, and takes what never left.
    pub(crate) fn end(&self, failure: Failure) -> Vec<Slot> {
        self.state.store(State::Closed as u8, Ordering::Release);
        let mut queue = self.lock();
        queue.closed.get_or_insert(failure);
        queue.out = Outgoing::default();
        std::mem::take(&mut queue.slots)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Encoding may not panic; if it did, half a command would be the worst of it, and the
        // server would refuse that.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
