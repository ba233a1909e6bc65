//! [`ShardedMap`], the entries of a backend, divided among shards.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache_core::{CachedValue, Ttl};
use crossbeam_utils::CachePadded;

use crate::bound::Bound;
use crate::clock::{self, NEVER, Reading, Time};
use crate::config::DictConfig;
use crate::hash::{KeyHash, KeyHasher};
use crate::key::KeyRef;
use crate::lock::{read, try_read, try_write, write};
use crate::shard::{Counts, Garbage, Shard, Sparse, Stored};
use crate::stats::DictStats;
use crate::sweep::{REAP_PER_HOLD, Sweep};

/// The number of shards, each with its own lock. With twice as many, one write in a thousand waits
/// for a table that grows while a cache is filled: 39 µs instead of 1.4 µs. With half as many,
/// threads that are preempted while they hold a lock cost 8 threads on two processors a third of
/// their rate.
const SHARDS: usize = 64;

/// A bounded cache may have fewer shards, so that each has room for this many entries, because
/// eviction picks the oldest entry of one shard.
const FEWEST_PER_SHARD: usize = 128;

/// How many due entries a write examines in its shard. It adds at most one, so the shard catches
/// up.
const REAP_PER_WRITE: usize = 32;

/// How many keys of a call share one reading of the clock: about 20 µs.
const KEYS_PER_READING: usize = 256;

/// How many keys of a call are [loaded](ShardedMap::load) before the first is read or written, if
/// shards have so many entries: with payloads of eight bytes, 4 MiB in all.
const KEYS_TO_LOAD: usize = 32;
const LARGE_SHARD: usize = 512;

/// The entries, divided among shards by the hash of their keys, with one hash function and one
/// clock for all.
///
/// The only user code that runs under a lock is `Clone` of a payload: a custom clock is read
/// before, and payloads are dropped after.
pub(crate) struct ShardedMap<V> {
    shards: Box<[CachePadded<RwLock<Shard<V>>>]>,
    hasher: KeyHasher,
    time: Time,
    config: DictConfig,
    bound: Bound,
    sweep: Sweep,
    /// Whether an entry that expires was ever written. If not, writes need not read the clock.
    expires: AtomicBool,
}

/// What a write does to a key.
enum Write<V> {
    Set(Stored<V>),
    /// With the payload of a value whose TTL is zero.
    Delete(Option<V>),
}

impl<V> ShardedMap<V> {
    pub(crate) fn new(config: DictConfig, time: Time) -> Self {
        Self::with_hasher(config, time, KeyHasher::new())
    }

    pub(crate) fn with_hasher(config: DictConfig, time: Time, hasher: KeyHasher) -> Self {
        let bound = Bound::new(config.max_entries);
        let sparse = Sparse::new(config.expiration_time);
        let shard = || Shard::new(hasher.clone(), bound.exists(), sparse.clone());
        let shard = || CachePadded::new(RwLock::new(shard()));
        Self {
            shards: std::iter::repeat_with(shard)
                .take(shards(config.max_entries))
                .collect(),
            hasher,
            time,
            bound,
            sweep: Sweep::new(config.expiration_time),
            config,
            expires: AtomicBool::new(false),
        }
    }

    pub(crate) fn config(&self) -> &DictConfig {
        &self.config
    }

    pub(crate) fn len(&self) -> usize {
        let sum = self.shards.iter().map(|shard| read(shard).len()).sum();
        self.bound.limit(sum)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| read(shard).len() == 0)
    }

    pub(crate) fn clear(&self) {
        // All entries are taken before any is dropped, so that the cache is empty if a `drop`
        // panics.
        let taken: Vec<Shard<V>> = self
            .shards
            .iter()
            .map(|shard| write(shard).take(&self.bound))
            .collect();
        drop(taken);
    }

    /// Removes all expired entries.
    pub(crate) fn purge(&self) {
        let now = self.time.now();
        for shard in &self.shards {
            write(shard).hurry(now);
            loop {
                let mut garbage = Garbage::new();
                let left = write(shard).reap(now, REAP_PER_HOLD, &self.bound, &mut garbage);
                if left > 0 {
                    break;
                }
            }
            write(shard).shrink();
        }
    }

    pub(crate) fn stats(&self) -> DictStats {
        let mut stats = DictStats::default();
        for shard in &self.shards {
            let shard = read(shard);
            let Counts { expired, evicted } = shard.counts();
            stats.entries += shard.len();
            stats.expired += expired;
            stats.evicted += evicted;
        }
        stats.entries = self.bound.limit(stats.entries);
        stats
    }

    #[inline]
    #[expect(
        clippy::indexing_slicing,
        reason = "the result of `KeyHash::shard` is less than the number of shards"
    )]
    fn shard(&self, hash: KeyHash) -> &RwLock<Shard<V>> {
        &self.shards[hash.shard(self.shards.len())]
    }
}

