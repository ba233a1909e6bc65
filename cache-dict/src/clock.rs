//! [`Clock`], the source of a backend's time, and [`ManualClock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::system_clock::SystemClock;

/// A source of time that replaces the system's monotonic clock: a closure, or a [`ManualClock`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use cache_dict::DictBackend;
///
/// // The time since the program started.
/// let start = Instant::now();
/// let cache: DictBackend<u64> = DictBackend::builder()
///     .expiration_time(Duration::from_secs(60))
///     .clock(move || start.elapsed())
///     .build()?;
/// # Ok::<(), cache_core::Error>(())
/// ```
pub trait Clock: Send + Sync {
    /// Returns the time since a fixed moment, with nanosecond precision, up to 584 years.
    ///
    /// The backend calls it without holding a lock, so the clock may use the backend itself.
    ///
    /// If the clock steps back, the backend's time stops until the clock reaches its latest time
    /// again, so an expired value remains expired.
    fn now(&self) -> Duration;
}

impl<F: Fn() -> Duration + Send + Sync> Clock for F {
    fn now(&self) -> Duration {
        self()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.now()
    }
}

/// A clock that advances only when told to, so that tests of expiry need not sleep.
///
/// Clones share one time. It affects expiry only: [`CachedValue::age`] uses the wall clock.
///
/// ```
/// use std::time::Duration;
/// use cache_core::CachedValue;
/// use cache_dict::{DictBackend, ManualClock};
///
/// let clock = ManualClock::new();
/// let cache = DictBackend::builder()
///     .expiration_time(Duration::from_secs(60))
///     .clock(clock.clone())
///     .build()?;
/// cache.set_sync("key", CachedValue::new(1));
/// clock.advance(Duration::from_secs(59));
/// assert!(cache.get_sync("key").is_some());
/// clock.advance(Duration::from_secs(1));
/// assert!(cache.get_sync("key").is_none());
/// # Ok::<(), cache_core::Error>(())
/// ```
///
/// [`CachedValue::age`]: cache_core::CachedValue::age
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Creates a clock that is at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Advances the clock. It stops just below 584 years.
    pub fn advance(&self, by: Duration) {
        let by = nanos(by);
        let moved = |now: u64| Some(now.saturating_add(by).min(NEVER - 1));
        // The closure always returns `Some`, so this cannot fail.
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
    }

    /// Sets the clock, which may step it back.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cache_dict::ManualClock;
    /// let clock = ManualClock::new();
    /// clock.set(Duration::from_secs(5));
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!(clock.now(), Duration::from_secs(6));
    /// ```
    pub fn set(&self, to: Duration) {
        self.0.store(nanos(to).min(NEVER - 1), Ordering::SeqCst);
    }

    /// Returns the time of the clock.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// The deadline of entries that do not expire. No clock reaches it.
pub(crate) const NEVER: u64 = u64::MAX;

/// The most that a coarse clock may lag: ten ticks of the slowest timer. A deadline further away
/// is in the future.
const SLACK: u64 = 100_000_000;

/// The usual lag at most: one tick of the slowest timer.
const TICK: u64 = 10_000_000;

/// A clock in nanoseconds since some moment, which never decreases.
pub(crate) enum Time {
    System(SystemClock),
    Of {
        clock: Arc<dyn Clock>,
        /// The latest time read.
        seen: AtomicU64,
    },
}

impl Time {
    /// The system's monotonic clock, and its coarse clock if enabled and available.
    pub(crate) fn system(coarse: bool) -> Self {
        Self::System(SystemClock::new(coarse))
    }

    pub(crate) fn of(clock: Arc<dyn Clock>) -> Self {
        Self::Of {
            clock,
            seen: AtomicU64::new(0),
        }
    }

    /// The time to the nanosecond. It may call the user's clock, so no lock may be held.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::System(system) => system.now(),
            Self::Of { clock, seen } => {
                let now = nanos(clock.now()).min(NEVER - 1);
                seen.fetch_max(now, Ordering::SeqCst).max(now)
            }
        }
    }

    /// The time, or a slightly earlier one if that is cheaper: for removing expired entries. No
    /// lock may be held.
    #[inline]
    pub(crate) fn recent(&self) -> u64 {
        match self {
            Self::System(system) => system.coarse().unwrap_or_else(|| system.now()),
            Self::Of { .. } => self.now(),
        }
    }

    /// For a call that may need the time while it holds a lock.
    #[inline]
    pub(crate) fn reading(&self) -> Reading<'_> {
        match self {
            Self::System(system) => Reading {
                system: Some(system),
                future: NEVER,
                now: NEVER,
            },
            // The user's clock may use the backend, so it is read before a lock is taken.
            Self::Of { .. } => {
                let now = self.now();
                Reading {
                    system: None,
                    future: now,
                    now,
                }
            }
        }
    }
}

