//! Keys, the order in which they are requested, and the threads that request them.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::bench::measure::Sample;

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
    pub(super) const fn short(count: u32) -> Self {
        let prefix = "user:";
        Self { count, prefix }
    }

    /// Short keys, none of which is among the [short](Self::short) ones.
    pub(super) const fn absent(count: u32) -> Self {
        let prefix = "item:";
        Self { count, prefix }
    }

    /// 40 hexadecimal digits, as oslo.cache makes them of any key.
    pub(super) const fn digests(count: u32) -> Self {
        let prefix = "a62f2225bf70bfaccbc7f1ef2a397836";
        Self { count, prefix }
    }

    /// 40 characters, as a person would choose them.
    pub(super) const fn long(count: u32) -> Self {
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

#[derive(Clone, Copy, PartialEq, Eq)]
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

/// All threads together do the same, however many there are; two cores do the work.
const OPERATIONS: usize = 800_000;

impl Load {
    /// So many operations in a hundred are writes.
    pub(super) fn new(keys: Keys, spread: Spread, writes: u32, threads: usize) -> Self {
        let zipf = if spread == Spread::Zipf {
            zipf(keys.count)
        } else {
            Vec::new()
        };
        let of_thread = |seed| {
            let mut random = Rng::with_seed(seed);
            let mut draw = || {
                let number = match spread {
                    Spread::Uniform => random.u32(..keys.count),
                    Spread::Zipf => draw(&zipf, &mut random),
                };
                let write = if random.u32(..100) < writes { WRITE } else { 0 };
                number | write
            };
            (0..OPERATIONS / threads.max(2)).map(|_| draw()).collect()
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

/// The cumulative distribution of ranks.
fn zipf(count: u32) -> Vec<f64> {
    let mut sum = 0.0;
    let ranks = (1..=count).map(|rank| {
        sum += f64::from(rank).powf(-0.99);
        sum
    });
    ranks.collect()
}

#[allow(clippy::cast_possible_truncation)]
fn draw(zipf: &[f64], random: &mut Rng) -> u32 {
    let point = random.f64() * zipf.last().copied().unwrap_or_default();
    let rank = zipf.partition_point(|sum| *sum < point);
    // Popular keys are not adjacent.
    (rank * 7_368_787 % zipf.len()) as u32
}