impl<V: Clone> ShardedMap<V> {
    #[inline]
    pub(crate) fn get(&self, key: &str) -> Option<CachedValue<V>> {
        self.get_one(key, &mut self.time.reading())
    }

    #[inline]
    fn get_one(&self, key: &str, time: &mut Reading<'_>) -> Option<CachedValue<V>> {
        let key = KeyRef::new(key);
        let hash = self.hasher.hash(&key);
        self.get_hashed(&key, hash, time)
    }

    #[inline]
    fn get_hashed(
        &self,
        key: &KeyRef<'_>,
        hash: KeyHash,
        time: &mut Reading<'_>,
    ) -> Option<CachedValue<V>> {
        let lock = self.shard(hash);
        let mut has_expired = false;
        let live = live(&read(lock), key, hash, time, &mut has_expired);
        if has_expired {
            self.remove_expired(lock, key, hash);
        }
        live
    }

    /// What `finish` makes of the values of `keys`, in their order. The clock is read once, and
    /// again after every [`KEYS_PER_READING`] keys.
    ///
    /// Locks are taken one after another, to load an entry and again to read it: grouping the keys
    /// by shard costs more than the locks it saves, and holding several locks would block writers.
    pub(crate) fn get_multi<T>(
        &self,
        keys: &[&str],
        finish: impl Fn(Option<CachedValue<V>>) -> T,
    ) -> Vec<T> {
        let mut found = Vec::with_capacity(keys.len());
        let is_large = keys.len() > 1 && self.is_large();
        for keys in keys.chunks(KEYS_PER_READING) {
            let mut time = self.time.reading();
            for keys in keys.chunks(KEYS_TO_LOAD) {
                let hashes = self.hashes(keys.iter().copied());
                if is_large {
                    self.load(&hashes, keys.len());
                }
                found.extend(keys.iter().zip(&hashes).map(|(key, hash)| {
                    finish(self.get_hashed(&KeyRef::new(key), *hash, &mut time))
                }));
            }
        }
        found
    }

    pub(crate) fn set(&self, key: &str, value: CachedValue<V>) {
        let now = self.time_of_write(self.lifetime(&value).is_some());
        let write = self.write_of(value, now);
        self.write_one(key, write, now, &mut Garbage::new());
        self.sweep_in_turn(now);
    }

    pub(crate) fn delete(&self, key: &str) {
        let now = self.time_of_write(false);
        self.write_one(key, Write::Delete(None), now, &mut Garbage::new());
        self.sweep_in_turn(now);
    }

    /// Sets each value, in the order of the entries.
    pub(crate) fn set_multi(&self, entries: Vec<(&str, CachedValue<V>)>) {
        let expires = |(_, value): &(&str, CachedValue<V>)| self.lifetime(value).is_some();
        let now = self.time_of_write(entries.iter().any(expires));
        // Dropped after the last write: if a `drop` panics, all entries have been written.
        let mut garbage = Garbage::new();
        let is_large = entries.len() > 1 && self.is_large();
        let mut entries = entries.into_iter();
        while !entries.as_slice().is_empty() {
            let hashes = self.hashes(entries.as_slice().iter().map(|(key, _)| *key));
            if is_large {
                self.load(&hashes, entries.len());
            }
            // In this order `zip` takes no entry beyond the last hash.
            for (hash, (key, value)) in hashes.iter().zip(entries.by_ref()) {
                let write = self.write_of(value, now);
                self.write_hashed(&KeyRef::new(key), *hash, write, now, &mut garbage);
            }
        }
        self.sweep_in_turn(now);
    }

    pub(crate) fn delete_multi(&self, keys: &[&str]) {
        let now = self.time_of_write(false);
        let mut garbage = Garbage::new();
        for key in keys {
            self.write_one(key, Write::Delete(None), now, &mut garbage);
        }
        self.sweep_in_turn(now);
    }

    fn lifetime(&self, value: &CachedValue<V>) -> Option<Duration> {
        value.ttl().or_default(self.config.expiration_time)
    }

    /// The time of a write, read before a lock is taken; `None` if no entry ever expires.
    fn time_of_write(&self, expires: bool) -> Option<u64> {
        if expires {
            // Stored only once, so that the cache line remains shared by all processors.
            if !self.expires.load(Ordering::Relaxed) {
                self.expires.store(true, Ordering::Relaxed);
            }
            Some(self.time.now())
        } else {
            let look = self.expires.load(Ordering::Relaxed);
            look.then(|| self.time.recent())
        }
    }

    /// Turns a value into a write. `now` is `Some` if the value expires.
    fn write_of(&self, value: CachedValue<V>, now: Option<u64>) -> Write<V> {
        let deadline = match self.lifetime(&value) {
            None => NEVER,
            Some(Duration::ZERO) => return Write::Delete(Some(value.into_payload())),
            Some(ttl) => clock::deadline(now.unwrap_or_default(), ttl),
        };
        Write::Set(Stored {
            cached_at: value.cached_at_nanos(),
            deadline,
            payload: value.into_payload(),
        })
    }

