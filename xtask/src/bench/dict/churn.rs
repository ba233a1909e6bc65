//! Entries that do not live long: ever new keys are set, and read shortly after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::load::Keys;
use super::{Contestant, contestants, ours};
use crate::bench::harness::{Bench, Sample};

pub(super) const NAME: &str = "churn: set and get of new keys, 50 ms to live, 2 threads";

const THREADS: u32 = 2;

/// One set in so many is timed: reading the clock takes as long as a set.
const TIMED: u32 = 16;

struct Churn {
    ttl: Duration,
    length: Duration,
}

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
        let churn = Churn {
            ttl: Duration::from_millis(ttl),
            length: Duration::from_millis(length),
        };
        let all = contestants::<u64>(&[ours::COARSE, ours::EXACT], capacity, churn.ttl)?;
        let mut line = bench.line(name);
        line.goal(1.3);
        for entry in &all {
            line.contestant(entry.name, entry.role, || Ok(round(&churn, entry)));
        }
        line.run()?;
    }
    Ok(())
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn round(churn: &Churn, entry: &Contestant<u64>) -> Sample {
    let cache = &entry.cache;
    let done = AtomicBool::new(false);
    let begin = Instant::now();
    let (mut latencies, sets, live, held) = thread::scope(|scope| {
        if cache.needs_purge() {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    thread::sleep(churn.ttl / 2);
                    cache.purge();
                }
            });
        }
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || work(churn, entry, thread, begin)))
            .collect();
        let mut latencies = Vec::new();
        let (mut sets, mut live) = (0_u64, 0_u64);
        for worker in workers {
            if let Ok(worked) = worker.join() {
                latencies.extend(worked.latencies);
                sets += u64::from(worked.sets);
                live += u64::from(worked.live);
            }
        }
        done.store(true, Ordering::Relaxed);
        (latencies, sets, live, cache.len() as u64)
    });
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies
            .get(index)
            .map_or(0.0, |latency| latency.as_nanos() as f64 / 1e3)
    };
    Sample::operations(2 * sets, churn.length)
        .with("set p50 µs", at(0.5))
        .with("set p99.9 µs", at(0.999))
        .with(
            "dead %",
            100.0 * (held.saturating_sub(live)) as f64 / held.max(1) as f64,
        )
}

struct Worked {
    sets: u32,
    /// How many of them are not expired at the end.
    live: u32,
    latencies: Vec<Duration>,
}

fn work(churn: &Churn, entry: &Contestant<u64>, thread: u32, begin: Instant) -> Worked {
    let mut buffer = Keys::short(0).buffer();
    // Each round has keys of its own, where those of the last one are not expired yet.
    let first = thread << 31;
    let mut sets = 0;
    let mut latencies = Vec::new();
    let mut counts = Vec::new();
    loop {
        let key = buffer.key(first | sets);
        if sets % TIMED == 0 {
            let before = Instant::now();
            entry.cache.set(key, 7);
            let after = Instant::now();
            latencies.push(after - before);
            counts.push((after, sets));
            if after - begin > churn.length {
                break;
            }
        } else {
            entry.cache.set(key, 7);
        }
        let recent = first | sets.saturating_sub(1_000);
        entry.cache.get(buffer.key(recent));
        sets += 1;
    }
    let end = Instant::now();
    let expired = counts.partition_point(|(at, _)| *at + churn.ttl <= end);
    let expired = counts.get(expired).map_or(sets, |(_, before)| *before);
    Worked {
        sets,
        live: sets - expired,
        latencies,
    }
}
