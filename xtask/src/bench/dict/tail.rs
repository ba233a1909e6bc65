//! The slowest thousandth of sets: alone, beside a reader of many keys, and while the cache grows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::contestants::{COARSE, Cache, PEERS, make};
use super::load::{Buffer, Keys, Random, side_by_side};
use super::{LONG, MILLION, filled};
use crate::bench::harness::{Bench, Line, Role, Sample};

pub(super) fn lines(bench: &mut Bench) -> Result<()> {
    let all = filled(&[COARSE], Keys::short(MILLION), || 7)?;
    let mut line = tail_line(bench, "slowest sets, 1 M keys, 2 threads");
    for entry in &all {
        line.contestant(entry.name, entry.role, || Ok(alone(entry.cache.as_ref())));
    }
    line.run()?;
    let mut line = tail_line(
        bench,
        "slowest sets beside get_multi of 100, 1 M keys, 2 threads",
    );
    for entry in &all {
        line.contestant(entry.name, entry.role, || {
            Ok(beside_get_multi(entry.cache.as_ref()))
        });
    }
    line.run()?;
    drop(all);
    let mut line = tail_line(bench, "slowest sets while growing to 2 M keys, 2 threads");
    let peers = PEERS.iter().map(|name| (*name, Role::Peer));
    for (name, role) in [(COARSE, Role::Ours)].into_iter().chain(peers) {
        line.contestant(name, role, move || growing(name));
    }
    line.run()
}

fn tail_line<'a>(bench: &'a mut Bench, name: &str) -> Line<'a> {
    let mut line = bench.line(name);
    line.less_is_better("µs, p99.9").goal(1.0);
    line
}

fn alone(cache: &dyn Cache<u64>) -> Sample {
    let (_, took) = side_by_side(&[1, 2], |seed| {
        let mut random = Random(*seed);
        let took = (0..200_000).map(|_| timed_set(cache, random_key(&mut random)));
        took.collect::<Vec<_>>()
    });
    slowest(took.concat())
}

/// One thread sets for a while, the other one reads a hundred keys a call all the time.
fn beside_get_multi(cache: &dyn Cache<u64>) -> Sample {
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
                cache.get_multi(&buffers.each_ref().map(Buffer::written));
            }
        });
        let mut random = Random(4);
        let mut took = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < LENGTH {
            took.push(timed_set(cache, random_key(&mut random)));
        }
        done.store(true, Ordering::Relaxed);
        slowest(took)
    })
}

/// From nothing to two million entries.
fn growing(name: &str) -> Result<Sample> {
    let entry = make::<u64>(name, 3 * MILLION as usize, LONG)?;
    let (_, took) = side_by_side(&[0, MILLION], |first| {
        let keys = *first..first + MILLION;
        keys.map(|key| timed_set(entry.cache.as_ref(), key))
            .collect::<Vec<_>>()
    });
    Ok(slowest(took.concat()))
}

fn random_key(random: &mut Random) -> u32 {
    u32::try_from(random.below(MILLION.into())).unwrap_or_default()
}

fn timed_set(cache: &dyn Cache<u64>, key: u32) -> Duration {
    let mut buffer = Keys::short(0).buffer();
    let key = buffer.key(key);
    let begin = Instant::now();
    cache.set(key, 7);
    begin.elapsed()
}

#[allow(clippy::cast_precision_loss)]
fn slowest(mut took: Vec<Duration>) -> Sample {
    took.sort_unstable();
    let micros = |index: usize| took.get(index).map_or(0.0, |took| took.as_secs_f64() * 1e6);
    Sample::figure(micros(took.len() / 1_000 * 999))
        .with("longest µs", micros(took.len().saturating_sub(1)))
        .with(
            "over 1 ms",
            took.iter().filter(|took| took.as_millis() > 0).count() as f64,
        )
}
