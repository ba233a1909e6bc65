//! The bound set by the machine: loads from about as much memory as a million entries use.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use anyhow::Result;
use comparison::measure::{Bench, Contestant, Sample};
use comparison::report::{Line, Role};
use fastrand::Rng;

/// One number per cache line, 64 MiB in total.
const LINES: usize = 1 << 20;
const LOADS_EACH: u64 = 400_000;
/// As many as cache-dict has.
const SHARDS: usize = 64;

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
pub(crate) struct Loads(Memory);

thread_local! {
    static LAST: Cell<u64> = const { Cell::new(0) };
}

impl Loads {
    pub(crate) fn new() -> Self {
        Self(Memory::new(LINES))
    }

    pub(crate) fn get(&self, key: &str) {
        LAST.set(self.0.at(hash(key) ^ LAST.get()));
    }
}

pub(crate) const LOCKED: &str = "(a read lock and the loads of each key)";

/// The same loads, each under the lock of a shard; those of the next key need not wait.
pub(crate) struct Locked(Vec<Shard>);

#[repr(align(128))]
struct Shard(RwLock<Memory>);

impl Locked {
    pub(crate) fn new() -> Self {
        let shard = || Shard(RwLock::new(Memory::new(LINES / SHARDS)));
        Self((0..SHARDS).map(|_| shard()).collect())
    }

    pub(crate) fn get_multi(&self, keys: &[&str]) {
        let sum = keys.iter().fold(0, |sum, key| {
            let hash = hash(key);
            #[allow(clippy::cast_possible_truncation)]
            let shard = self.0.get(hash as usize % SHARDS);
            let memory = shard.map(|shard| shard.0.read().unwrap_or_else(PoisonError::into_inner));
            sum ^ memory.map_or(0, |memory| memory.at(hash))
        });
        black_box(sum);
    }
}

struct Memory {
    tags: Vec<CacheLine>,
    slots: Vec<CacheLine>,
}

impl Memory {
    fn new(count: usize) -> Self {
        // All are zero, but the processor does not know.
        let lines = |count| (0..count).map(|_| CacheLine(black_box(0))).collect();
        let (tags, slots) = (lines(count / 32), lines(count));
        Self { tags, slots }
    }

    fn at(&self, hash: u64) -> u64 {
        #[allow(clippy::cast_possible_truncation)]
        let at = |lines: &[CacheLine]| {
            let number = (hash as usize * lines.len()) >> 32;
            lines.get(number).map_or(0, |line| line.0)
        };
        at(&self.tags) | at(&self.slots)
    }
}

/// 32 bits.
fn hash(key: &str) -> u64 {
    let digits = key.as_bytes().last_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(digits).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}