    /// Writes one key. Replaced and removed payloads go into `garbage`.
    fn write_one(&self, key: &str, what: Write<V>, now: Option<u64>, garbage: &mut Garbage<V>) {
        let key = KeyRef::new(key);
        let hash = self.hasher.hash(&key);
        self.write_hashed(&key, hash, what, now, garbage);
    }

    fn write_hashed(
        &self,
        key: &KeyRef<'_>,
        hash: KeyHash,
        what: Write<V>,
        now: Option<u64>,
        garbage: &mut Garbage<V>,
    ) {
        let lock = self.shard(hash);
        let mut shard = write(lock);
        if let Some(now) = now {
            shard.reap(now, REAP_PER_WRITE, &self.bound, garbage);
        }
        match what {
            Write::Delete(expired) => {
                shard.delete(key, hash, &self.bound, garbage);
                if let Some(payload) = expired {
                    garbage.add(payload);
                }
            }
            Write::Set(mut stored) => {
                let now = now.unwrap_or_default();
                while let Err(one_too_many) =
                    shard.set(key, hash, stored, now, &self.bound, garbage)
                {
                    stored = one_too_many;
                    drop(shard);
                    self.evict_from_fullest(garbage);
                    shard = write(lock);
                }
            }
        }
    }

    /// Whether there are so many entries that few of them are in the processor's cache.
    fn is_large(&self) -> bool {
        let first = self.shards.first();
        first.is_some_and(|shard| read(shard).len() >= LARGE_SHARD)
    }

    /// The hashes of up to [`KEYS_TO_LOAD`] keys.
    #[inline]
    fn hashes<'k>(&self, keys: impl Iterator<Item = &'k str>) -> [KeyHash; KEYS_TO_LOAD] {
        let mut hashes = [KeyHash::default(); KEYS_TO_LOAD];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.hasher.hash(&KeyRef::new(key));
        }
        hashes
    }

    /// Loads the entries of the first `count` keys into the processor's cache.
    ///
    /// While the processor waits for memory, it looks ahead over some three hundred instructions.
    /// That is little more than one lookup, but the loads of several keys, if there is nothing
    /// between them.
    #[inline]
    fn load(&self, hashes: &[KeyHash], count: usize) {
        for hash in hashes.iter().take(count) {
            // A shard that is being written to is passed over.
            if let Some(shard) = try_read(self.shard(*hash)) {
                shard.load(*hash);
            }
        }
    }

    /// Makes room for an entry whose shard is empty.
    fn evict_from_fullest(&self, garbage: &mut Garbage<V>) {
        let fullest = self.shards.iter().max_by_key(|shard| read(shard).len());
        if let Some(shard) = fullest {
            write(shard).evict(&self.bound, garbage);
        }
    }

    /// Removes an entry that a read has found expired.
    #[cold]
    fn remove_expired(&self, lock: &RwLock<Shard<V>>, key: &KeyRef<'_>, hash: KeyHash) {
        let now = self.time.now();
        let mut garbage = Garbage::new();
        // If another thread holds the lock, the entry is left to a later operation.
        if let Some(mut shard) = try_write(lock) {
            shard.delete_expired(key, hash, now, &self.bound, &mut garbage);
        }
    }

    /// After a write, sweeps all shards if the interval has passed.
    fn sweep_in_turn(&self, now: Option<u64>) {
        if let Some(now) = now {
            self.sweep.in_turn(now, &self.shards, &self.bound);
        }
    }
}

#[cfg(test)]
impl<V> ShardedMap<V> {
    /// Reads the clock, as most operations do.
    pub(crate) fn look_at_the_clock(&self) {
        self.time.now();
    }

    /// For how many entries there is memory, and in how many shards.
    pub(crate) fn capacity(&self) -> (usize, usize) {
        let capacity = self.shards.iter().map(|shard| read(shard).capacity()).sum();
        (capacity, self.shards.len())
    }
}

/// The value of a key, unless it has expired.
#[inline]
fn live<V: Clone>(
    shard: &Shard<V>,
    key: &KeyRef<'_>,
    hash: KeyHash,
    time: &mut Reading<'_>,
    has_expired: &mut bool,
) -> Option<CachedValue<V>> {
    let stored = shard.get(key, hash)?;
    let ttl = if stored.deadline == NEVER {
        Ttl::Never
    } else if let Some(left) = time.until(stored.deadline) {
        Ttl::For(Duration::from_nanos(left))
    } else {
        *has_expired = true;
        return None;
    };
    let value = CachedValue::from_nanos(stored.payload.clone(), stored.cached_at);
    Some(value.with_ttl(ttl))
}

/// A power of two.
fn shards(max_entries: usize) -> usize {
    match max_entries / FEWEST_PER_SHARD {
        _ if max_entries == 0 => SHARDS,
        0 => 1,
        enough => SHARDS.min(1 << enough.ilog2()),
    }
}
