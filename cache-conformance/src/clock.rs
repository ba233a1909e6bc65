//! [`ManualClock`], time that moves when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A clock that stands still until the suite advances it. Clones tell the same time.
///
/// ```
/// use std::time::Duration;
/// use cache_conformance::ManualClock;
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now() - before, Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    start: Instant,
    system_start: SystemTime,
    /// Nanoseconds since the start.
    elapsed: Arc<AtomicU64>,
}

impl ManualClock {
    /// Starts at the present.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            system_start: SystemTime::now(),
            elapsed: Arc::default(),
        }
    }

    /// The time, for deadlines.
    pub fn now(&self) -> Instant {
        self.start + self.elapsed()
    }

    /// The time, for backends that write it down as a date.
    pub fn system_now(&self) -> SystemTime {
        self.system_start + self.elapsed()
    }

    /// How far the clock was advanced since it was made.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed.load(Ordering::SeqCst))
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}
