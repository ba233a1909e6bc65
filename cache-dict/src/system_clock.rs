//! [`SystemClock`], the monotonic clock of the system: steps of the wall clock do not affect it.
//!
//! With the feature `coarse-clock`, on Linux, it also reads the time of the last timer tick: a
//! few milliseconds old, at a fifth of the cost.

pub(crate) use platform::SystemClock;

#[cfg(all(feature = "coarse-clock", target_os = "linux"))]
mod platform {
    use rustix::time::{ClockId, clock_gettime};

    pub(crate) struct SystemClock {
        start: u64,
        coarse: bool,
    }

    impl SystemClock {
        pub(crate) fn new(coarse: bool) -> Self {
            Self {
                start: nanos(ClockId::Monotonic),
                coarse,
            }
        }

        /// Nanoseconds since this was made.
        #[inline]
        pub(crate) fn now(&self) -> u64 {
            nanos(ClockId::Monotonic).saturating_sub(self.start)
        }

        /// [`now`](Self::now) at the last timer tick, if the coarse clock is enabled.
        #[inline]
        pub(crate) fn coarse(&self) -> Option<u64> {
            let coarse = || nanos(ClockId::MonotonicCoarse).saturating_sub(self.start);
            self.coarse.then(coarse)
        }
    }

    #[inline]
    fn nanos(clock: ClockId) -> u64 {
        let since_start_of_system = clock_gettime(clock);
        // Neither is negative.
        since_start_of_system.tv_sec.unsigned_abs() * 1_000_000_000
            + since_start_of_system.tv_nsec.unsigned_abs()
    }
}

#[cfg(not(all(feature = "coarse-clock", target_os = "linux")))]
mod platform {
    use std::time::Instant;

    pub(crate) struct SystemClock {
        start: Instant,
    }

    impl SystemClock {
        pub(crate) fn new(_: bool) -> Self {
            Self {
                start: Instant::now(),
            }
        }

        /// Nanoseconds since this was made.
        #[inline]
        pub(crate) fn now(&self) -> u64 {
            u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
        }

        /// `None`: this platform has no coarse clock.
        #[inline]
        #[expect(clippy::unused_self, reason = "it has the same signature on Linux")]
        pub(crate) fn coarse(&self) -> Option<u64> {
            None
        }
    }
}
