//! [`TtlClass`]: lifetimes that share leases.

use std::time::Duration;

/// The longest TTL that etcd grants, in seconds.
pub(crate) const MAX_GRANTED: u64 = 9_000_000_000;

/// The longest lifetime. With a bucket and a spread, its lease does not exceed [`MAX_GRANTED`].
const MAX_SECONDS: u64 = MAX_GRANTED / 6 * 5 - 60;

/// A lifetime in whole seconds, rounded up to one of eight steps per octave, so that few leases
/// are needed regardless of the lifetimes that callers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TtlClass(u64);

impl TtlClass {
    /// `None`: longer than etcd supports.
    pub(crate) fn of(ttl: Duration) -> Option<Self> {
        let seconds = ttl
            .as_secs()
            .saturating_add(u64::from(ttl.subsec_nanos() > 0));
        if seconds > MAX_SECONDS {
            return None;
        }
        let seconds = seconds.max(1);
        let step = 1 << seconds.ilog2().saturating_sub(3);
        let rounded = seconds.next_multiple_of(step);
        (rounded <= MAX_SECONDS).then_some(Self(rounded))
    }

    pub(crate) fn seconds(self) -> u64 {
        self.0
    }

    pub(crate) fn lifetime(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// For how long a lease is open to new keys, in seconds.
    pub(crate) fn bucket(self) -> u64 {
        (self.0 / 4).clamp(1, 60)
    }

    /// By how many seconds the TTLs of leases granted together may differ. On average they differ
    /// by half of that, a tenth of a lease's TTL.
    pub(crate) fn spread(self) -> u64 {
        (self.0 + self.bucket()) / 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(seconds: u64) -> u64 {
        TtlClass::of(Duration::from_secs(seconds)).unwrap().0
    }

    #[test]
    fn lifetimes_are_rounded_up_to_eight_steps_per_octave() {
        for (seconds, expected) in [
            (1, 1),
            (15, 15),
            (16, 16),
            (17, 18),
            (31, 32),
            (33, 36),
            (3600, 3840),
            (86_400, 90_112),
        ] {
            assert_eq!(class(seconds), expected, "{seconds}");
        }
        assert_eq!(TtlClass::of(Duration::from_millis(1)), Some(TtlClass(1)));
        assert_eq!(TtlClass::of(Duration::from_millis(2001)), Some(TtlClass(3)));
        for seconds in (1..100_000).step_by(37) {
            let rounded = class(seconds);
            assert!(
                rounded >= seconds && rounded * 8 <= seconds * 9 + 8,
                "{seconds}"
            );
        }
        let classes: std::collections::HashSet<u64> = (1..=65_536).map(class).collect();
        assert!(classes.len() <= 8 * 17, "{}", classes.len());
    }

    #[test]
    fn a_lifetime_longer_than_etcd_supports_has_no_class() {
        assert_eq!(TtlClass::of(Duration::MAX), None);
        assert_eq!(TtlClass::of(Duration::from_secs(MAX_SECONDS + 1)), None);
        assert!(TtlClass::of(Duration::from_secs(MAX_SECONDS - MAX_SECONDS / 8)).is_some());
    }

    #[test]
    fn a_bucket_is_a_quarter_of_the_lifetime_within_limits() {
        for (ttl, bucket) in [(1, 1), (8, 2), (30, 7), (240, 60), (90_112, 60)] {
            assert_eq!(TtlClass(ttl).bucket(), bucket);
        }
    }

    #[test]
    fn the_spread_adds_a_tenth_on_average() {
        for seconds in [1, 8, 60, 600, 90_112, MAX_SECONDS] {
            let class = TtlClass(seconds);
            let lease = class.seconds() + class.bucket();
            assert!(class.spread() * 5 <= lease, "{seconds}");
            assert!(lease + class.spread() <= MAX_GRANTED, "{seconds}");
        }
        assert_eq!(TtlClass(600).spread(), 132);
    }
}