/// The time of one call, read once, when it is first needed.
pub(crate) struct Reading<'t> {
    /// `None` once the exact clock was read.
    system: Option<&'t SystemClock>,
    /// Deadlines after this are in the future; all others are not, once the exact clock was read.
    future: u64,
    /// The time, not too early unless a coarse clock lags more than usual.
    now: u64,
}

impl Reading<'_> {
    /// The time left until `deadline`, or `None` if it has been reached.
    #[inline]
    pub(crate) fn until(&mut self, deadline: u64) -> Option<u64> {
        if deadline > self.future || self.reads_until(deadline) {
            return Some(deadline.saturating_sub(self.now));
        }
        None
    }

    /// Reads the clocks, as far as it is necessary to know whether `deadline` is in the future.
    #[inline]
    fn reads_until(&mut self, deadline: u64) -> bool {
        let Some(system) = self.system else {
            return false;
        };
        if self.now == NEVER
            && let Some(coarse) = system.coarse()
        {
            self.see_coarse(coarse);
            if deadline > self.future {
                return true;
            }
        }
        self.system = None;
        self.now = system.now();
        self.future = self.now;
        deadline > self.future
    }

    fn see_coarse(&mut self, coarse: u64) {
        self.future = coarse.saturating_add(SLACK);
        self.now = coarse.saturating_add(TICK);
    }
}

/// The moment `ttl` after `now`; [`NEVER`] if that is beyond the clock's range.
pub(crate) fn deadline(now: u64, ttl: Duration) -> u64 {
    u64::try_from(ttl.as_nanos())
        .ok()
        .and_then(|ttl| now.checked_add(ttl))
        .unwrap_or(NEVER)
}

/// In 64 bits: 584 years.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_back_does_not_move_time() {
        let manual = ManualClock::new();
        let clock = Time::of(Arc::new(manual.clone()));
        manual.set(Duration::from_nanos(10));
        assert_eq!(clock.now(), 10);
        manual.set(Duration::from_nanos(3));
        assert_eq!(clock.now(), 10);
        manual.advance(Duration::from_nanos(8));
        assert_eq!(clock.now(), 11);
    }

    #[test]
    fn no_clock_reaches_never() {
        let manual = ManualClock::new();
        let clock = Time::of(Arc::new(manual.clone()));
        manual.set(Duration::MAX);
        manual.advance(Duration::MAX);
        assert!(clock.now() < NEVER);
        assert_eq!(deadline(clock.now(), Duration::from_secs(1)), NEVER);
        assert_eq!(deadline(0, Duration::MAX), NEVER);
        assert_eq!(deadline(1, Duration::from_nanos(2)), 3);
    }

    /// The time left of a value that is read `left` before its deadline, by a coarse clock that
    /// lags by `late`.
    fn served_by_coarse(left: i64, late: u64) -> Option<u64> {
        let now = 3_600_000_000_000_u64;
        let mut reading = Reading {
            system: None,
            future: NEVER,
            now: NEVER,
        };
        reading.see_coarse(now - late);
        reading.until(now.saturating_add_signed(left))
    }

    #[test]
    fn a_coarse_clock_serves_nothing_at_or_after_its_deadline() {
        for late in [0, 1, TICK, TICK + 1, SLACK - 1, SLACK] {
            for left in [0, -1, -50_000_000, -3_000_000_000] {
                assert_eq!(served_by_coarse(left, late), None, "{left} {late}");
            }
        }
        // It is used for deadlines that are far away.
        assert!(served_by_coarse(150_000_000, 0).is_some());
    }

    #[test]
    fn the_time_left_by_a_coarse_clock_is_not_too_long() {
        for late in [0, 4_000_000, TICK] {
            let left = 3_000_000_000_u64;
            let returned = served_by_coarse(left.cast_signed(), late).unwrap();
            assert!((left - TICK..=left).contains(&returned), "{returned}");
        }
    }

    #[test]
    fn the_coarse_time_of_the_system_is_never_ahead() {
        for coarse in [false, true] {
            let time = Time::system(coarse);
            let mut last = 0;
            for _ in 0..10_000 {
                let recent = time.recent();
                let now = time.now();
                assert!(recent <= now && last <= recent);
                last = recent;
            }
        }
    }

    #[test]
    fn a_custom_clock_is_read_once_at_the_start_of_a_call() {
        let manual = ManualClock::new();
        let clock = Time::of(Arc::new(manual.clone()));
        let mut reading = clock.reading();
        manual.set(Duration::from_nanos(10));
        assert_eq!(reading.until(5), Some(5));
        assert_eq!(clock.reading().until(5), None);
        assert_eq!(clock.reading().until(10), None);
        assert_eq!(clock.reading().until(11), Some(1));
    }
}
