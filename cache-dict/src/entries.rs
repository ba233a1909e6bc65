//! [`Entries`], all that a backend holds, shard by shard.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use cache_core::{CachedValue, Ttl};
use crossbeam_utils::CachePadded;

use crate::clock::{self, NEVER, Time};
use crate::config::DictConfig;
use crate::hash::{KeyHash, KeyHasher};
use crate::multi::{CHUNK, Grouped};
use crate::shard::{Counts, Garbage, Shard, Stored};
use crate::stats::DictStats;
use crate::sweep::{REAP_PER_HOLD, Sweep};

/// How many parts the entries are divided into, each under a lock of its own.
const SHARDS: usize = 64;

/// A shard gets no fewer entries than these when there is a bound on all.
const FEWEST_PER_SHARD: usize = 128;

/// How many entries that are due a write looks at in its own shard: it adds one, so the shard
/// catches up.
const REAP_PER_SET: usize = 32;

/// The entries, divided among shards by the hash of their keys, and what it takes to read and
/// write them: one hash and one clock for all.
pub(crate) struct Entries<V> {
    shards: Box<[CachePadded<RwLock<Shard<V>>>]>,
    hasher: KeyHasher,
    time: Time,
    config: DictConfig,
    sweep: Sweep,
}

impl<V> Entries<V> {
    pub(crate) fn new(config: DictConfig, time: Time) -> Self {
        let limits = limits(config.max_entries);
        let shards = limits.map(|limit| CachePadded::new(RwLock::new(Shard::new(limit))));
        Self {
            shards: shards.collect(),
            hasher: KeyHasher::new(),
            time,
            sweep: Sweep::new(config.expiration_time),
            config,
        }
    }

    pub(crate) fn config(&self) -> &DictConfig {
        &self.config
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).len()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| read(shard).len() == 0)
    }

    pub(crate) fn clear(&self) {
        // First take all, then drop: a payload whose `drop` panics keeps nothing in.
        let taken: Vec<Shard<V>> = self
            .shards
            .iter()
            .map(|shard| write(shard).take())
            .collect();
        drop(taken);
    }

    /// Removes all that has expired.
    pub(crate) fn purge(&self) {
        let now = self.time.now();
        for shard in &self.shards {
            write(shard).hurry(now);
            loop {
                let mut garbage = Garbage::new();
                let left = write(shard).reap(now, REAP_PER_HOLD, &self.hasher, &mut garbage);
                if left > 0 {
                    break;
                }
            }
        }
    }

    pub(crate) fn stats(&self) -> DictStats {
        let mut stats = DictStats {
            entries: 0,
            expired: 0,
            evicted: 0,
        };
        for shard in &self.shards {
            let shard = read(shard);
            let Counts { expired, evicted } = shard.counts();
            stats.entries += shard.len();
            stats.expired += expired;
            stats.evicted += evicted;
        }
        stats
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the number is below that of the shards"
    )]
    fn shard(&self, hash: KeyHash) -> &RwLock<Shard<V>> {
        &self.shards[self.shard_number(hash)]
    }

    /// There is a power of two of them.
    fn shard_number(&self, hash: KeyHash) -> usize {
        hash.high() as usize & (self.shards.len() - 1)
    }
}

impl<V: Clone> Entries<V> {
    #[inline]
    pub(crate) fn get(&self, key: &str) -> Option<CachedValue<V>> {
        let hash = self.hasher.hash(key.as_bytes());
        let shard = read(self.shard(hash));
        shard
            .get(key, hash)
            .and_then(|stored| answer(stored, || self.time.now()))
    }

    pub(crate) fn set(&self, key: &str, value: CachedValue<V>) {
        let hash = self.hasher.hash(key.as_bytes());
        let mut now = None;
        let stored = self.stored(value, &mut now);
        let mut garbage = Garbage::new();
        let mut shard = write(self.shard(hash));
        self.write_one(&mut shard, key, hash, stored, &mut now, &mut garbage);
        drop(shard);
        drop(garbage);
        self.sweep_in_turn(now);
    }

    pub(crate) fn delete(&self, key: &str) {
        let hash = self.hasher.hash(key.as_bytes());
        let mut garbage = Garbage::new();
        write(self.shard(hash)).delete(key, hash, &self.hasher, &mut garbage);
    }

    pub(crate) fn get_chunk(&self, keys: &[&str], found: &mut Vec<Option<CachedValue<V>>>) {
        let begin = found.len();
        found.resize_with(begin + keys.len(), || None);
        let Some(found) = found.get_mut(begin..) else {
            return;
        };
        let mut now = None;
        let grouped = Grouped::new(keys.iter().copied(), &self.hasher, self.shards.len());
        for group in grouped.portions() {
            // First all locks, in the order of the shards: nobody who holds one waits for one
            // before it. Between the lookups is then nothing that the processor has to wait
            // for, and it waits for the memory of several at a time.
            let mut locked = Vec::with_capacity(self.shards.len().min(keys.len()));
            let mut last = None;
            for (_, hash) in group.iter() {
                let shard = self.shard_number(hash);
                if last != Some(shard) {
                    locked.extend(self.shards.get(shard).map(|lock| read(lock)));
                    last = Some(shard);
                }
            }
            let mut shards = locked.iter();
            let (mut shard, mut last) = (None, None);
            for (position, hash) in group.iter() {
                if last != Some(self.shard_number(hash)) {
                    last = Some(self.shard_number(hash));
                    shard = shards.next();
                }
                if let (Some(shard), Some(key), Some(place)) =
                    (shard, keys.get(position), found.get_mut(position))
                {
                    let stored = shard.get(key, hash);
                    *place = stored.and_then(|stored| {
                        answer(stored, || *now.get_or_insert_with(|| self.time.now()))
                    });
                }
            }
        }
    }

