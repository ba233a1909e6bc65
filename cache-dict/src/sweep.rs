//! [`Sweep`], which removes expired entries from shards that are not written to.

use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::bound::Bound;
use crate::clock;
use crate::lock::try_write;
use crate::shard::{Garbage, Shard};

/// How many entries a sweep examines in all shards, and under one lock. It is part of a single
/// write, so it must be short.
const REAP_PER_SWEEP: usize = 256;
pub(crate) const REAP_PER_HOLD: usize = 64;

/// The interval between sweeps is 1/32 of the default lifetime, within these bounds; shorter if
/// expired entries remain.
const NEXT_SWEEP_IF_LEFT: Duration = Duration::from_micros(100);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// A write removes due entries of its own shard only. One write in each interval sweeps all
/// shards, so that shards without writes do not keep expired entries.
pub(crate) struct Sweep {
    interval: Duration,
    /// The time of the next sweep.
    next: CachePadded<AtomicU64>,
    /// The shard where the next sweep begins.
    first: AtomicUsize,
}

impl Sweep {
    /// For a backend with this default lifetime; zero: values do not expire.
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

    /// Sweeps the shards if the interval has passed.
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
        // The thread that advances `next` sweeps; the others return.
        let next = clock::deadline(now, self.interval);
        let moved = self.next.compare_exchange(due, next, relaxed, relaxed);
        if moved.is_ok() && !self.reap(now, shards, bound) {
            let soon = clock::deadline(now, NEXT_SWEEP_IF_LEFT);
            self.next.fetch_min(soon, relaxed);
        }
    }

    /// Returns `false` if due entries may remain.
    fn reap<V>(&self, now: u64, shards: &[CachePadded<RwLock<Shard<V>>>], bound: &Bound) -> bool {
        let mut budget = REAP_PER_SWEEP;
        let first = self.first.load(Ordering::Relaxed);
        let (behind, ahead) = shards.split_at_checked(first).unwrap_or_default();
        for (number, shard) in (first..).zip(ahead.iter().chain(behind)) {
            loop {
                let mut garbage = Garbage::new();
                // A writer that holds the lock removes due entries itself.
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
