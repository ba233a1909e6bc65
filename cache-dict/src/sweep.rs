//! [`Sweep`], looking for expired entries where nobody writes.

use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::bound::Bound;
use crate::clock;
use crate::lock::try_write;
use crate::shard::{Garbage, Shard};

/// How many entries are looked at in all shards when their turn comes, and under one lock. One
/// set does it all, so it must not take long.
const REAP_PER_SWEEP: usize = 256;
pub(crate) const REAP_PER_HOLD: usize = 64;

/// Their turn comes every 1/32 of the default lifetime, within these bounds; sooner when
/// something was left.
const NEXT_SWEEP_IF_LEFT: Duration = Duration::from_micros(100);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// A write removes what is due in its own shard. Shards that nobody writes to would keep what
/// has expired, so now and then one write looks through all of them.
pub(crate) struct Sweep {
    interval: Duration,
    /// When the next one is due.
    next: CachePadded<AtomicU64>,
    /// The number of the shard that it begins with.
    first: AtomicUsize,
}

impl Sweep {
    /// For values that live so long by default, or for ever if that is zero.
    pub(crate) fn new(default_ttl: Duration) -> Self {
        let interval = match default_ttl {
            Duration::ZERO => LONGEST_INTERVAL,
            ttl => (ttl / 32).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
        };
        Self {
            interval,
            next: CachePadded::new(AtomicU64::new(0)),
            first: AtomicUsize::new(0),
        }
    }

    /// Looks through the shards if it is time to.
    pub(crate) fn in_turn<V>(
        &self,
        now: u64,
        shards: &[CachePadded<RwLock<Shard<V>>>],
        bound: &Bound,
    ) {
        let relaxed = Ordering::Relaxed;
        let due = self.next.load(relaxed);
        if now < due {
            return;
        }
        // Whoever moves the time sweeps; the others go on.
        let next = clock::deadline(now, self.interval);
        let moved = self.next.compare_exchange(due, next, relaxed, relaxed);
        if moved.is_ok() && !self.reap(now, shards, bound) {
            let soon = clock::deadline(now, NEXT_SWEEP_IF_LEFT);
            self.next.fetch_min(soon, relaxed);
        }
    }

    /// Whether nothing that is due was left.
    fn reap<V>(&self, now: u64, shards: &[CachePadded<RwLock<Shard<V>>>], bound: &Bound) -> bool {
        let mut budget = REAP_PER_SWEEP;
        let first = self.first.load(Ordering::Relaxed);
        let (behind, ahead) = shards.split_at_checked(first).unwrap_or_default();
        for (number, shard) in (first..).zip(ahead.iter().chain(behind)) {
            loop {
                let mut garbage = Garbage::new();
                // A shard in use is looked after by those who use it.
                let Some(mut shard) = try_write(shard) else {
                    break;
                };
                let hold = budget.min(REAP_PER_HOLD);
                let left = shard.reap(now, hold, bound, &mut garbage);
                drop(shard);
                budget -= hold - left;
                if left > 0 {
                    break;
                }
                if budget == 0 {
                    self.first.store(number % shards.len(), Ordering::Relaxed);
                    return false;
                }
            }
        }
        true
    }
}
