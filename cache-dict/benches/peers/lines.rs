//! The workloads, and the contestants of each.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use cache_core::CachedValue;
use cache_dict::DictBackend;
use comparison::measure::{Bench, Contestant, Measure, Sample};
use comparison::report::{Line, Role};

use crate::contestants::{COARSE, Cache, EXACT, LONG, PAPAYA, Payload, contestants, filled};
use crate::load::Spread::{Uniform, Zipf};
use crate::load::{Keys, Load, MILLION, SHORT, Spread};
use crate::{bound, churn, memory, tail};

/// One of each kind: many single keys, a few hot keys, many keys per call, expiry, memory.
const HEADLINES: &[&str] = &[
    "90/10 uniform, 1 M keys, 2 threads",
    "hits, 1 k keys, 2 threads",
    "get_multi of 100, 1 M keys, 2 threads",
    churn::NAME,
    "memory, 1 M entries of 8 bytes",
];

const CRATES: &[&str] = &[
    "cache-dict",
    "moka",
    "quick_cache",
    "dashmap",
    "papaya",
    "scc",
];

/// A single-key workload: name, stored keys, requested keys, their distribution, the percentage of
/// writes, and the runs: number of threads, variant of ours, goal.
struct Single(
    &'static str,
    Keys,
    Keys,
    Spread,
    u32,
    &'static [(usize, &'static str, Option<f64>)],
);

const DIGESTS: Keys = Keys::digests(MILLION);
const LONG_KEYS: Keys = Keys::long(MILLION);
const FEW: Keys = Keys::short(1_000);
const FEW_LONG: Keys = Keys::long(1_000);

/// Nine reads per write over a million keys, all of them hits.
const MIXED: &[(usize, &str, Option<f64>)] = &[
    (1, COARSE, Some(1.8)),
    (2, COARSE, Some(2.0)),
    (2, EXACT, Some(1.5)),
    (8, COARSE, Some(2.0)),
];
/// Reads of a few keys. The goal considers only peers whose reads take locks, as ours do.
const HITS: &[(usize, &str, Option<f64>)] = &[
    (1, COARSE, Some(1.3)),
    (2, COARSE, Some(1.3)),
    (8, COARSE, Some(1.3)),
];
const HITS_OF_MANY: &[(usize, &str, Option<f64>)] =
    &[(1, COARSE, None), (2, COARSE, None), (8, COARSE, None)];
const NO_GOAL: &[(usize, &str, Option<f64>)] = &[(2, COARSE, None)];

#[rustfmt::skip]
const SINGLE: &[Single] = &[
    Single("90/10 uniform, 1 M keys", SHORT, SHORT, Uniform, 10, MIXED),
    Single("90/10 Zipf 0.99, 1 M keys", SHORT, SHORT, Zipf, 10, MIXED),
    Single("hits, 1 k keys", FEW, FEW, Uniform, 0, HITS),
    Single("hits, 1 k keys of 40 characters", FEW_LONG, FEW_LONG, Uniform, 0, HITS_OF_MANY),
    Single("hits, 1 M keys", SHORT, SHORT, Uniform, 0, HITS_OF_MANY),
    Single("misses, 1 k keys", FEW, Keys::absent(1_000), Uniform, 0, &[(2, COARSE, Some(1.0))]),
    Single("10/90 uniform, 1 M keys", SHORT, SHORT, Uniform, 90, NO_GOAL),
    Single("90/10 uniform, 1 M keys of 40 hexadecimal digits", DIGESTS, DIGESTS, Uniform, 10, &[(2, COARSE, Some(1.8))]),
    Single("90/10 uniform, 1 M keys of 40 characters", LONG_KEYS, LONG_KEYS, Uniform, 10, &[(2, COARSE, Some(1.8))]),
];

#[rustfmt::skip]
const SHARED: Single =
    Single("90/10 uniform, 1 M keys, 100 B shared payloads", SHORT, SHORT, Uniform, 10, NO_GOAL);
#[rustfmt::skip]
const COPIED: Single =
    Single("90/10 uniform, 1 M keys, payloads of 100 characters", SHORT, SHORT, Uniform, 10, NO_GOAL);

pub(crate) fn run(options: &Measure) -> Result<()> {
    let mut bench = Bench::new("dict", options, HEADLINES, CRATES)?;
    bound::line(&mut bench)?;
    for line in SINGLE {
        single(&mut bench, line, || 7_u64)?;
    }
    // Heap-allocated payloads, one per key: shared by reads, and copied by each read.
    single(&mut bench, &SHARED, || Arc::<[u8]>::from([7_u8; 100]))?;
    single(&mut bench, &COPIED, || "7".repeat(100))?;
    multi(&mut bench)?;
    churn::lines(&mut bench)?;
    tail::lines(&mut bench)?;
    flat(&mut bench)?;
    memory::lines(&mut bench)?;
    bench.finish()
}

