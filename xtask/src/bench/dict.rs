//! `cargo xtask bench dict`: cache-dict beside in-process caches and maps.

mod bound;
mod churn;
mod load;
mod memory;
mod ours;
mod peers;
mod tail;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cache_core::CachedValue;
use cache_dict::DictBackend;

use super::harness::{Bench, Line, Role, Sample};
use load::{Keys, Load, Spread};

const MILLION: u32 = 1_000_000;

/// Long enough that nothing expires while it is measured; every contestant looks all the same.
const LONG: Duration = Duration::from_secs(3600);

/// What all contestants can do. A key is found until its lifetime is over.
pub(crate) trait Cache<V>: Send + Sync {
    fn get(&self, key: &str) -> Option<V>;
    fn set(&self, key: &str, value: V);

    /// How many were found. A cache without such an operation does what its user would write.
    fn get_multi(&self, keys: &[&str]) -> usize {
        keys.iter().filter(|key| self.get(key).is_some()).count()
    }

    fn set_multi(&self, keys: &[&str], value: &V)
    where
        V: Clone,
    {
        for key in keys {
            self.set(key, value.clone());
        }
    }

    /// Entries held, expired ones included.
    fn len(&self) -> usize;

    /// Removes what has expired, where somebody has to call for it.
    fn purge(&self) {}

    /// Whether [`purge`](Self::purge) has to be called again and again.
    fn needs_purge(&self) -> bool {
        false
    }
}

/// A cache, and what it is called in the report.
pub(crate) type Named<V> = (&'static str, Box<dyn Cache<V>>);

/// One that takes part.
pub(crate) struct Contestant<V> {
    name: &'static str,
    role: Role,
    cache: Box<dyn Cache<V>>,
}

/// Those of ours that are named, and all peers, for up to `capacity` entries that live for `ttl`.
fn contestants<V: Clone + Send + Sync + 'static>(
    ours: &[&str],
    capacity: usize,
    ttl: Duration,
) -> Result<Vec<Contestant<V>>> {
    let names = ours.iter().chain(peers::NAMES);
    names.map(|name| contestant(name, capacity, ttl)).collect()
}

fn contestant<V: Clone + Send + Sync + 'static>(
    name: &str,
    capacity: usize,
    ttl: Duration,
) -> Result<Contestant<V>> {
    if let Some((name, cache)) = ours::make(name, ttl)? {
        return Ok(Contestant {
            name,
            role: Role::Ours,
            cache,
        });
    }
    let (name, cache) = peers::make(name, capacity, ttl).with_context(|| format!("no `{name}`"))?;
    Ok(Contestant {
        name,
        role: Role::Peer,
        cache,
    })
}

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    if let [word, name, entries, keys] = arguments
        && word == memory::CHILD
    {
        return memory::child(name, entries.parse()?, keys);
    }
    let options = Options::read(arguments)?;
    let mut bench = Bench::new(
        "dict",
        &[
            "cache-dict",
            "moka",
            "quick_cache",
            "dashmap",
            "papaya",
            "scc",
        ],
    )?;
    bench.headlines(HEADLINES);
    if let Some(rounds) = options.rounds {
        bench.rounds(rounds);
    }
    if !options.only.is_empty() {
        bench.partial();
    }
    for (name, run) in LINES {
        if options.chosen(name) {
            run(&mut bench)?;
        }
    }
    bench.finish()
}

/// One of each kind: many single keys, a few hot ones, many keys a call, expiry, memory.
const HEADLINES: &[&str] = &[
    "90/10 uniform, 1 M keys, 2 threads",
    "hits, 1 k keys, 2 threads",
    "get_multi of 100, 1 M keys, 2 threads",
    churn::NAME,
    "memory, 1 M entries of 8 bytes",
];

type Run = fn(&mut Bench) -> Result<()>;

/// What `--only` can choose.
const LINES: &[(&str, Run)] = &[
    ("bound", |bench| bound::line(bench)),
    ("mixed", mixed),
    ("hits", hits),
    ("misses", misses),
    ("sets", sets),
    ("payload", payload),
    ("longkeys", long_keys),
    ("multi", multi),
    ("churn", |bench| churn::lines(bench)),
    ("tail", |bench| tail::lines(bench)),
    ("flat", flat),
    ("memory", |bench| memory::lines(bench)),
];

