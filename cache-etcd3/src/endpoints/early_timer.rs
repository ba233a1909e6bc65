//! [`EarlyTimer`]: makes the timeouts of requests cheaper.
//!
//! When a timer is added that ends before all others, Tokio wakes the thread that waits for I/O.
//! The timeout of a single request is such a timer, so each request would wake a second thread. A
//! timer that ends earlier still, registered while requests are made, prevents that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// Shorter than the time after which a round is stalled and than the timeout of an attempt.
const PERIOD: Duration = Duration::from_millis(50);

/// A timer that runs while requests are made.
#[derive(Debug, Default)]
pub(super) struct EarlyTimer {
    is_used: AtomicBool,
    is_running: AtomicBool,
}

impl EarlyTimer {
    /// A request is made. Returns whether [`run`](Self::run) has to be spawned.
    pub(super) fn begin(&self) -> bool {
        self.is_used.store(true, Ordering::Relaxed);
        !self.is_running.load(Ordering::Relaxed) && !self.is_running.swap(true, Ordering::Relaxed)
    }

    /// Returns when no request has been made for a while.
    pub(super) async fn run(&self) {
        let _running = Running(self);
        while self.is_used.swap(false, Ordering::Relaxed) {
            sleep(PERIOD).await;
        }
    }
}

/// Dropped if its task is aborted, too.
struct Running<'a>(&'a EarlyTimer);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_runs_once_and_until_requests_cease() {
        let timer = EarlyTimer::default();
        let began = Instant::now();
        assert!(timer.begin());
        assert!(!timer.begin(), "it is running");
        let requests = async {
            sleep(PERIOD / 2).await;
            for _ in 0..9 {
                timer.begin();
                sleep(PERIOD).await;
            }
        };
        tokio::join!(timer.run(), requests);
        assert_eq!(began.elapsed(), 10 * PERIOD);
        assert!(timer.begin(), "it runs again");
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_started_again_after_it_was_aborted() {
        let timer = EarlyTimer::default();
        assert!(timer.begin());
        let aborted = tokio::time::timeout(PERIOD / 2, timer.run()).await;
        assert!(aborted.is_err());
        assert!(timer.begin());
    }
}
