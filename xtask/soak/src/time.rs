//! Time of the run, which all its processes share, and the clocks that decide over expiry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cache_dict::ManualClock;
use serde::{Deserialize, Serialize};

/// In nanoseconds.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The wall clock in nanoseconds since 1970.
pub(crate) fn wall() -> u64 {
    nanos(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// Nanoseconds since the run began. Steps of the wall clock do not move it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunTime {
    anchor: Instant,
    /// What it showed at the anchor.
    shown: u64,
}

impl RunTime {
    /// For a run that began when the wall clock showed `began`. The wall clock is looked at
    /// once, here; from then on the processes of a run agree to within [`ERROR`].
    pub(crate) fn since(began: u64) -> Self {
        // A pause between the two looks would be an error, so the quickest pair counts.
        let looks = (0..50).map(|_| {
            let before = Instant::now();
            let shown = wall().saturating_sub(began);
            (before.elapsed(), before, shown)
        });
        let best = looks.min_by_key(|(pause, ..)| *pause);
        let (_, anchor, shown) = best.unwrap_or((Duration::ZERO, Instant::now(), 0));
        Self { anchor, shown }
    }

    pub(crate) fn now(&self) -> u64 {
        self.shown + nanos(self.anchor.elapsed())
    }
}

/// By how much the processes of a run may disagree.
pub(crate) const ERROR: Duration = Duration::from_millis(1);

/// A moment of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// By [`RunTime`].
    pub(crate) at: u64,
    /// By the clock that decides over expiry.
    pub(crate) clock: u64,
}

/// The clock by which a store's values expire.
#[derive(Clone, Debug)]
pub(crate) enum Expiry {
    /// The system's, which stands in what is stored.
    Wall,
    /// The monotonic one, which is that of the run.
    Run,
    Stepped(SteppedClock),
}

impl Expiry {
    /// The beginning of a call: the clock shows this or more to the backend from now on.
    pub(crate) fn begin(&self, time: &RunTime) -> Stamp {
        let at = time.now();
        let clock = match self {
            Self::Wall => wall(),
            Self::Run => at,
            Self::Stepped(clock) => clock.at_least.load(Ordering::SeqCst),
        };
        Stamp { at, clock }
    }

    /// The end of a call: the clock has shown no more than this to the backend until now.
    pub(crate) fn end(&self, time: &RunTime) -> Stamp {
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
