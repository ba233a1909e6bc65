//! The slowest thousandth of sets: alone, beside a reader of many keys, and while the cache grows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::load::{Buffer, Keys, Random, side_by_side};
use super::{Contestant, LONG, MILLION, contestant, contestants, fill, ours, peers};
use crate::bench::harness::{Bench, Role, Sample};

const UNIT: &str = "µs, p99.9";

pub(super) fn lines(bench: &mut Bench) -> Result<()> {
    let all = contestants::<u64>(&[ours::COARSE], 2 * MILLION as usize, LONG)?;
    fill(&all, Keys::short(MILLION), &7);
    let mut line = bench.line("slowest sets, 1 M keys, 2 threads");
    line.less_is_better(UNIT).goal(1.0);
    for entry in &all {
        line.contestant(entry.name, entry.role, || Ok(alone(entry)));
    }
    line.run()?;
    let mut line = bench.line("slowest sets beside get_multi of 100, 1 M keys, 2 threads");
    line.less_is_better(UNIT).goal(1.0);
    for entry in &all {
        line.contestant(entry.name, entry.role, || Ok(beside_get_multi(entry)));
    }
    line.run()?;
    drop(all);
    growing(bench)
}

fn alone(entry: &Contestant<u64>) -> Sample {
    let took = side_by_side(&[1, 2], |seed| {
        let mut random = Random(*seed);
        let set = |n| timed_set(entry, n);
        let took = (0..200_000).map(|_| set(random_key(&mut random)));
        took.collect::<Vec<_>>()
    });
    slowest(took.1.concat())
}

/// One thread sets for a while, the other one reads a hundred keys a call all the time.
fn beside_get_multi(entry: &Contestant<u64>) -> Sample {
    const LENGTH: Duration = Duration::from_millis(300);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(3);
            let mut buffers = [Keys::short(MILLION).buffer(); 100];
            while !done.load(Ordering::Relaxed) {
                for buffer in &mut buffers {
                    buffer.key(random_key(&mut random));
                }
                entry
                    .cache
                    .get_multi(&buffers.each_ref().map(Buffer::written));
            }
        });
        let mut random = Random(4);
        let mut took = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < LENGTH {
            took.push(timed_set(entry, random_key(&mut random)));
        }
        done.store(true, Ordering::Relaxed);
        slowest(took)
    })
}

/// From nothing to two million entries.
fn growing(bench: &mut Bench) -> Result<()> {
    let mut line = bench.line("slowest sets while growing to 2 M keys, 2 threads");
    line.less_is_better(UNIT).goal(1.0);
    let ours = [(ours::COARSE, Role::Ours)].into_iter();
    let peers = peers::NAMES.iter().map(|name| (*name, Role::Peer));
    for (name, role) in ours.chain(peers) {
        line.contestant(name, role, move || {
            let entry = contestant::<u64>(name, 3 * MILLION as usize, LONG)?;
            let took = side_by_side(&[0, MILLION], |first| {
                (*first..first + MILLION)
                    .map(|n| timed_set(&entry, n))
                    .collect::<Vec<_>>()
            });
            Ok(slowest(took.1.concat()))
        });
    }
    line.run()
}

fn random_key(random: &mut Random) -> u32 {
    u32::try_from(random.below(MILLION.into())).unwrap_or_default()
}

fn timed_set(entry: &Contestant<u64>, key: u32) -> Duration {
    let mut buffer = Keys::short(0).buffer();
    let key = buffer.key(key);
    let begin = Instant::now();
    entry.cache.set(key, 7);
    begin.elapsed()
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn slowest(mut took: Vec<Duration>) -> Sample {
    took.sort_unstable();
    let micros = |at: usize| {
        took.get(at)
            .map_or(0.0, |took| took.as_nanos() as f64 / 1e3)
    };
    let total: Duration = took.iter().sum();
    Sample::figure(micros(took.len() / 1_000 * 999))
        .with(
            "mean µs",
            total.as_nanos() as f64 / 1e3 / took.len().max(1) as f64,
        )
        .with("longest µs", micros(took.len().saturating_sub(1)))
        .with(
            "over 1 ms",
            took.iter().filter(|took| took.as_millis() > 0).count() as f64,
        )
}
