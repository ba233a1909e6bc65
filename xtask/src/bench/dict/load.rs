//! Keys, the order in which they are requested, and the threads that request them.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::harness::Sample;

/// Numbered keys. They are written into a buffer when needed: reading them from memory would
/// cost every contestant the same again as its own work.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) count: u32,
    /// Precedes the number of eight digits.
    pub(super) prefix: &'static str,
}

const DIGITS: usize = 8;
const LONGEST: usize = 40;

impl Keys {
    /// As `user:000f4240`.
    pub(super) fn short(count: u32) -> Self {
        let prefix = "user:";
        Self { count, prefix }
    }

    /// Short keys, none of which is among the [short](Self::short) ones.
    pub(super) fn absent(count: u32) -> Self {
        let prefix = "item:";
        Self { count, prefix }
    }

    /// 40 hexadecimal digits, as oslo.cache makes them of any key.
    pub(super) fn digests(count: u32) -> Self {
        let prefix = "a62f2225bf70bfaccbc7f1ef2a397836";
        Self { count, prefix }
    }

    /// 40 characters, as a person would choose them.
    pub(super) fn long(count: u32) -> Self {
        let prefix = "tenant:7:project:12:user:profile";
        Self { count, prefix }
    }

    /// Each key once.
    pub(super) fn each(self, mut visit: impl FnMut(&str)) {
        let mut buffer = self.buffer();
        for number in 0..self.count {
            visit(buffer.key(number));
        }
    }

    pub(super) fn buffer(self) -> Buffer {
        let mut bytes = [0; LONGEST];
        for (to, from) in bytes.iter_mut().zip(self.prefix.bytes()) {
            *to = from;
        }
        Buffer {
            bytes,
            prefix: self.prefix.len(),
        }
    }
}

/// Room for one key.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    bytes: [u8; LONGEST],
    prefix: usize,
}

impl Buffer {
    pub(super) fn key(&mut self, number: u32) -> &str {
        let len = self.prefix + DIGITS;
        if let Some(digits) = self.bytes.get_mut(self.prefix..len) {
            for (shift, digit) in (0..32).step_by(4).rev().zip(digits) {
                let value = number >> shift & 0xf;
                let digits = b"0123456789abcdef";
                *digit = digits.get(value as usize).copied().unwrap_or_default();
            }
        }
        self.written()
    }

    pub(super) fn written(&self) -> &str {
        let key = self.bytes.get(..self.prefix + DIGITS).unwrap_or_default();
        std::str::from_utf8(key).unwrap_or_default()
    }
}

#[derive(Clone, Copy)]
pub(super) enum Spread {
    Uniform,
    /// The key of rank n is asked for in proportion to n^-0.99, as in YCSB.
    Zipf,
}

/// What each thread does in a round.
pub(super) struct Load {
    keys: Keys,
    /// For each thread, the numbers of the keys; the top bit says that it is written.
    threads: Vec<Vec<u32>>,
}

const WRITE: u32 = 1 << 31;

impl Load {
    /// `operations` for each thread, of which so many in a hundred are writes.
    pub(super) fn new(
        keys: Keys,
        spread: Spread,
        writes: u64,
        threads: usize,
        operations: usize,
    ) -> Self {
        let zipf = Zipf::new(keys.count);
        // All threads together do the same, however many there are; two cores do the work.
        let operations = operations * 2 / threads.max(2);
        let of_thread = |seed| {
            let mut random = Random(seed);
            let mut draw = || {
                let number = match spread {
                    Spread::Uniform => random.below(keys.count.into()),
                    Spread::Zipf => zipf.draw(&mut random),
                };
                let write = if random.below(100) < writes { WRITE } else { 0 };
                u32::try_from(number).unwrap_or_default() | write
            };
            (0..operations).map(|_| draw()).collect()
        };
        Self {
            keys,
            threads: (1..=threads as u64).map(of_thread).collect(),
        }
    }

    /// One operation after the other.
    pub(super) fn single(&self, get: impl Fn(&str) + Sync, set: impl Fn(&str) + Sync) -> Sample {
        let (elapsed, _) = side_by_side(&self.threads, |numbers| {
            let mut buffer = self.keys.buffer();
            for number in numbers {
                let key = buffer.key(number & !WRITE);
                if number & WRITE == 0 {
                    get(key);
                } else {
                    set(key);
                }
            }
        });
        self.sample(elapsed)
    }

    /// `N` keys a call.
    pub(super) fn batches<const N: usize>(&self, call: impl Fn(&[&str]) + Sync) -> Sample {
        let (elapsed, _) = side_by_side(&self.threads, |numbers| {
            let mut buffers = [self.keys.buffer(); N];
            for numbers in numbers.chunks_exact(N) {
                for (buffer, number) in buffers.iter_mut().zip(numbers) {
                    buffer.key(*number & !WRITE);
                }
                call(&buffers.each_ref().map(Buffer::written));
            }
        });
        self.sample(elapsed)
    }

    fn sample(&self, elapsed: Duration) -> Sample {
        let operations = self.threads.iter().map(Vec::len).sum::<usize>();
        Sample::operations(operations as u64, elapsed)
    }
}

/// Runs `work` with each of `shares` in a thread of its own; returns the time from the first begin
/// to the last end, and what each has returned.
pub(super) fn side_by_side<T: Sync, R: Send>(
    shares: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> (Duration, Vec<R>) {
    let barrier = Barrier::new(shares.len());
    let (barrier, work) = (&barrier, &work);
    let spans: Vec<(Instant, Instant, R)> = thread::scope(|scope| {
        let started: Vec<_> = shares
            .iter()
            .map(|share| {
                scope.spawn(move || {
                    barrier.wait();
                    let begin = Instant::now();
                    let returned = work(share);
                    (begin, Instant::now(), returned)
                })
            })
            .collect();
        started
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    });
    let begin = spans.iter().map(|(begin, _, _)| *begin).min();
    let end = spans.iter().map(|(_, end, _)| *end).max();
    let elapsed = end
        .zip(begin)
        .map_or(Duration::MAX, |(end, begin)| end - begin);
    let returned = spans.into_iter().map(|(_, _, returned)| returned);
    (elapsed, returned.collect())
}

/// Marsaglia's xorshift: good enough to pick keys.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(0x9e37);
        let mut x = self.0;
        x ^= x >> 32;
        x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^ (x >> 32)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// Draws ranks by the inverse of the cumulative distribution.
struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    fn new(count: u32) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=count).map(|rank| {
            sum += f64::from(rank).powf(-0.99);
            sum
        });
        Self {
            cumulative: cumulative.collect(),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn draw(&self, random: &mut Random) -> u64 {
        let total = self.cumulative.last().copied().unwrap_or_default();
        let point = random.next() as f64 / u64::MAX as f64 * total;
        let rank = self.cumulative.partition_point(|sum| *sum < point) as u64;
        // Popular keys are not adjacent.
        let count = self.cumulative.len() as u64;
        (rank * 7_368_787) % count
    }
}
