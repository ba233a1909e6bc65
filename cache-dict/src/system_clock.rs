//! [`SystemClock`], the monotonic clock of the system, which steps of the wall clock do not move.
//!
//! With the feature `coarse-clock`, on Linux, it also has the time that the kernel noted at its
//! last timer tick: a few milliseconds old, and read in a fifth of the time.

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

        /// The same at the last timer tick, if that is wanted.
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
            crate::clock::nanos(self.start.elapsed())
        }

        /// There is none.
        #[inline]
        #[expect(clippy::unused_self, reason = "other platforms have one")]
        pub(crate) fn coarse(&self) -> Option<u64> {
            None
        }
    }
}
