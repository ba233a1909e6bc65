//! [`Backoff`]: the pauses between attempts.
//!
//! cache-memcache-pool has its own: sharing twenty lines would tie the contract to the retry
//! policy of backends.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// Pauses that double, each shortened by up to a half, so that requests that failed together are
/// not retried together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            next: FIRST,
            // Xorshift would stay at zero.
            random: seed | 1,
        }
    }

    pub(crate) fn pause(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let longest = self.next;
        self.next = (longest * 2).min(LONGEST);
        let thousandths = u32::try_from(500 + self.random % 501).unwrap_or(1000);
        longest * thousandths / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_randomized() {
        let mut longest = FIRST;
        let mut pauses = Vec::new();
        let mut backoff = Backoff::new(7);
        for _ in 0..10 {
            let pause = backoff.pause();
            assert!(pause * 2 >= longest && pause <= longest, "{pause:?}");
            longest = (longest * 2).min(LONGEST);
            pauses.push(pause);
        }
        let mut other = Backoff::new(8);
        assert!(pauses.iter().any(|pause| *pause != other.pause()));
    }
}
