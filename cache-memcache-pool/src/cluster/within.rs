//! Time limits that pauses of this process do not use up.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::later::later;

/// More pauses than there are network round trips to wait for.
const PAUSES: usize = 12;

/// Timers may be a little late.
const LATE: Duration = Duration::from_millis(10);

/// Waits for `work` no longer than `limit`. A pause does not count: some programs run their runtime
/// only during calls, and everything that takes longer than a call would always be too late.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut left) = (pin!(work), limit);
    for _ in 0..=PAUSES {
        let due = later(Instant::now(), left);
        if let Ok(done) = timeout_at(due, work.as_mut()).await {
            return Some(done);
        }
        if due.elapsed() < LATE.max(limit / 4) {
            break;
        }
        left = limit / 4;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::future::{Future, pending};
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use tokio::time::{advance, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    /// Polls `work` once, after `time` in which nothing ran.
    async fn poll_after<T>(
        time: Duration,
        work: Pin<&mut impl Future<Output = Option<T>>>,
    ) -> Poll<Option<T>> {
        advance(time).await;
        work.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn work_has_exactly_its_limit() {
        let begun = Instant::now();
        assert_eq!(within(LIMIT, pending::<()>()).await, None);
        assert_eq!(begun.elapsed(), LIMIT);
        let almost = Duration::from_millis(999);
        assert_eq!(within(LIMIT, sleep(almost)).await, Some(()));
        assert_eq!(within(Duration::MAX, sleep(LIMIT)).await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_a_quarter_of_the_limit_is_left() {
        for (rest, is_done) in [(249, true), (251, false)] {
            let work = sleep(LIMIT * 2 + Duration::from_millis(rest));
            let mut work = pin!(within(LIMIT, work));
            assert_eq!(
                poll_after(Duration::ZERO, work.as_mut()).await,
                Poll::Pending
            );
            assert_eq!(poll_after(LIMIT * 2, work.as_mut()).await, Poll::Pending);
            assert_eq!(work.await.is_some(), is_done, "{rest} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_a_little_late_is_no_pause() {
        for (limit, late, is_pause) in [
            (LIMIT, LIMIT / 5, false),
            (LIMIT, LIMIT / 4, true),
            (Duration::from_millis(4), Duration::from_millis(9), false),
            (Duration::from_millis(4), Duration::from_millis(11), true),
        ] {
            let mut work = pin!(within(limit, pending::<()>()));
            assert_eq!(
                poll_after(Duration::ZERO, work.as_mut()).await,
                Poll::Pending
            );
            let polled = poll_after(limit + late, work.as_mut()).await;
            assert_eq!(polled.is_pending(), is_pause, "{late:?} of {limit:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_do_not_go_on_forever() {
        let mut work = pin!(within(LIMIT, pending::<()>()));
        assert_eq!(
            poll_after(Duration::ZERO, work.as_mut()).await,
            Poll::Pending
        );
        for _ in 0..PAUSES {
            assert_eq!(poll_after(LIMIT * 2, work.as_mut()).await, Poll::Pending);
        }
        assert_eq!(
            poll_after(LIMIT * 2, work.as_mut()).await,
            Poll::Ready(None)
        );
    }
}
