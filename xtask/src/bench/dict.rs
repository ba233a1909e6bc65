//! `cargo xtask bench dict`: cache-dict beside in-process caches and maps.

mod bound;
mod churn;
mod contestants;
mod load;
mod memory;
mod tail;

use std::iter::once;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cache_core::CachedValue;
use cache_dict::DictBackend;
use clap::Parser;

use super::harness::{Bench, Line, Role, Sample};
use contestants::{COARSE, Cache, Contestant, EXACT, PAPAYA};
use load::{Keys, Load, Spread};

const MILLION: u32 = 1_000_000;

/// Long enough that nothing expires while it is measured.
const LONG: Duration = Duration::from_secs(3600);

/// Measures cache-dict and other maps and caches in process.
#[derive(Parser)]
#[command(name = "cargo xtask bench dict")]
struct Options {
    /// Rounds of each line, interleaved
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only these parts, such as `mixed,hits`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

type Part = fn(&mut Bench) -> Result<()>;

/// What `--only` selects from.
const PARTS: &[(&str, Part)] = &[
    ("bound", bound::line),
    ("mixed", mixed),
    ("hits", hits),
    ("misses", misses),
    ("sets", sets),
    ("payload", payload),
    ("longkeys", long_keys),
    ("multi", multi),
    ("churn", churn::lines),
    ("tail", tail::lines),
    ("flat", flat),
    ("memory", memory::lines),
];

/// One of each kind: many single keys, a few hot ones, many keys a call, expiry, memory.
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

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    if let [word, name, prefix, count] = arguments
        && word == memory::CHILD
    {
        return memory::child(name, prefix, count.parse()?);
    }
    let name = String::from("dict");
    let options = Options::parse_from(once(&name).chain(arguments));
    for part in &options.only {
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        ensure!(
            names.contains(&part.as_str()),
            "cannot measure `{part}`: no part has this name; choose from {}",
            names.join(",")
        );
    }
    let mut bench = Bench::new("dict", CRATES)?;
    bench.headlines(HEADLINES).rounds(options.rounds);
    if !options.only.is_empty() {
        bench.partial();
    }
    for (name, part) in PARTS {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            part(&mut bench)?;
        }
    }
    bench.finish()
}

/// Nine reads to one write over a million keys, all of them there.
fn mixed(bench: &mut Bench) -> Result<()> {
    let keys = Keys::short(MILLION);
    let all = filled(&[COARSE, EXACT], keys, || 7_u64)?;
    for (spread, name) in [(Spread::Uniform, "uniform"), (Spread::Zipf, "Zipf 0.99")] {
        for (threads, goal) in [(1, 1.8), (2, 2.0), (8, 2.0)] {
            let name = format!("90/10 {name}, 1 M keys, {threads} threads");
            let load = Load::new(keys, spread, 10, threads, 200_000);
            let mut line = throughput(bench, &name, COARSE, &all, &load, &7);
            line.goal(goal);
            line.run()?;
            if threads == 2 {
                let name = format!("{name}, exact clock");
                let mut line = throughput(bench, &name, EXACT, &all, &load, &7);
                line.goal(1.5);
                line.run()?;
            }
        }
    }
    Ok(())
}

/// Reads that hit, of a few keys and of many.
fn hits(bench: &mut Bench) -> Result<()> {
    for (count, name) in [(1_000, "1 k"), (MILLION, "1 M")] {
        let keys = Keys::short(count);
        let all = filled(&[COARSE], keys, || 7_u64)?;
        for threads in [1, 2, 8] {
            let name = format!("hits, {name} keys, {threads} threads");
            let load = Load::new(keys, Spread::Uniform, 0, threads, 400_000);
            let mut line = throughput(bench, &name, COARSE, &all, &load, &7);
            if count == 1_000 {
                // The goal is for peers whose reads take locks, as ours do.
                line.goal(1.3).beside_the_goal(&[PAPAYA]);
            }
            line.run()?;
        }
    }
    Ok(())
}

/// Reads of keys that are not there.
fn misses(bench: &mut Bench) -> Result<()> {
    let all = filled(&[COARSE], Keys::short(1_000), || 7_u64)?;
    let load = Load::new(Keys::absent(1_000), Spread::Uniform, 0, 2, 400_000);
    let name = "misses, 1 k keys, 2 threads";
    let mut line = throughput(bench, name, COARSE, &all, &load, &7);
    line.goal(1.0);
    line.run()
}

