//! [`Turns`]: the running driver of a connection, polled by its task, and in its place by a caller
//! that queues a request while the connection is idle: that saves switching to the task for the
//! write.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Sleep, sleep_until};

use super::Failure;
use super::driver::{Driver, End, Ended, PANICKED};
use super::stream::Stream;

/// Drives a connection over `stream` until it ends. `suspect` is called when the server has been
/// silent for a while.
pub(crate) async fn drive(
    mut driver: Driver,
    stream: Stream,
    suspect: impl Fn(),
) -> (Driver, Ended) {
    let connection = Arc::clone(driver.connection());
    let mut timer = pin!(sleep_until(driver.start()));
    let task = Task(&connection.turns);
    task.0.begin(Running {
        driver,
        stream,
        end: None,
    });
    let (mut driver, why) = poll_fn(|cx| task.0.poll(timer.as_mut(), &suspect, cx)).await;
    let ended = driver.ended(why);
    (driver, ended)
}

/// The task of a driver that runs. Dropping it ends the driver.
struct Task<'t>(&'t Turns);

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Running {
    driver: Driver,
    stream: Stream,
    /// Why it ended, until its task learns it.
    end: Option<End>,
}

/// A place for the driver while it runs.
#[derive(Default)]
pub(super) struct Turns {
    running: Mutex<Option<Running>>,
    /// The task is gone.
    is_over: AtomicBool,
}

impl Turns {
    fn begin(&self, running: Running) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    /// Polls for the task of the driver, which gets it back at its end.
    fn poll(
        &self,
        timer: Pin<&mut Sleep>,
        suspect: &impl Fn(),
        cx: &mut Context<'_>,
    ) -> Poll<(Driver, End)> {
        let mut place = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the end of the task takes it away, after the last poll.
        let Some(running) = place.as_mut() else {
            return Poll::Pending;
        };
        let (driver, stream) = (&mut running.driver, &mut running.stream);
        let end = match running.end.take() {
            Some(end) => end,
            None => ready!(driver.poll(stream, timer, suspect, cx)),
        };
        match place.take() {
            Some(over) => Poll::Ready((over.driver, end)),
            None => Poll::Pending,
        }
    }

    /// Reads and writes in place of the driver's task, whose waker this is, unless somebody else
    /// does: then the task is woken. Time is left to the task.
    pub(super) fn poll_for(&self, task: &Waker) {
        // A caller that has used up its budget would not get to the socket.
        if !has_budget_remaining() {
            return task.wake_by_ref();
        }
        let Ok(mut place) = self.running.try_lock() else {
            return task.wake_by_ref();
        };
        let Some(running) = place.as_mut() else {
            return task.wake_by_ref();
        };
        // A panic must end the connection only. It is not the server's fault.
        let (driver, stream) = (&mut running.driver, &mut running.stream);
        let poll = || driver.poll_for(stream, &mut Context::from_waker(task));
        let panicked = |_| Err(End::Closed(Failure::Lost(PANICKED.into())));
        if let Err(end) = catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(panicked) {
            running.end = Some(end);
            task.wake_by_ref();
        } else if running.driver.due_before_timer().is_some() {
            task.wake_by_ref();
        }
        drop(place);
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
            Err(TryLockError::Poisoned(running)) => running.into_inner().take(),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}
