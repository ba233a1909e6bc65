//! The bound set by the machine: loads from about as much memory as a million entries use.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use comparison::measure::{Bench, Contestant, Sample};
use comparison::report::{Line, Role};
use fastrand::Rng;

/// One number per cache line, 64 MiB in total.
const LINES: usize = 1 << 20;
const LOADS_EACH: u64 = 400_000;

#[repr(align(64))]
struct CacheLine(u64);

pub(crate) fn line(bench: &mut Bench<'_>) -> Result<()> {
    let mut random = Rng::with_seed(1);
    let memory: Vec<CacheLine> = (0..LINES).map(|_| CacheLine(random.u64(..))).collect();
    #[allow(clippy::cast_possible_truncation)]
    let at = |n: u64| memory.get(n as usize % LINES).map_or(0, |line| line.0);
    let waiting = "each tells where the next is";
    let dependent = Contestant::new(waiting, Role::Limit, || {
        let begin = Instant::now();
        // Mixing in `n` avoids a short cycle.
        let number = (0..LOADS_EACH).fold(0, |number, n| at(number ^ n));
        black_box(number);
        Ok(Sample::nanoseconds(LOADS_EACH, begin.elapsed()))
    });
    let independent = Contestant::new("none waits for another", Role::Limit, || {
        let begin = Instant::now();
        let mut random = Rng::with_seed(2);
        let sum = (0..LOADS_EACH).fold(0_u64, |sum, _| sum.wrapping_add(at(random.u64(..))));
        black_box(sum);
        Ok(Sample::nanoseconds(LOADS_EACH, begin.elapsed()))
    });
    let line = Line::new("loads from 64 MiB, 1 thread");
    let line = line.less_is_better("ns").base(waiting);
    bench.compare(line, vec![dependent, independent])
}

pub(crate) const LOADS: &str = "(loads of a get, one get after another)";

/// The loads that no get of a key avoids: from 2 MiB, as much as the tags of a million entries, and
/// from 64 MiB. They do not wait for each other, but those of the next key wait for both.
pub(crate) struct Loads {
    tags: Vec<CacheLine>,
    slots: Vec<CacheLine>,
}

thread_local! {
    static LAST: Cell<u64> = const { Cell::new(0) };
}

impl Loads {
    pub(crate) fn new() -> Self {
        // All are zero, but the processor does not know.
        let lines = |count| (0..count).map(|_| CacheLine(black_box(0))).collect();
        let (tags, slots) = (lines(LINES / 32), lines(LINES));
        Self { tags, slots }
    }

    pub(crate) fn get(&self, key: &str) {
        let digits = key.as_bytes().last_chunk().copied().unwrap_or_default();
        let hash = u64::from_le_bytes(digits).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let waits_for = LAST.get();
        #[allow(clippy::cast_possible_truncation)]
        let at = |lines: &[CacheLine]| {
            let number = ((hash ^ waits_for) as usize * lines.len()) >> 32;
            lines.get(number).map_or(0, |line| line.0)
        };
        LAST.set(at(&self.tags) | at(&self.slots));
    }
}
