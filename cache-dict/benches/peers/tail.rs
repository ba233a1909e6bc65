//! Tail latency (p99.9) of sets: alone, alongside multi-key reads, and while the cache grows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use comparison::measure::{Bench, Contestant, Sample, per_mille};
use comparison::report::Line;
use fastrand::Rng;

use crate::contestants::{COARSE, Cache, EXACT, LONG, all, contestants, filled, make};
use crate::load::{Buffer, Keys, MILLION, SHORT, side_by_side};

const ALONE: &str = "slowest sets, 1 M keys, 2 threads";
const BESIDE: &str = "slowest sets beside get_multi of 100, 1 M keys, 2 threads";
const GROWING: &str = "slowest sets while growing to 2 M keys, 2 threads";

pub(crate) fn lines(bench: &mut Bench<'_>) -> Result<()> {
    let line = |name| Line {
        goal: Some(1.0),
        ..Line::new(name).less_is_better("µs, p99.9")
    };
    if bench.wants(ALONE) || bench.wants(BESIDE) {
        let all = filled(SHORT, || 7)?;
        bench.compare(line(ALONE), contestants(&all, COARSE, alone))?;
        bench.compare(line(BESIDE), contestants(&all, COARSE, beside_get_multi))?;
    }
    let names = all::<u64>(1, LONG)?;
    let names = names.iter().filter(|entry| entry.name != EXACT);
    let contestants = names.map(|entry| {
        let name = entry.name;
        Contestant::new(name, entry.role, move || growing(name))
    });
    let line = Line {
        reason: "a table that grows is moved whole, under its lock; ours are smaller than the peer's, \
                 so more sets wait, each for a shorter time: compare `longest µs`",
        ..line(GROWING)
    };
    bench.compare(line, contestants.collect())
}

fn alone(cache: &dyn Cache<u64>) -> Sample {
    let (_, took) = side_by_side(&[1, 2], |seed| {
        let mut random = Rng::with_seed(*seed);
        let took = (0..200_000).map(|_| timed_set(cache, random.u32(..MILLION)));
        took.collect::<Vec<_>>()
    });
    slowest(took.concat())
}

/// One thread sets keys while another continuously reads a hundred keys per call.
fn beside_get_multi(cache: &dyn Cache<u64>) -> Sample {
    const LENGTH: Duration = Duration::from_millis(300);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Rng::with_seed(3);
            let mut buffers = [SHORT.buffer(); 100];
            while !done.load(Ordering::Relaxed) {
                for buffer in &mut buffers {
                    buffer.key(random.u32(..MILLION));
                }
                cache.get_multi(&buffers.each_ref().map(Buffer::written));
            }
        });
        let mut random = Rng::with_seed(4);
        let mut took = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < LENGTH {
            took.push(timed_set(cache, random.u32(..MILLION)));
        }
        done.store(true, Ordering::Relaxed);
        slowest(took)
    })
}

/// Grows the cache from empty to two million entries.
fn growing(name: &'static str) -> Result<Sample> {
    let entry = make::<u64>(name, 3 * MILLION as usize, LONG)?;
    let (_, took) = side_by_side(&[0, MILLION], |first| {
        let keys = *first..first + MILLION;
        keys.map(|key| timed_set(entry.cache.as_ref(), key))
            .collect::<Vec<_>>()
    });
    Ok(slowest(took.concat()))
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
    let over = took.iter().filter(|took| took.as_millis() > 0).count();
    let mut micros = |thousandths| per_mille(&mut took, thousandths).as_secs_f64() * 1e6;
    Sample::figure(micros(999))
        .with("longest µs", micros(1000))
        .with("over 1 ms", over as f64)
}
