//! Keys, access patterns, and the threads that run them.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use comparison::measure::Sample;
use fastrand::Rng;

/// Numbered keys, formatted into a buffer on use: reading them from memory would cost as much as
/// the measured operation itself.
#[derive(Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) count: u32,
    /// Precedes the eight-digit number.
    pub(crate) prefix: &'static str,
}

pub(crate) const MILLION: u32 = 1_000_000;
pub(crate) const SHORT: Keys = Keys::short(MILLION);

const DIGITS: usize = 8;
const LONGEST: usize = 40;

impl Keys {
    /// Keys such as `user:000f4240`.
    pub(crate) const fn short(count: u32) -> Self {
        let prefix = "user:";
        Self { count, prefix }
    }

    /// Keys as long as the [short](Self::short) ones, but disjoint from them.
    pub(crate) const fn absent(count: u32) -> Self {
        let prefix = "item:";
        Self { count, prefix }
    }

    /// 40 hexadecimal digits, the form into which oslo.cache hashes keys.
    pub(crate) const fn digests(count: u32) -> Self {
        let prefix = "a62f2225bf70bfaccbc7f1ef2a397836";
        Self { count, prefix }
    }

    /// 40 characters, as a human would choose them.
    pub(crate) const fn long(count: u32) -> Self {
        let prefix = "tenant:7:project:12:user:profile";
        Self { count, prefix }
    }

    /// Visits each key once.
    pub(crate) fn each(self, mut visit: impl FnMut(&str)) {
        let mut buffer = self.buffer();
        for number in 0..self.count {
            visit(buffer.key(number));
        }
    }

    pub(crate) fn buffer(self) -> Buffer {
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

/// A buffer for one key.
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    bytes: [u8; LONGEST],
    prefix: usize,
}

impl Buffer {
    pub(crate) fn key(&mut self, number: u32) -> &str {
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

    pub(crate) fn written(&self) -> &str {
        let key = self.bytes.get(..self.prefix + DIGITS).unwrap_or_default();
        std::str::from_utf8(key).unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    Uniform,
    /// The probability of the key of rank n is proportional to n^-0.99, as in YCSB.
    Zipf,
}

/// The operations of each thread in a round.
pub(crate) struct Load {
    keys: Keys,
    /// The key numbers of each thread; the top bit marks a write.
    threads: Vec<Vec<u32>>,
}

const WRITE: u32 = 1 << 31;

/// The total number of operations, divided among the threads. A single thread does only half of
/// them, so that rounds last about equally long on two cores.
const OPERATIONS: usize = 800_000;

impl Load {
    /// `writes` is the percentage of writes.
    pub(crate) fn new(keys: Keys, spread: Spread, writes: u32, threads: usize) -> Self {
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

    /// One key per operation.
    pub(crate) fn single(&self, get: impl Fn(&str) + Sync, set: impl Fn(&str) + Sync) -> Sample {
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

    /// `N` keys per call.
    pub(crate) fn batches<const N: usize>(&self, call: impl Fn(&[&str]) + Sync) -> Sample {
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

/// Runs `work` on each of `shares` in a separate thread. Returns the time from the first start to
/// the last end, and the results.
pub(crate) fn side_by_side<T: Sync, R: Send>(
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

/// The cumulative distribution (unnormalized) of ranks.
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
    // Scatter popular keys.
    (rank * 7_368_787 % zipf.len()) as u32
}