/// Nine writes to one read.
fn sets(bench: &mut Bench) -> Result<()> {
    let keys = Keys::short(MILLION);
    let all = filled(&[COARSE], keys, || 7_u64)?;
    let load = Load::new(keys, Spread::Uniform, 90, 2, 200_000);
    let name = "10/90 uniform, 1 M keys, 2 threads";
    throughput(bench, name, COARSE, &all, &load, &7).run()
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
    let keys = Keys::short(MILLION);
    // One allocation for each key, as in real use.
    let all = filled(&[COARSE], keys, &payload)?;
    let load = Load::new(keys, Spread::Uniform, 10, 2, 200_000);
    let name = format!("90/10 uniform, 1 M keys, {name}, 2 threads");
    throughput(bench, &name, COARSE, &all, &load, &payload()).run()
}

/// As `mixed`, with keys of 40 characters.
fn long_keys(bench: &mut Bench) -> Result<()> {
    for (keys, name) in [
        (Keys::digests(MILLION), "of 40 hexadecimal digits"),
        (Keys::long(MILLION), "of 40 characters"),
    ] {
        let all = filled(&[COARSE], keys, || 7_u64)?;
        let load = Load::new(keys, Spread::Uniform, 10, 2, 200_000);
        let name = format!("90/10 uniform, 1 M keys {name}, 2 threads");
        let mut line = throughput(bench, &name, COARSE, &all, &load, &7);
        line.goal(1.8);
        line.run()?;
    }
    Ok(())
}

/// Many keys a call.
fn multi(bench: &mut Bench) -> Result<()> {
    let keys = Keys::short(MILLION);
    let all = filled(&[COARSE], keys, || 7_u64)?;
    let load = Load::new(keys, Spread::Uniform, 0, 2, 200_000);
    let mut line = |name: &str, goal, run: &dyn Fn(&dyn Cache<u64>) -> Sample| {
        let mut line = bench.line(&format!("{name}, 1 M keys, 2 threads"));
        line.unit("keys/s").goal(goal);
        for entry in &all {
            line.contestant(entry.name, entry.role, || Ok(run(entry.cache.as_ref())));
        }
        line.run()
    };
    line("get_multi of 100", 2.0, &|cache| {
        load.batches::<100>(|keys| {
            cache.get_multi(keys);
        })
    })?;
    line("get_multi of 5", 2.0, &|cache| {
        load.batches::<5>(|keys| {
            cache.get_multi(keys);
        })
    })?;
    line("set_multi of 100", 2.0, &|cache| {
        load.batches::<100>(|keys| cache.set_multi(keys, &7))
    })
}

/// The cost of a set by how many entries there are besides: the same thousand keys are
/// overwritten, so that the speed of memory stays out of it.
#[allow(clippy::cast_precision_loss)]
fn flat(bench: &mut Bench) -> Result<()> {
    let hot = Keys::short(1_000);
    let mut line = bench.line("set, by entries held besides");
    line.less_is_better("ns/set").baseline("1 k entries");
    line.goal(0.8);
    for (name, entries) in [
        ("10 M entries", 10 * MILLION),
        ("1 M entries", MILLION),
        ("100 k entries", 100_000),
        ("10 k entries", 10_000),
        ("1 k entries", 1_000),
    ] {
        let cache = DictBackend::builder().expiration_time(LONG).build()?;
        Keys::short(entries).each(|key| cache.set_sync(key, CachedValue::new(7_u64)));
        line.contestant(name, Role::Ours, move || {
            let begin = Instant::now();
            for _ in 0..500 {
                hot.each(|key| cache.set_sync(key, CachedValue::new(8)));
            }
            let nanos = begin.elapsed().as_nanos() as f64;
            Ok(Sample::figure(nanos / 500_000.0))
        });
    }
    line.run()
}

/// The named variants of ours and all peers, holding a value under each key.
fn filled<V: Clone + Send + Sync + 'static>(
    ours: &[&'static str],
    keys: Keys,
    value: impl Fn() -> V,
) -> Result<Vec<Contestant<V>>> {
    let all = contestants::all(ours, 2 * keys.count as usize, LONG)?;
    for entry in &all {
        keys.each(|key| entry.cache.set(key, value()));
    }
    Ok(all)
}

/// A line of operations a second, of the named variant of ours and all peers.
fn throughput<'a, V: Clone + Sync>(
    bench: &'a mut Bench,
    name: &str,
    ours: &str,
    all: &'a [Contestant<V>],
    load: &'a Load,
    value: &'a V,
) -> Line<'a> {
    let mut line = bench.line(name);
    let takes_part = |entry: &&Contestant<V>| entry.role == Role::Peer || entry.name == ours;
    for entry in all.iter().filter(takes_part) {
        let cache = entry.cache.as_ref();
        line.contestant(entry.name, entry.role, move || {
            Ok(load.single(
                |key| drop(cache.get(key)),
                |key| cache.set(key, value.clone()),
            ))
        });
    }
    line.contestant("(making the keys)", Role::Overhead, move || {
        let nothing = |key: &str| {
            std::hint::black_box(key);
        };
        Ok(load.single(nothing, nothing))
    });
    line
}