#[derive(Default)]
struct Options {
    rounds: Option<usize>,
    only: Vec<String>,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{argument} what?"))
            };
            match argument.as_str() {
                "--rounds" => options.rounds = Some(value()?.parse().context("--rounds NUMBER")?),
                "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
                other => {
                    let names: Vec<&str> = LINES.iter().map(|(name, _)| *name).collect();
                    let names = names.join(",");
                    bail!("`{other}`? There are --rounds NUMBER and --only of {names}")
                }
            }
        }
        Ok(options)
    }

    fn chosen(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// Nine reads to one write over a million keys, all of them there.
fn mixed(bench: &mut Bench) -> Result<()> {
    let all = contestants(&[ours::COARSE, ours::EXACT], 2 * MILLION as usize, LONG)?;
    let keys = Keys::short(MILLION);
    fill(&all, keys, &7_u64);
    for (spread, name) in [(Spread::Uniform, "uniform"), (Spread::Zipf, "Zipf 0.99")] {
        for (threads, goal) in [(1, 1.8), (2, 2.0), (8, 2.0)] {
            let line = format!("90/10 {name}, 1 M keys, {threads} threads");
            let work = Load::new(keys, spread, 10, threads, 200_000);
            throughput(
                bench,
                &line,
                &without(&all, ours::EXACT),
                &work,
                &7,
                |line| {
                    line.goal(goal);
                },
            )?;
            if threads == 2 {
                let line = format!("{line}, exact clock");
                throughput(
                    bench,
                    &line,
                    &without(&all, ours::COARSE),
                    &work,
                    &7,
                    |line| {
                        line.goal(1.5);
                    },
                )?;
            }
        }
    }
    Ok(())
}

fn without<'a, V>(all: &'a [Contestant<V>], name: &str) -> Vec<&'a Contestant<V>> {
    all.iter().filter(|entry| entry.name != name).collect()
}

/// Reads that hit, of a few keys and of many. The goal is about peers whose reads take locks, as
/// ours do: without any, two threads do not disturb each other at all, and ours has to be in
/// code that needs no `unsafe`.
fn hits(bench: &mut Bench) -> Result<()> {
    for (count, name) in [(1_000, "1 k"), (MILLION, "1 M")] {
        let all = contestants(ours::NAMES, 2 * count as usize, LONG)?;
        let keys = Keys::short(count);
        fill(&all, keys, &7_u64);
        for threads in [1, 2, 8] {
            let line = format!("hits, {name} keys, {threads} threads");
            let work = Load::new(keys, Spread::Uniform, 0, threads, 400_000);
            if count == 1_000 {
                throughput(bench, &line, &without(&all, ""), &work, &7, |line| {
                    line.goal(1.3).beside_the_goal(&[peers::PAPAYA]);
                })?;
            } else if threads == 2 {
                throughput(bench, &line, &without(&all, ""), &work, &7, |_| {})?;
            }
        }
    }
    Ok(())
}

/// Reads of keys that are not there.
fn misses(bench: &mut Bench) -> Result<()> {
    let all = contestants(&[ours::COARSE], 2 * MILLION as usize, LONG)?;
    fill(&all, Keys::short(1_000), &7_u64);
    let work = Load::new(Keys::absent(1_000), Spread::Uniform, 0, 2, 400_000);
    let line = "misses, 1 k keys, 2 threads";
    throughput(bench, line, &without(&all, ""), &work, &7, |line| {
        line.goal(1.0);
    })
}

/// Nine writes to one read.
fn sets(bench: &mut Bench) -> Result<()> {
    let all = contestants(&[ours::COARSE], 2 * MILLION as usize, LONG)?;
    let keys = Keys::short(MILLION);
    fill(&all, keys, &7_u64);
    let work = Load::new(keys, Spread::Uniform, 90, 2, 200_000);
    let line = "10/90 uniform, 1 M keys, 2 threads";
    throughput(bench, line, &without(&all, ""), &work, &7, |_| {})
}

/// As `mixed`, with payloads that are allocated: shared, and copied by each read.
fn payload(bench: &mut Bench) -> Result<()> {
    let shared = || Arc::<[u8]>::from([7_u8; 100]);
    payload_of(bench, "100 B shared payloads", shared)?;
    payload_of(bench, "payloads of 100 characters", || "7".repeat(100))
}

fn payload_of<V: Clone + Send + Sync + 'static>(
    bench: &mut Bench,
    name: &str,
    payload: impl Fn() -> V,
) -> Result<()> {
    let all = contestants::<V>(&[ours::COARSE], 2 * MILLION as usize, LONG)?;
    let keys = Keys::short(MILLION);
    for entry in &all {
        // One allocation for each key, as in real use.
        keys.each(|key| entry.cache.set(key, payload()));
    }
    let work = Load::new(keys, Spread::Uniform, 10, 2, 200_000);
    let line = format!("90/10 uniform, 1 M keys, {name}, 2 threads");
    throughput(bench, &line, &without(&all, ""), &work, &payload(), |_| {})
}

/// As `mixed`, with keys of 40 characters.
fn long_keys(bench: &mut Bench) -> Result<()> {
    for (keys, name, goal) in [
        (
            Keys::digests(MILLION),
            "of 40 hexadecimal digits",
            Some(1.8),
        ),
        (Keys::long(MILLION), "of 40 characters", None),
    ] {
        let all = contestants(&[ours::COARSE], 2 * MILLION as usize, LONG)?;
        fill(&all, keys, &7_u64);
        let work = Load::new(keys, Spread::Uniform, 10, 2, 200_000);
        let line = format!("90/10 uniform, 1 M keys {name}, 2 threads");
        throughput(bench, &line, &without(&all, ""), &work, &7, |line| {
            if let Some(goal) = goal {
                line.goal(goal);
            }
        })?;
    }
    Ok(())
}

