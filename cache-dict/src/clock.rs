//! [`Clock`], what a backend may read the time from, and [`ManualClock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

/// Nanoseconds since some moment. Never decreases.
pub(crate) enum Time {
    /// The system's monotonic clock, which steps of the wall clock do not move.
    System(Instant),
    Of {
        clock: Box<dyn Clock>,
        /// The latest time that it showed.
        seen: AtomicU64,
    },
}

impl Time {
    pub(crate) fn system() -> Self {
        Self::System(Instant::now())
    }

    pub(crate) fn of(clock: Box<dyn Clock>) -> Self {
        Self::Of {
            clock,
            seen: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::System(start) => nanos(start.elapsed()),
            Self::Of { clock, seen } => {
                let now = nanos(clock.now()).min(NEVER - 1);
                seen.fetch_max(now, Ordering::SeqCst).max(now)
            }
        }
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
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_back_stands_still() {
        let manual = ManualClock::new();
        let clock = Time::of(Box::new(manual.clone()));
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
        let clock = Time::of(Box::new(manual.clone()));
        manual.set(Duration::MAX);
        manual.advance(Duration::MAX);
        assert!(clock.now() < NEVER);
        assert_eq!(deadline(clock.now(), Duration::from_secs(1)), NEVER);
        assert_eq!(deadline(0, Duration::MAX), NEVER);
        assert_eq!(deadline(1, Duration::from_nanos(2)), 3);
    }
}
