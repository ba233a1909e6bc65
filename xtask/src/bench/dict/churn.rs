//! Entries that do not live long: new keys are set all the time, and read shortly after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::contestants::{COARSE, Cache, EXACT, all};
use super::load::{Keys, side_by_side};
use crate::bench::harness::{Bench, Sample};

pub(super) const NAME: &str = "churn: set and get of new keys, 50 ms to live, 2 threads";

pub(super) fn lines(bench: &mut Bench) -> Result<()> {
    // Bounded caches get room for twice what the fastest sets within a lifetime.
    for (name, ttl, length, capacity) in [
        (NAME, 50, 500, 500_000),
        (
            "churn: set and get of new keys, 1 s to live, 2 threads",
            1_000,
            1_600,
            10_000_000,
        ),
    ] {
        let (ttl, length) = (Duration::from_millis(ttl), Duration::from_millis(length));
        let all = all::<u64>(&[COARSE, EXACT], capacity, ttl)?;
        let mut line = bench.line(name);
        line.goal(1.3);
        for entry in &all {
            line.contestant(entry.name, entry.role, || {
                Ok(round(entry.cache.as_ref(), ttl, length))
            });
        }
        line.run()?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn round(cache: &dyn Cache<u64>, ttl: Duration, length: Duration) -> Sample {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) && cache.purge() {
                thread::sleep(ttl / 2);
            }
        });
        let (elapsed, sets) = side_by_side(&[0_u32, 1], |thread| work(cache, thread << 31, length));
        let held = cache.len() as f64;
        done.store(true, Ordering::Relaxed);
        let sets: u32 = sets.iter().sum();
        let live = f64::from(sets) * ttl.as_secs_f64() / elapsed.as_secs_f64();
        Sample::operations(2 * u64::from(sets), elapsed).with("held/live", held / live)
    })
}

/// Sets one key after the other from `first` on, for so long; returns how many.
fn work(cache: &dyn Cache<u64>, first: u32, length: Duration) -> u32 {
    let mut buffer = Keys::short(0).buffer();
    let mut sets = 0_u32;
    let begin = Instant::now();
    // Reading the clock takes as long as a set.
    while !sets.is_multiple_of(16) || begin.elapsed() < length {
        cache.set(buffer.key(first | sets), 7);
        let recent = first | sets.saturating_sub(1_000);
        cache.get(buffer.key(recent));
        sets += 1;
    }
    sets
}
