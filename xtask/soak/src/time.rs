//! Time of the run, and the clocks that decide over expiry. All in nanoseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_dict::ManualClock;
use serde::Serialize;
use tokio::time::Instant;

pub(crate) const SECOND: u64 = 1_000_000_000;

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The wall clock since 1970.
pub(crate) fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    nanos(since.unwrap_or_default())
}

/// Since the run began. Steps of the wall clock do not move it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunTime(Instant);

impl RunTime {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> u64 {
        nanos(self.0.elapsed())
    }
}

/// A moment of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Stamp {
    /// By [`RunTime`].
    pub(crate) at: u64,
    /// By the clock that decides over expiry.
    pub(crate) clock: u64,
}

/// The clock by which a store's values expire.
#[derive(Clone, Debug)]
pub(crate) enum Expiry {
    /// The system's, which is in what is stored.
    Wall,
    /// The monotonic one, which is that of the run.
    Run,
    Stepped(SteppedClock),
}

impl Expiry {
    /// The beginning of a call: the clock shows this or more to the backend from now on.
    pub(crate) fn begin(&self, time: RunTime) -> Stamp {
        let at = time.now();
        let clock = match self {
            Self::Wall => wall(),
            Self::Run => at,
            Self::Stepped(clock) => clock.at_least.load(Ordering::SeqCst),
        };
        Stamp { at, clock }
    }

    /// The end of a call: the clock has shown no more than this to the backend until now.
    pub(crate) fn end(&self, time: RunTime) -> Stamp {
        let clock = match self {
            Self::Wall => wall(),
            Self::Run => time.now(),
            Self::Stepped(clock) => clock.at_most.load(Ordering::SeqCst),
        };
        Stamp {
            at: time.now(),
            clock,
        }
    }
}

/// A manual clock that goes with the real time and can be stepped, and what a backend that never
/// lets time go back may have seen of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SteppedClock {
    pub(crate) shown: ManualClock,
    at_least: Arc<AtomicU64>,
    at_most: Arc<AtomicU64>,
}

impl SteppedClock {
    pub(crate) fn forward(&self, by: Duration) {
        let to = self.shown.now() + by;
        self.at_most.fetch_max(nanos(to), Ordering::SeqCst);
        self.shown.set(to);
        self.at_least.fetch_max(nanos(to), Ordering::SeqCst);
    }

    /// Only once every backend has read the clock since it last went forward.
    pub(crate) fn back(&self, by: Duration) {
        self.shown.set(self.shown.now().saturating_sub(by));
    }
}
