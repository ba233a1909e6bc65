//! Short-lived entries: new keys are set continuously and read shortly after.
//!
//! Removing expired entries is part of the measurement: cache-dict and moka do so on their own, and
//! the maps are purged twice per TTL. `quick_cache` instead evicts at its capacity, so it is always
//! full and its user must know the right capacity. It is measured, but does not count for the goal.
//! An extra column shows how many entries each contestant holds at the end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use comparison::measure::{Bench, Contestant, Sample};
use comparison::report::Line;

use crate::contestants::{Cache, Named, QUICK_CACHE, all};
use crate::load::{Keys, side_by_side};

pub(crate) const NAME: &str = "churn: new keys set, read and reclaimed, 50 ms to live, 2 threads";
const SLOWER: &str = "churn: new keys set, read and reclaimed, 1 s to live, 2 threads";

pub(crate) fn lines(bench: &mut Bench<'_>) -> Result<()> {
    // Bounded caches get twice the capacity that the fastest contestant fills within a TTL.
    for (name, ttl, length, capacity) in
        [(NAME, 50, 500, 300_000), (SLOWER, 1_000, 4_000, 4_000_000)]
    {
        let (ttl, length) = (Duration::from_millis(ttl), Duration::from_millis(length));
        let all = all::<u64>(capacity as usize, ttl)?;
        let contestants = all.iter().map(|entry| {
            let mut unused = [0, 1 << 31];
            if entry.name == QUICK_CACHE {
                // Fill it up front, so that it evicts in every round, as the others remove.
                unused[0] = capacity;
                Keys::short(capacity).each(|key| entry.cache.set(key, 7));
            }
            let unused = unused.map(AtomicU32::new);
            let round = move || Ok(round(entry, &unused, ttl, length));
            Contestant::new(entry.name, entry.role, round)
        });
        let contestants = contestants.collect();
        let goal = Some(1.3);
        bench.compare(
            Line {
                goal,
                excluded_from_goal: QUICK_CACHE,
                reason: "two loads from memory for each entry, when it is set and when it is \
                         removed; the maps are purged in bulk, by a third thread",
                ..Line::new(name)
            },
            contestants,
        )?;
    }
    Ok(())
}

/// Each of two threads sets keys that no earlier round has set, starting at `unused`. Setting a key
/// again would replace its expired entry, which then would not need to be removed.
fn round(entry: &Named<u64>, unused: &[AtomicU32], ttl: Duration, length: Duration) -> Sample {
    let (cache, done) = (entry.cache.as_ref(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while entry.name != QUICK_CACHE && !done.load(Ordering::Relaxed) {
                cache.purge();
                thread::sleep(ttl / 2);
            }
        });
        let (elapsed, sets) = side_by_side(unused, |unused| {
            let first = unused.load(Ordering::Relaxed);
            let sets = work(cache, first, length);
            unused.store(first + sets, Ordering::Relaxed);
            sets
        });
        done.store(true, Ordering::Relaxed);
        let sample = Sample::operations(2 * u64::from(sets.iter().sum::<u32>()), elapsed);
        #[allow(clippy::cast_precision_loss)]
        sample.with("entries held", cache.len() as f64)
    })
}

/// Sets consecutive keys starting at `first` for `length` and returns their number.
fn work(cache: &dyn Cache<u64>, first: u32, length: Duration) -> u32 {
    let mut buffer = Keys::short(0).buffer();
    let mut sets = 0_u32;
    let begin = Instant::now();
    // Reading the clock costs as much as a set, so do it only every 16 sets.
    while !sets.is_multiple_of(16) || begin.elapsed() < length {
        cache.set(buffer.key(first + sets), 7);
        let recent = first + sets.saturating_sub(1_000);
        cache.get(buffer.key(recent));
        sets += 1;
    }
    sets
}