    /// Sets the next entries; whether there are more.
    pub(crate) fn set_chunk(
        &self,
        entries: &mut std::vec::IntoIter<(&str, CachedValue<V>)>,
    ) -> bool {
        let size = entries.len().min(CHUNK);
        let keys = entries.as_slice().iter().take(size).map(|(key, _)| *key);
        let grouped = Grouped::new(keys, &self.hasher, self.shards.len());
        let mut chunk: Vec<_> = entries.take(size).map(Some).collect();
        let mut now = None;
        grouped.for_each(|shard, group| {
            let Some(shard) = self.shards.get(shard) else {
                return;
            };
            let mut garbage = Garbage::new();
            let mut shard = write(shard);
            for (position, hash) in group.iter() {
                if let Some((key, value)) = chunk.get_mut(position).and_then(Option::take) {
                    let stored = self.stored(value, &mut now);
                    self.write_one(&mut shard, key, hash, stored, &mut now, &mut garbage);
                }
            }
            drop(shard);
            drop(garbage);
        });
        self.sweep_in_turn(now);
        entries.len() > 0
    }

    pub(crate) fn delete_chunk(&self, keys: &[&str]) {
        Grouped::new(keys.iter().copied(), &self.hasher, self.shards.len()).for_each(
            |shard, group| {
                let Some(shard) = self.shards.get(shard) else {
                    return;
                };
                let mut garbage = Garbage::new();
                let mut shard = write(shard);
                for (position, hash) in group.iter() {
                    if let Some(key) = keys.get(position) {
                        shard.delete(key, hash, &self.hasher, &mut garbage);
                    }
                }
                drop(shard);
                drop(garbage);
            },
        );
    }

    /// Writes one value, or deletes it when it is expired at once.
    fn write_one(
        &self,
        shard: &mut Shard<V>,
        key: &str,
        hash: KeyHash,
        stored: Option<Stored<V>>,
        now: &mut Option<u64>,
        garbage: &mut Garbage<V>,
    ) {
        if shard.has_expiry() {
            let now = *now.get_or_insert_with(|| self.time.now());
            shard.reap(now, REAP_PER_SET, &self.hasher, garbage);
        }
        match stored {
            Some(stored) => {
                // Where there is no time, there is no deadline either.
                let now = now.unwrap_or_default();
                shard.set(key, hash, stored, now, &self.hasher, garbage);
            }
            None => shard.delete(key, hash, &self.hasher, garbage),
        }
    }

    /// What a shard keeps of `value`; `None` if it is expired at once. The clock is read when
    /// there is a deadline, and at most once for all values of a call.
    fn stored(&self, value: CachedValue<V>, now: &mut Option<u64>) -> Option<Stored<V>> {
        let deadline = match value.ttl().or_default(self.config.expiration_time) {
            None => NEVER,
            Some(Duration::ZERO) => return None,
            Some(ttl) => clock::deadline(*now.get_or_insert_with(|| self.time.now()), ttl),
        };
        Some(Stored {
            cached_at: value.cached_at_nanos(),
            deadline,
            payload: value.into_payload(),
        })
    }

    /// After a write that took the time: lets other shards be looked through if it is time to.
    fn sweep_in_turn(&self, now: Option<u64>) {
        if let Some(now) = now {
            self.sweep.in_turn(now, &self.shards, &self.hasher);
        }
    }
}

#[cfg(test)]
impl<V> Entries<V> {
    /// Lets keys collide: only these bits of their hashes are used from now on.
    pub(crate) fn with_weak_hash(mut self, mask: u64) -> Self {
        self.hasher.mask = mask;
        self
    }

    /// Reads the clock, as most operations do.
    pub(crate) fn look_at_the_clock(&self) {
        self.time.now();
    }

    /// How many cells there are, and in how many shards.
    pub(crate) fn cells(&self) -> (usize, usize) {
        let cells = self.shards.iter().map(|shard| read(shard).cells()).sum();
        (cells, self.shards.len())
    }
}

/// The value as a `get` hands it out; `None` when it has expired.
fn answer<V: Clone>(stored: &Stored<V>, now: impl FnOnce() -> u64) -> Option<CachedValue<V>> {
    let left = if stored.deadline == NEVER {
        None
    } else {
        match stored.deadline.saturating_sub(now()) {
            0 => return None,
            left => Some(Duration::from_nanos(left)),
        }
    };
    let value = CachedValue::from_nanos(stored.payload.clone(), stored.cached_at);
    Some(match left {
        None => value.with_ttl(Ttl::Never),
        Some(left) => value.with_ttl(left),
    })
}

/// How many entries each shard may hold, `None` for no bound.
fn limits(max_entries: usize) -> impl Iterator<Item = Option<usize>> {
    let bounded = max_entries > 0;
    let shards = match max_entries / FEWEST_PER_SHARD {
        _ if !bounded => SHARDS,
        0 => 1,
        enough => SHARDS.min(1 << enough.ilog2()),
    };
    let (each, more) = (max_entries / shards, max_entries % shards);
    (0..shards).map(move |shard| bounded.then_some(each + usize::from(shard < more)))
}

/// A shard is whole whenever code that could panic runs, so a poisoned lock means nothing.
fn read<V>(shard: &RwLock<Shard<V>>) -> RwLockReadGuard<'_, Shard<V>> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<V>(shard: &RwLock<Shard<V>>) -> RwLockWriteGuard<'_, Shard<V>> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
