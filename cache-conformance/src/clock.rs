//! [`ManualClock`], a clock that the suite advances.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A clock that moves only when the suite advances it. Clones share the time.
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
    /// The sum of the steps of the wall clock, in nanoseconds.
    stepped: Arc<AtomicI64>,
}

impl ManualClock {
    /// Creates a clock that shows the current time.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            system_start: SystemTime::now(),
            elapsed: Arc::default(),
            stepped: Arc::default(),
        }
    }

    /// Returns the time of the monotonic clock, for deadlines.
    pub fn now(&self) -> Instant {
        self.start + self.elapsed()
    }

    /// Returns the time of the wall clock, for backends that store dates. It advances with
    /// [`now`](Self::now), and also has [steps](Self::step_wall_clock).
    pub fn system_now(&self) -> SystemTime {
        let stepped = self.stepped.load(Ordering::SeqCst);
        let by = Duration::from_nanos(stepped.unsigned_abs());
        let now = self.system_start + self.elapsed();
        if stepped < 0 { now - by } else { now + by }
    }

    /// Steps the wall clock forward, or back if `seconds` is negative, as an administrator or a
    /// time server may do. It does not affect [`now`](Self::now).
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_conformance::ManualClock;
    ///
    /// let clock = ManualClock::new();
    /// let (now, date) = (clock.now(), clock.system_now());
    /// clock.step_wall_clock(-3600);
    /// assert_eq!(clock.now(), now);
    /// assert_eq!(clock.system_now(), date - Duration::from_secs(3600));
    /// ```
    pub fn step_wall_clock(&self, seconds: i64) {
        let nanos = seconds.saturating_mul(1_000_000_000);
        self.stepped.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Returns how far the clock has been advanced since it was created.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed.load(Ordering::SeqCst))
    }

    /// Advances the clock.
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
