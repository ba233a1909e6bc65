//! `cargo xtask bench dict`: cache-dict beside in-process caches and maps.

mod churn;
mod load;
mod memory;
mod ours;
mod peers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cache_core::CachedValue;
use cache_dict::DictBackend;

use super::harness::{Bench, Role, Sample};
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

/// All of them, for up to `capacity` entries that live for `ttl`.
fn contestants<V: Clone + Send + Sync + 'static>(
    capacity: usize,
    ttl: Duration,
) -> Result<Vec<Contestant<V>>> {
    let names = ours::NAMES.iter().chain(peers::NAMES);
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
    if let [word, name, entries] = arguments
        && word == memory::CHILD
    {
        return memory::child(name, entries.parse()?);
    }
    let options = Options::read(arguments)?;
    let mut bench = Bench::new(
        "dict",
        &[
            "cache-dict",
            "moka",
            "mini-moka",
            "quick_cache",
            "dashmap",
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
    ("mixed", mixed),
    ("hits", hits),
    ("payload", payload),
    ("longkeys", long_keys),
    ("multi", multi),
    ("churn", |bench| churn::line(bench)),
    ("flat", flat),
    ("memory", memory::lines),
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
    let all = contestants(2 * MILLION as usize, LONG)?;
    let keys = Keys::short(MILLION);
    fill(&all, keys, &7_u64);
    for (spread, name) in [(Spread::Uniform, "uniform"), (Spread::Zipf, "Zipf 0.99")] {
        for threads in [1, 2, 8] {
            let line = format!("90/10 {name}, 1 M keys, {threads} threads");
            let work = Load::new(keys, spread, 10, threads, 400_000);
            throughput(bench, &line, 2.0, &all, &work, &7)?;
        }
    }
    Ok(())
}

/// Reads that hit, of a few keys and of many.
fn hits(bench: &mut Bench) -> Result<()> {
    for (count, name) in [(1_000, "1 k"), (MILLION, "1 M")] {
        let all = contestants(2 * count as usize, LONG)?;
        let keys = Keys::short(count);
        fill(&all, keys, &7_u64);
        for threads in [1, 2] {
            let line = format!("hits, {name} keys, {threads} threads");
            let work = Load::new(keys, Spread::Uniform, 0, threads, 500_000);
            throughput(bench, &line, 1.5, &all, &work, &7)?;
        }
    }
    Ok(())
}

/// As `mixed`, with shared payloads of 100 bytes.
fn payload(bench: &mut Bench) -> Result<()> {
    let all = contestants::<Arc<[u8]>>(2 * MILLION as usize, LONG)?;
    let keys = Keys::short(MILLION);
    let value: Arc<[u8]> = Arc::from([7_u8; 100]);
    for entry in &all {
        // One allocation for each key, as in real use.
        keys.each(|key| entry.cache.set(key, Arc::from([7_u8; 100])));
    }
    let work = Load::new(keys, Spread::Uniform, 10, 2, 300_000);
    let line = "90/10 uniform, 1 M keys, 100 B shared payloads, 2 threads";
    throughput(bench, line, 2.0, &all, &work, &value)
}

/// As `mixed`, with keys of 40 characters, as oslo.cache makes them.
fn long_keys(bench: &mut Bench) -> Result<()> {
    let all = contestants(2 * MILLION as usize, LONG)?;
    let keys = Keys::long(MILLION);
    fill(&all, keys, &7_u64);
    let work = Load::new(keys, Spread::Uniform, 10, 2, 300_000);
    let line = "90/10 uniform, 1 M keys of 40 characters, 2 threads";
    throughput(bench, line, 2.0, &all, &work, &7)
}

/// 100 keys a call.
fn multi(bench: &mut Bench) -> Result<()> {
    let all = contestants(2 * MILLION as usize, LONG)?;
    let keys = Keys::short(MILLION);
    fill(&all, keys, &7_u64);
    let work = Load::new(keys, Spread::Uniform, 0, 2, 300_000);
    let mut line = bench.line("get_multi of 100, 1 M keys, 2 threads");
    line.unit("keys/s").goal(1.5);
    for entry in &all {
        line.contestant(entry.name, entry.role, || {
            Ok(work.batches::<100>(|keys| {
                entry.cache.get_multi(keys);
            }))
        });
    }
    line.run()?;
    let mut line = bench.line("set_multi of 100, 1 M keys, 2 threads");
    line.unit("keys/s").goal(1.5);
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
    goal: f64,
    all: &[Contestant<V>],
    work: &Load,
    value: &V,
) -> Result<()> {
    let mut line = bench.line(name);
    line.goal(goal);
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