fn single<V: Payload>(bench: &mut Bench<'_>, line: &Single, value: impl Fn() -> V) -> Result<()> {
    let Single(name, held, asked, spread, writes, runs) = *line;
    let name = |threads, ours| {
        let clock = if ours == EXACT { ", exact clock" } else { "" };
        format!("{name}, {threads} threads{clock}")
    };
    let mut runs = runs.to_vec();
    runs.retain(|(threads, ours, _)| bench.wants(&name(*threads, *ours)));
    if runs.is_empty() {
        return Ok(());
    }
    let (all, payload, loads) = (filled(held, &value)?, value(), bound::Loads::new());
    for (threads, ours, goal) in runs {
        let load = &Load::new(asked, spread, writes, threads);
        let payload = &payload;
        let mut contestants = contestants(&all, ours, |cache| {
            let set = |key: &str| cache.set(key, payload.clone());
            load.single(|key| drop(cache.get(key)), set)
        });
        contestants.push(Contestant::new("(making the keys)", Role::Overhead, || {
            let nothing = |key: &str| {
                std::hint::black_box(key);
            };
            Ok(load.single(nothing, nothing))
        }));
        if held.count == MILLION {
            let get = |key: &str| loads.get(key);
            let round = move || Ok(load.single(get, get));
            contestants.push(Contestant::new(bound::LOADS, Role::Overhead, round));
        }
        let line = Line {
            goal,
            excluded_from_goal: if writes == 0 { PAPAYA } else { "" },
            reason: if held.count == MILLION {
                bound::LOADS
            } else {
                "both take and release a read lock, two atomic operations, and load no memory"
            },
            ..Line::new(name(threads, ours))
        };
        bench.compare(line, contestants)?;
    }
    Ok(())
}

/// Many keys per call.
fn multi(bench: &mut Bench<'_>) -> Result<()> {
    let lines = ["get_multi of 100", "get_multi of 5", "set_multi of 100"];
    let lines = lines.map(|name| format!("{name}, 1 M keys, 2 threads"));
    if !lines.iter().any(|name| bench.wants(name)) {
        return Ok(());
    }
    let [hundred, five, set] = lines;
    let (all, locked) = (filled(SHORT, || 7_u64)?, bound::Locked::new());
    let load = Load::new(SHORT, Uniform, 0, 2);
    let mut line =
        |name, run: &dyn Fn(&dyn Cache<u64>) -> Sample, bound: Option<Contestant<'_>>| {
            let mut contestants = contestants(&all, COARSE, run);
            let reason = if bound.is_some() {
                bound::LOCKED
            } else {
                "a lock for each key, taken and released"
            };
            contestants.extend(bound);
            let line = Line {
                goal: Some(2.0),
                reason,
                ..Line::new(name).unit("keys/s")
            };
            bench.compare(line, contestants)
        };
    let bound = |run: &'static dyn Fn(&Load, &bound::Locked) -> Sample| {
        let (load, locked) = (&load, &locked);
        Contestant::new(bound::LOCKED, Role::Overhead, move || Ok(run(load, locked)))
    };
    let of_hundred = bound(&|load, locked| load.batches::<100>(|keys| locked.get_multi(keys)));
    line(
        hundred,
        &|cache| load.batches::<100>(|keys| _ = cache.get_multi(keys)),
        Some(of_hundred),
    )?;
    let of_five = bound(&|load, locked| load.batches::<5>(|keys| locked.get_multi(keys)));
    line(
        five,
        &|cache| load.batches::<5>(|keys| _ = cache.get_multi(keys)),
        Some(of_five),
    )?;
    let set_multi = |cache: &dyn Cache<u64>| load.batches::<100>(|keys| cache.set_multi(keys, &7));
    line(set, &set_multi, None)
}

/// The cost of a set by the number of other entries held. Overwrites the same thousand keys, so
/// that memory latency does not affect the result.
fn flat(bench: &mut Bench<'_>) -> Result<()> {
    const NAME: &str = "set, by entries held besides";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let mut contestants = Vec::new();
    for (name, entries) in [
        ("10 M entries", 10 * MILLION),
        ("1 M entries", MILLION),
        ("100 k entries", 100_000),
        ("10 k entries", 10_000),
        ("1 k entries", 1_000),
    ] {
        let cache = DictBackend::builder().expiration_time(LONG).build()?;
        Keys::short(entries).each(|key| cache.set_sync(key, CachedValue::new(7_u64)));
        contestants.push(Contestant::new(name, Role::Ours, move || {
            let begin = Instant::now();
            for _ in 0..500 {
                FEW.each(|key| cache.set_sync(key, CachedValue::new(8)));
            }
            Ok(Sample::nanoseconds(500_000, begin.elapsed()))
        }));
    }
    let line = Line::new(NAME).less_is_better("ns/set").base("1 k entries");
    let goal = Some(0.8);
    bench.compare(Line { goal, ..line }, contestants)
}
