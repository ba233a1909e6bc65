//! [`Turns`]: the running driver of a connection, polled by its task, and in its place by a caller
//! that queues a request while the connection is idle: that saves switching to the task for the
//! write.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::task::coop::has_budget_remaining;
use tokio::time::Sleep;

use super::Failure;
use super::driver::{Driver, End, PANICKED};
use super::stream::Stream;

/// A driver with all that it needs.
pub(super) struct Running {
    pub(super) driver: Driver,
    pub(super) stream: Stream,
    pub(super) timer: Pin<Box<Sleep>>,
    /// Called when the server has been silent for a while.
    pub(super) suspect: Box<dyn Fn() + Send>,
    /// Why it ended, until its task learns it.
    pub(super) end: Option<End>,
}

impl Running {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self.end.take() {
            Some(end) => Poll::Ready(end),
            None => self
                .driver
                .poll(&mut self.stream, self.timer.as_mut(), &self.suspect, cx),
        }
    }
}

/// A place for the driver while it runs.
#[derive(Default)]
pub(super) struct Turns {
    running: Mutex<Option<Running>>,
    /// The task is gone.
    is_over: AtomicBool,
}

impl Turns {
    pub(super) fn begin(&self, running: Running) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    /// Polls for the task of the driver, which gets it back at its end.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<(Driver, End)>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.as_mut().map(|running| running.poll(cx)) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(end)) => Poll::Ready(running.take().map(|over| (over.driver, end))),
            None => Poll::Ready(None),
        }
    }

    /// Polls in place of the driver's task, whose waker this is, unless somebody else does: then
    /// the task is woken.
    pub(super) fn poll_for(&self, task: &Waker) {
        // A caller that has used up its budget would not get to the socket.
        if !has_budget_remaining() {
            return task.wake_by_ref();
        }
        let Ok(mut running) = self.running.try_lock() else {
            return task.wake_by_ref();
        };
        let Some(driven) = running.as_mut() else {
            return task.wake_by_ref();
        };
        // A panic must end the connection only. It is not the server's fault.
        let poll = || driven.poll(&mut Context::from_waker(task));
        let polled = catch_unwind(AssertUnwindSafe(poll));
        let panicked = |_| Poll::Ready(End::Closed(Failure::Lost(PANICKED.into())));
        if let Poll::Ready(end) = polled.unwrap_or_else(panicked) {
            driven.end = Some(end);
            task.wake_by_ref();
        }
        drop(running);
        // Its counterpart is in `end`, so that one of the two drops the driver.
        if self.is_over.fetch_or(false, Ordering::AcqRel) {
            drop(self.take());
        }
    }

    /// Drops the driver, if it still runs, since its task is dropped. Never waits: a wakeup from
    /// within [`poll_for`](Self::poll_for) drops the task if its runtime was shut down.
    pub(super) fn end(&self) {
        self.is_over.fetch_or(true, Ordering::AcqRel);
        drop(self.take());
    }

    /// The driver, unless it is polled at this moment.
    fn take(&self) -> Option<Running> {
        match self.running.try_lock() {
            Ok(mut running) => running.take(),
            Err(std::sync::TryLockError::Poisoned(running)) => running.into_inner().take(),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}
