//! The bound set by the machine: loads from about as much memory as a million entries use.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use fastrand::Rng;

use crate::bench::measure::{Bench, Contestant, Sample};
use crate::bench::report::{Line, Role};

/// One number per cache line, 64 MiB in total.
const LINES: usize = 1 << 20;
const LOADS: u64 = 400_000;

#[repr(align(64))]
struct CacheLine(u64);

pub(super) fn line(bench: &mut Bench<'_>) -> Result<()> {
    let mut random = Rng::with_seed(1);
    let memory: Vec<CacheLine> = (0..LINES).map(|_| CacheLine(random.u64(..))).collect();
    #[allow(clippy::cast_possible_truncation)]
    let at = |n: u64| memory.get(n as usize % LINES).map_or(0, |line| line.0);
    let waiting = "each tells where the next is";
    let dependent = Contestant::new(waiting, Role::Limit, || {
        let begin = Instant::now();
        // Mixing in `n` avoids a short cycle.
        let number = (0..LOADS).fold(0, |number, n| at(number ^ n));
        black_box(number);
        Ok(Sample::nanoseconds(LOADS, begin.elapsed()))
    });
    let independent = Contestant::new("none waits for another", Role::Limit, || {
        let begin = Instant::now();
        let mut random = Rng::with_seed(2);
        let sum = (0..LOADS).fold(0_u64, |sum, _| sum.wrapping_add(at(random.u64(..))));
        black_box(sum);
        Ok(Sample::nanoseconds(LOADS, begin.elapsed()))
    });
    let line = Line::new("loads from 64 MiB, 1 thread");
    let line = line.less_is_better("ns").base(waiting);
    bench.compare(line, vec![dependent, independent])
}
