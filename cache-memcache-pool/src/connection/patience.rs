//! The clock by which callers of a connection lose their patience. It stops while data flows.

use std::time::Duration;

use tokio::time::Instant;

/// Who sends so many bytes within a `socket_timeout` is not slow.
const BYTES: u32 = 64 * 1024;

/// Counts the time since a connection was begun, less the time in which data arrived at a fair
/// rate: a large value over a narrow link costs nobody's patience, a drip of bytes does.
#[derive(Debug)]
pub(crate) struct Patience {
    epoch: Instant,
    /// What does not count, so far.
    excused: Duration,
    /// Until when that is known.
    last: Instant,
    /// What a byte excuses, at most.
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

    /// What the clock shows.
    pub(crate) fn read(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
            .saturating_sub(self.excused)
    }

    /// So many bytes have arrived.
    pub(crate) fn on_bytes(&mut self, now: Instant, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let credit = self.per_byte.saturating_mul(bytes);
        self.excuse(credit.min(now.saturating_duration_since(self.last)));
        self.last = now;
    }

    /// Nothing counts that passed for reasons of this process.
    pub(crate) fn excuse(&mut self, time: Duration) {
        self.excused = self.excused.saturating_add(time);
    }

    /// When the clock will show `due`, if nothing arrives until then.
    pub(crate) fn time_of(&self, due: Duration) -> Option<Instant> {
        self.epoch.checked_add(due.saturating_add(self.excused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_large_value_costs_no_patience_and_a_drip_does() {
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
