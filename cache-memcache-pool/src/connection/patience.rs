//! [`Patience`]: the clock for the timeouts of calls on a connection. It stops while data flows.

use std::time::Duration;

use tokio::time::Instant;

/// A server that sends this many bytes within `socket_timeout` is not slow.
const BYTES: u32 = 64 * 1024;

/// Counts the time since a connection was begun, less the time in which data arrived at a
/// sufficient rate: a large value over a slow link does not count, a trickle of bytes does.
#[derive(Debug)]
pub(crate) struct Patience {
    epoch: Instant,
    /// The time that does not count, so far.
    excused: Duration,
    /// The time up to which `excused` is computed.
    last: Instant,
    /// The most time that a byte excuses.
    per_byte: Duration,
}

impl Patience {
    pub(crate) fn new(now: Instant, socket_timeout: Duration) -> Self {
        Self {
            epoch: now,
            excused: Duration::ZERO,
            last: now,
            per_byte: socket_timeout / BYTES,
        }
    }

    pub(crate) fn excused(&self) -> Duration {
        self.excused
    }

    /// The clock at `now`.
    pub(crate) fn read(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
            .saturating_sub(self.excused)
    }

    /// Records received bytes.
    pub(crate) fn on_bytes(&mut self, now: Instant, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let credit = self.per_byte.saturating_mul(bytes);
        self.excuse(credit.min(now.saturating_duration_since(self.last)));
        self.last = now;
    }

    /// Excludes time in which this process was paused.
    pub(crate) fn excuse(&mut self, time: Duration) {
        self.excused = self.excused.saturating_add(time);
    }

    /// When the clock reaches `due`, if nothing arrives until then.
    pub(crate) fn time_of(&self, due: Duration) -> Option<Instant> {
        self.epoch.checked_add(due.saturating_add(self.excused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_large_value_does_not_count_but_a_trickle_does() {
        let start = Instant::now();
        let mut patience = Patience::new(start, SECOND);
        let mut now = start;
        for _ in 0..100 {
            now += SECOND / 10;
            patience.on_bytes(now, 64 * 1024);
        }
        assert!(patience.read(now) < SECOND / 100, "{patience:?}");
        for _ in 0..100 {
            now += SECOND / 10;
            patience.on_bytes(now, 1);
        }
        assert!(patience.read(now) > SECOND * 9, "{patience:?}");
        let due = patience.read(now) + SECOND;
        assert_eq!(patience.time_of(due), Some(now + SECOND));
    }

    #[test]
    fn no_more_is_excused_than_has_passed() {
        let start = Instant::now();
        let mut patience = Patience::new(start, SECOND);
        patience.on_bytes(start + SECOND, usize::MAX);
        assert_eq!(patience.read(start + SECOND), Duration::ZERO);
        assert_eq!(patience.read(start + SECOND * 3), SECOND * 2);
    }
}
