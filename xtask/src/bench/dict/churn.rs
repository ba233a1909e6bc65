//! Entries that do not live long: new keys are set all the time, and read shortly after.
//!
//! All contestants have to remove what has expired while they are measured: cache-dict and moka do
//! so by themselves, and the maps are purged twice a lifetime. `quick_cache` does not: it evicts at
//! its bound, so that it is always full, and its user has to know the bound. It is measured too,
//! but the goal is about the others, and how much each holds at the end is shown beside its figure.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::contestants::{Cache, Named, QUICK_CACHE, all};
use super::load::{Keys, side_by_side};
use crate::bench::measure::{Bench, Contestant, Sample};
use crate::bench::report::Line;

pub(super) const NAME: &str = "churn: new keys set, read and reclaimed, 50 ms to live, 2 threads";
const SLOWER: &str = "churn: new keys set, read and reclaimed, 1 s to live, 2 threads";

pub(super) fn lines(bench: &mut Bench<'_>) -> Result<()> {
    // Bounded caches get room for twice what the fastest sets within a lifetime.
    for (name, ttl, length, capacity) in
        [(NAME, 50, 500, 300_000), (SLOWER, 1_000, 1_600, 4_000_000)]
    {
        let (ttl, length) = (Duration::from_millis(ttl), Duration::from_millis(length));
        let all = all::<u64>(capacity as usize, ttl)?;
        let contestants = all.iter().map(|entry| {
            let mut unused = [0, 1 << 31];
            if entry.name == QUICK_CACHE {
                // Full from the start, so that it evicts in each round as the others remove.
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
                beside_the_goal: QUICK_CACHE,
                ..Line::new(name)
            },
            contestants,
        )?;
    }
    Ok(())
}

/// Each of two threads sets keys that no round has set before, from `unused` on: a key that is set
/// again would take the place of an entry that has expired, which then need not be removed.
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

/// Sets one key after the other from `first` on, for so long; returns how many.
fn work(cache: &dyn Cache<u64>, first: u32, length: Duration) -> u32 {
    let mut buffer = Keys::short(0).buffer();
    let mut sets = 0_u32;
    let begin = Instant::now();
    // Reading the clock takes as long as a set.
    while !sets.is_multiple_of(16) || begin.elapsed() < length {
        cache.set(buffer.key(first + sets), 7);
        let recent = first + sets.saturating_sub(1_000);
        cache.get(buffer.key(recent));
        sets += 1;
    }
    sets
}