/// Many keys a call.
fn multi(bench: &mut Bench) -> Result<()> {
    let all = contestants(&[ours::COARSE], 2 * MILLION as usize, LONG)?;
    let keys = Keys::short(MILLION);
    fill(&all, keys, &7_u64);
    let work = Load::new(keys, Spread::Uniform, 0, 2, 200_000);
    let mut line = bench.line("get_multi of 100, 1 M keys, 2 threads");
    line.unit("keys/s").goal(2.0);
    for entry in &all {
        line.contestant(entry.name, entry.role, || {
            Ok(work.batches::<100>(|keys| {
                entry.cache.get_multi(keys);
            }))
        });
    }
    line.run()?;
    let mut line = bench.line("get_multi of 5, 1 M keys, 2 threads");
    line.unit("keys/s");
    for entry in &all {
        line.contestant(entry.name, entry.role, || {
            Ok(work.batches::<5>(|keys| {
                entry.cache.get_multi(keys);
            }))
        });
    }
    line.run()?;
    let mut line = bench.line("set_multi of 100, 1 M keys, 2 threads");
    line.unit("keys/s").goal(2.0);
    for entry in &all {
        line.contestant(entry.name, entry.role, || {
            Ok(work.batches::<100>(|keys| entry.cache.set_multi(keys, &7)))
        });
    }
    line.run()
}

/// The cost of a set by how many entries there are besides: the same thousand keys are
/// overwritten, so that the speed of memory stays out of it.
#[allow(clippy::cast_precision_loss)]
fn flat(bench: &mut Bench) -> Result<()> {
    let hot = Keys::short(1_000);
    let filled = |entries: u32| -> Result<DictBackend<u64>> {
        let cache = DictBackend::builder().expiration_time(LONG).build()?;
        Keys::short(entries).each(|key| {
            let _ = cache.set_sync(key, CachedValue::new(7));
        });
        Ok(cache)
    };
    let sizes = [
        ("10 M entries", filled(10 * MILLION)?),
        ("1 M entries", filled(MILLION)?),
        ("100 k entries", filled(100_000)?),
        ("10 k entries", filled(10_000)?),
        ("1 k entries", filled(1_000)?),
    ];
    let mut line = bench.line("set, by entries held besides");
    line.less_is_better("ns/set")
        .baseline("1 k entries")
        .goal(0.8);
    for (name, cache) in &sizes {
        line.contestant(name, Role::Ours, || {
            let begin = Instant::now();
            for _ in 0..500 {
                hot.each(|key| {
                    let _ = cache.set_sync(key, CachedValue::new(8));
                });
            }
            Ok(Sample::figure(
                begin.elapsed().as_nanos() as f64 / 500_000.0,
            ))
        });
    }
    for (name, entries) in [
        ("1 k, every set looks at all", 1_000),
        ("100 k, every set looks at all", 100_000),
    ] {
        let cache = Mutex::new(HashMap::new());
        Keys::short(entries).each(|key| {
            let deadline = Instant::now() + LONG;
            lock(&cache).insert(key.to_owned(), (7_u64, deadline));
        });
        line.contestant(name, Role::Peer, move || {
            let begin = Instant::now();
            Keys::short(50).each(|key| {
                // What the original does in Python, in Rust.
                let now = Instant::now();
                let mut cache = lock(&cache);
                cache.retain(|_, (_, deadline)| *deadline > now);
                cache.insert(key.to_owned(), (8, now + LONG));
            });
            Ok(Sample::figure(begin.elapsed().as_nanos() as f64 / 50.0))
        });
    }
    line.run()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn fill<V: Clone>(all: &[Contestant<V>], keys: Keys, value: &V) {
    for entry in all {
        keys.each(|key| entry.cache.set(key, value.clone()));
    }
}

/// A line of operations a second.
fn throughput<V: Clone + Sync>(
    bench: &mut Bench,
    name: &str,
    all: &[&Contestant<V>],
    work: &Load,
    value: &V,
    goal: impl FnOnce(&mut Line<'_>),
) -> Result<()> {
    let mut line = bench.line(name);
    goal(&mut line);
    for entry in all {
        line.contestant(entry.name, entry.role, || {
            Ok(work.single(
                |key| {
                    entry.cache.get(key);
                },
                |key| entry.cache.set(key, value.clone()),
            ))
        });
    }
    line.contestant("(making the keys)", Role::Overhead, || {
        Ok(work.single(
            |key| {
                std::hint::black_box(key);
            },
            |key| {
                std::hint::black_box(key);
            },
        ))
    });
    line.run()
}
