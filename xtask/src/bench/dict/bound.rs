//! What the machine allows: loads from as much memory as a million entries take.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;

use super::load::Random;
use crate::bench::harness::{Bench, Role, Sample};

/// One number a cache line, 64 MiB in all.
const LINES: usize = 1 << 20;
const LOADS: usize = 400_000;

#[repr(align(64))]
struct CacheLine(u64);

pub(super) fn line(bench: &mut Bench) -> Result<()> {
    let mut random = Random(1);
    let memory: Vec<CacheLine> = (0..LINES).map(|_| CacheLine(random.next())).collect();
    #[allow(clippy::cast_possible_truncation)]
    let at = |n: u64| memory.get(n as usize % LINES).map_or(0, |line| line.0);
    let mut line = bench.line("loads from 64 MiB, 1 thread");
    line.less_is_better("ns")
        .baseline("each tells where the next is");
    line.contestant("each tells where the next is", Role::Limit, move || {
        let begin = Instant::now();
        let mut number = 0;
        for n in 0..LOADS {
            // The count keeps it from running in a small circle.
            number = at(number ^ n as u64);
        }
        black_box(number);
        Ok(nanos_each(begin))
    });
    line.contestant("none waits for another", Role::Limit, move || {
        let begin = Instant::now();
        let mut random = Random(2);
        let sum = (0..LOADS).fold(0_u64, |sum, _| sum.wrapping_add(at(random.next())));
        black_box(sum);
        Ok(nanos_each(begin))
    });
    line.run()
}

#[allow(clippy::cast_precision_loss)]
fn nanos_each(begin: Instant) -> Sample {
    Sample::figure(begin.elapsed().as_nanos() as f64 / LOADS as f64)
}
