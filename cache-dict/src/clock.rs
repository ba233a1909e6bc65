//! [`Clock`], what a backend may read the time from, and [`ManualClock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::system_clock::SystemClock;

/// What a backend can read the time from in place of the system's monotonic clock. A closure
/// will do, and so will a [`ManualClock`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use cache_dict::DictBackend;
///
/// // A clock of one's own.
/// let start = Instant::now();
/// let cache: DictBackend<u64> = DictBackend::builder()
///     .expiration_time(Duration::from_secs(60))
///     .clock(move || start.elapsed())
///     .build()?;
/// # Ok::<(), cache_core::Error>(())
/// ```
pub trait Clock: Send + Sync {
    /// How long it is since some moment, always the same one.
    ///
    /// It is called while no lock of the backend is held, so it may use the backend itself.
    ///
    /// When it steps back, time stands still for the backend until what it has seen before is
    /// reached again: what has expired stays so.
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

/// A clock that stands still until it is moved, so that tests of expiry need not sleep.
///
/// Clones show the same time. It decides over expiry only: [`CachedValue::age`] counts from
/// the wall clock.
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
/// cache.set_sync("key", CachedValue::new(1))?;
/// clock.advance(Duration::from_secs(59));
/// assert!(cache.get_sync("key")?.is_some());
/// clock.advance(Duration::from_secs(1));
/// assert!(cache.get_sync("key")?.is_none());
/// # Ok::<(), cache_core::Error>(())
/// ```
///
/// [`CachedValue::age`]: cache_core::CachedValue::age
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by = nanos(by);
        let moved = |now: u64| Some(now.saturating_add(by).min(NEVER - 1));
        // The closure never declines, so there is no error to look at.
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
    }

    /// Sets the clock, forward or back.
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

    /// What the clock shows.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// The deadline of what does not expire. No clock ever shows it.
pub(crate) const NEVER: u64 = u64::MAX;

/// How far a coarse clock may be behind, at most: ten ticks of the slowest timer. A deadline
/// that is further away is certainly not reached.
const SLACK: u64 = 100_000_000;

/// How far it usually is behind, at most: one tick of the slowest timer.
const TICK: u64 = 10_000_000;

/// Nanoseconds since some moment. Never decreases.
pub(crate) enum Time {
    System(SystemClock),
    Of {
        clock: Arc<dyn Clock>,
        /// The latest time that it showed.
        seen: AtomicU64,
    },
}

impl Time {
    /// The system's monotonic clock, and the coarse one of it if it is wanted and there is one.
    pub(crate) fn system(coarse: bool) -> Self {
        Self::System(SystemClock::new(coarse))
    }

    pub(crate) fn of(clock: Arc<dyn Clock>) -> Self {
        Self::Of {
            clock,
            seen: AtomicU64::new(0),
        }
    }

    /// The time to the nanosecond. It may run code of the user's: no lock may be held.
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

    /// The time or one that is a little earlier, whatever costs less: for looking what is to be
    /// removed. No lock may be held.
    #[inline]
    pub(crate) fn recent(&self) -> u64 {
        match self {
            Self::System(system) => system.coarse().unwrap_or_else(|| system.now()),
            Self::Of { .. } => self.now(),
        }
    }

    /// For a call that may have to know the time while it holds a lock.
    #[inline]
    pub(crate) fn reading(&self) -> Reading<'_> {
        match self {
            Self::System(system) => Reading {
                system: Some(system),
                coarse: None,
                exact: None,
            },
            // A clock of the user's may do anything, so it is asked before.
            Self::Of { .. } => Reading {
                system: None,
                coarse: None,
                exact: Some(self.now()),
            },
        }
    }
}

/// The time of one call, read when it is first needed, and once.
pub(crate) struct Reading<'t> {
    system: Option<&'t SystemClock>,
    coarse: Option<u64>,
    exact: Option<u64>,
}

impl Reading<'_> {
    /// How long it is until a deadline; nothing if it has been reached.
    #[inline]
    pub(crate) fn until(&mut self, deadline: u64) -> Option<u64> {
        let Some(system) = self.system else {
            return left(deadline, self.exact.unwrap_or_default());
        };
        if self.coarse.is_none() {
            self.coarse = system.coarse();
        }
        if let Some(coarse) = self.coarse
            && let Some(left) = left_by_coarse(deadline, coarse)
        {
            return Some(left);
        }
        left(deadline, *self.exact.get_or_insert_with(|| system.now()))
    }
}

fn left(deadline: u64, now: u64) -> Option<u64> {
    deadline.checked_sub(now).filter(|left| *left > 0)
}

/// How long it is until a deadline that is so far away that a coarse clock can tell; never too
/// long, while the clock is not unusually late.
#[inline]
fn left_by_coarse(deadline: u64, coarse: u64) -> Option<u64> {
    let left = deadline.checked_sub(coarse)?;
    (left > SLACK).then(|| left - TICK)
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
    fn a_clock_that_steps_back_stands_still() {
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

    /// Whether a coarse clock that is `late` lets a value be read `left` before its deadline.
    fn served_by_coarse(left: i64, late: u64) -> Option<u64> {
        let now = 3_600_000_000_000_u64;
        left_by_coarse(now.saturating_add_signed(left), now - late)
    }

    #[test]
    fn a_coarse_clock_serves_nothing_at_or_after_its_deadline() {
        for late in [0, 1, TICK, TICK + 1, SLACK - 1, SLACK] {
            for left in [0, -1, -50_000_000, -3_000_000_000] {
                assert_eq!(served_by_coarse(left, late), None, "{left} {late}");
            }
        }
        // And it does not ask the exact one about what has long to live.
        assert!(served_by_coarse(150_000_000, 0).is_some());
    }

    #[test]
    fn the_time_left_by_a_coarse_clock_is_not_too_long() {
        for late in [0, 4_000_000, TICK] {
            let left = 3_000_000_000_u64;
            let told = served_by_coarse(left.cast_signed(), late).unwrap();
            assert!((left - TICK..=left).contains(&told), "{told}");
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
    fn a_clock_of_the_users_is_read_once_a_call_and_before_it() {
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
