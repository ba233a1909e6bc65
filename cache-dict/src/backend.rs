//! [`DictBackend`], the backend.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::Duration;

use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};
use crossbeam_utils::CachePadded;

use crate::clock::{self, NEVER, Time};
use crate::config::{DictBuilder, DictConfig};
use crate::hash::{KeyHash, KeyHasher};
use crate::multi::{CHUNK, Grouped, yield_now};
use crate::shard::{Counts, Garbage, Shard, Stored};

/// How many parts the entries are divided into, each under a lock of its own.
const SHARDS: usize = 64;

/// A shard gets no fewer entries than these when there is a bound on all.
const FEWEST_PER_SHARD: usize = 128;

/// How many entries that are due a write looks at in its own shard: it adds one, so the shard
/// catches up.
const REAP_PER_SET: usize = 32;

/// How many are looked at in all shards when their turn comes, and under one lock. One set
/// does it all, so it must not take long.
const REAP_PER_SWEEP: usize = 256;
const REAP_PER_HOLD: usize = 64;

/// Their turn comes every 1/32 of the default lifetime, within these bounds; sooner when
/// something was left.
const NEXT_SWEEP_IF_LEFT: Duration = Duration::from_micros(100);
const SHORTEST_SWEEP_INTERVAL: Duration = Duration::from_millis(1);
const LONGEST_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// An in-process cache of values of any type: the counterpart of oslo.cache's
/// `DictCacheBackend`.
///
/// Cloning it is cheap, and each clone reaches the same entries. Methods that end in `_sync`
/// do the same as those of [`CacheBackend`], for callers that are not async; none of them
/// waits for anything but a lock that is held for microseconds.
///
/// `V::clone` runs while such a lock is held, so it must not use the same cache; wrap what is
/// expensive to clone in an [`Arc`]. Replaced, expired and deleted values are dropped when no
/// lock is held. A `clone` or `drop` that panics lets the caller's operation panic and leaves
/// the cache as it is.
///
/// ```
/// use std::time::Duration;
/// use cache_core::{CacheBackend, CachedValue};
/// use cache_dict::DictBackend;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cache = DictBackend::builder()
///     .expiration_time(Duration::from_secs(60))
///     .build()?;
/// cache.set("key", CachedValue::new(vec![1, 2, 3])).await?;
/// let found = cache.get("key").await?.expect("it was set a moment ago");
/// assert_eq!(*found.payload(), [1, 2, 3]);
/// assert!(found.ttl() <= Some(Duration::from_secs(60)));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct DictBackend<V>(Arc<Inner<V>>);

struct Inner<V> {
    shards: Box<[CachePadded<RwLock<Shard<V>>>]>,
    hasher: KeyHasher,
    time: Time,
    config: DictConfig,
    /// When all shards are to be looked through next, and from which on.
    next_sweep: CachePadded<AtomicU64>,
    next_swept: AtomicUsize,
}

/// What a [`DictBackend`] holds and has removed.
///
/// Hits and misses are not among it: counting them would slow down each `get`, for those too
/// who do not ask. Count them where the values are used.
///
/// ```
/// # use cache_core::CachedValue;
/// # use cache_dict::DictBackend;
/// let cache = DictBackend::builder().max_entries(1).build()?;
/// cache.set_sync("a", CachedValue::new(1))?;
/// cache.set_sync("b", CachedValue::new(2))?;
/// assert_eq!(cache.stats().entries, 1);
/// assert_eq!(cache.stats().evicted, 1);
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DictStats {
    /// Entries held, including some that have expired and are not yet removed.
    pub entries: usize,
    /// Entries removed because they had expired.
    pub expired: u64,
    /// Entries removed because there were too many.
    pub evicted: u64,
}

impl<V: Clone + Send + Sync + 'static> DictBackend<V> {
    /// A backend with this configuration.
    ///
    /// ```
    /// # use cache_dict::{DictBackend, DictConfig};
    /// let cache: DictBackend<String> = DictBackend::from_config(DictConfig::default())?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn from_config(config: DictConfig) -> Result<Self> {
        DictBuilder::new(config).build()
    }

    /// Begins to make a backend; by default nothing expires and nothing is evicted.
    pub fn builder() -> DictBuilder<V> {
        DictBuilder::new(DictConfig::default())
    }

    pub(crate) fn new(config: DictConfig, time: Time) -> Self {
        let limits = limits(config.max_entries);
        let shards = limits.map(|limit| CachePadded::new(RwLock::new(Shard::new(limit))));
        Self(Arc::new(Inner {
            shards: shards.collect(),
            hasher: KeyHasher::new(),
            time,
            config,
            next_sweep: CachePadded::new(AtomicU64::new(0)),
            next_swept: AtomicUsize::new(0),
        }))
    }

    /// What is cached under `key`, or `None`.
    pub fn get_sync(&self, key: &str) -> Result<Option<CachedValue<V>>> {
        check(key)?;
        let hash = self.0.hasher.hash(key.as_bytes());
        let shard = read(self.0.shard(hash));
        Ok(shard
            .get(key, hash)
            .and_then(|stored| answer(stored, || self.0.time.now())))
    }

    /// Caches `value` under `key`, in place of what was there.
    pub fn set_sync(&self, key: &str, value: CachedValue<V>) -> Result<()> {
        check(key)?;
        self.0.set(key, value);
        Ok(())
    }

    /// Removes what is cached under `key`, if anything is.
    pub fn delete_sync(&self, key: &str) -> Result<()> {
        check(key)?;
        self.0.delete(key);
        Ok(())
    }

    /// What is cached under each of `keys`, position by position.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// # use cache_dict::DictBackend;
    /// let cache = DictBackend::builder().build()?;
    /// cache.set_multi_sync(vec![("a", CachedValue::new(1)), ("b", CachedValue::new(2))])?;
    /// cache.delete_multi_sync(&["a"])?;
    /// let found = cache.get_multi_sync(&["a", "b"])?;
    /// assert!(found[0].is_none() && found[1].is_some());
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn get_multi_sync(&self, keys: &[&str]) -> Result<Vec<Option<CachedValue<V>>>> {
        check_all(keys.iter().copied())?;
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(CHUNK) {
            self.0.get_chunk(keys, &mut found);
        }
        Ok(found)
    }

    /// Caches each value under its key; the last one where a key is repeated.
    ///
    /// Not all are set at one moment: a reader may see some before the others.
    pub fn set_multi_sync(&self, entries: Vec<(&str, CachedValue<V>)>) -> Result<()> {
        check_all(entries.iter().map(|(key, _)| *key))?;
        let mut entries = entries.into_iter();
        while self.0.set_chunk(&mut entries) {}
        Ok(())
    }

    /// Removes what is cached under each of `keys`.
    pub fn delete_multi_sync(&self, keys: &[&str]) -> Result<()> {
        check_all(keys.iter().copied())?;
        for keys in keys.chunks(CHUNK) {
            self.0.delete_chunk(keys);
        }
        Ok(())
    }

    /// How many entries are held. Those that have expired count until they are removed, which
    /// writes do shortly after; [`purge`](Self::purge) does it at once.
    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| read(shard).len()).sum()
    }

    /// Whether no entry is held; see [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.0.shards.iter().all(|shard| read(shard).len() == 0)
    }

    /// Removes all entries. What others write at the same time may remain.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// # use cache_dict::DictBackend;
    /// let cache = DictBackend::builder().build()?;
    /// cache.set_sync("key", CachedValue::new(1))?;
    /// cache.clear();
    /// assert!(cache.is_empty());
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn clear(&self) {
        // First take all, then drop: a payload whose `drop` panics keeps nothing in.
        let taken: Vec<Shard<V>> = self
            .0
            .shards
            .iter()
            .map(|shard| write(shard).take())
            .collect();
        drop(taken);
    }

    /// Removes all entries that have expired. Calling it is never necessary; it frees memory
    /// when nothing is written for long, since writes are what removes expired entries.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cache_core::CachedValue;
    /// # use cache_dict::{DictBackend, ManualClock};
    /// let clock = ManualClock::new();
    /// let cache = DictBackend::builder().clock(clock.clone()).build()?;
    /// cache.set_sync("key", CachedValue::new(1).with_ttl(Duration::from_secs(60)))?;
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(cache.len(), 1);
    /// cache.purge();
    /// assert_eq!(cache.len(), 0);
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn purge(&self) {
        let now = self.0.time.now();
        for shard in &self.0.shards {
            write(shard).hurry(now);
            loop {
                let mut garbage = Garbage::new();
                let left = write(shard).reap(now, REAP_PER_HOLD, &self.0.hasher, &mut garbage);
                if left > 0 {
                    break;
                }
            }
        }
    }

    /// How many entries are held, and how many were removed, since the backend was made.
    pub fn stats(&self) -> DictStats {
        let mut stats = DictStats {
            entries: 0,
            expired: 0,
            evicted: 0,
        };
        for shard in &self.0.shards {
            let shard = read(shard);
            let Counts { expired, evicted } = shard.counts();
            stats.entries += shard.len();
            stats.expired += expired;
            stats.evicted += evicted;
        }
        stats
    }
}

#[cfg(test)]
impl<V: Clone + Send + Sync + 'static> DictBackend<V> {
    /// A backend in which keys collide: only these bits of their hashes are used.
    pub(crate) fn with_weak_hash(config: DictConfig, time: Time, mask: u64) -> Self {
        let mut backend = Self::new(config, time);
        if let Some(inner) = Arc::get_mut(&mut backend.0) {
            inner.hasher.mask = mask;
        }
        backend
    }

    /// Reads the clock, as most operations do.
    pub(crate) fn look_at_the_clock(&self) {
        self.0.time.now();
    }

    /// How many cells there are, and in how many shards.
    pub(crate) fn cells(&self) -> (usize, usize) {
        let cells = self.0.shards.iter().map(|shard| read(shard).cells()).sum();
        (cells, self.0.shards.len())
    }
}

impl<V: Clone> Inner<V> {
    fn set(&self, key: &str, value: CachedValue<V>) {
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

    fn delete(&self, key: &str) {
        let hash = self.hasher.hash(key.as_bytes());
        let mut garbage = Garbage::new();
        write(self.shard(hash)).delete(key, hash, &self.hasher, &mut garbage);
    }

    fn get_chunk(&self, keys: &[&str], found: &mut Vec<Option<CachedValue<V>>>) {
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
    fn set_chunk(&self, entries: &mut std::vec::IntoIter<(&str, CachedValue<V>)>) -> bool {
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

    fn delete_chunk(&self, keys: &[&str]) {
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
        let deadline = match value.lifetime(self.config.expiration_time) {
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

    /// Looks through all shards if it is time to: those that nobody writes to would keep what
    /// has expired.
    fn sweep_in_turn(&self, now: Option<u64>) {
        let Some(now) = now else {
            return;
        };
        let due = self.next_sweep.load(Ordering::Relaxed);
        if now < due {
            return;
        }
        let interval = match self.config.expiration_time {
            Duration::ZERO => LONGEST_SWEEP_INTERVAL,
            ttl => (ttl / 32).clamp(SHORTEST_SWEEP_INTERVAL, LONGEST_SWEEP_INTERVAL),
        };
        // Whoever moves the time sweeps; the others go on.
        let next = clock::deadline(now, interval);
        let relaxed = Ordering::Relaxed;
        let moved = self
            .next_sweep
            .compare_exchange(due, next, relaxed, relaxed);
        if moved.is_ok() && !self.sweep(now) {
            let soon = clock::deadline(now, NEXT_SWEEP_IF_LEFT);
            self.next_sweep.fetch_min(soon, relaxed);
        }
    }

    /// Whether nothing that is due was left.
    fn sweep(&self, now: u64) -> bool {
        let mut budget = REAP_PER_SWEEP;
        let first = self.next_swept.load(Ordering::Relaxed);
        let (behind, ahead) = self.shards.split_at_checked(first).unwrap_or_default();
        for (number, shard) in (first..).zip(ahead.iter().chain(behind)) {
            loop {
                let mut garbage = Garbage::new();
                // A shard in use is looked after by those who use it.
                let mut shard = match shard.try_write() {
                    Ok(shard) => shard,
                    Err(TryLockError::Poisoned(shard)) => shard.into_inner(),
                    Err(TryLockError::WouldBlock) => break,
                };
                let hold = budget.min(REAP_PER_HOLD);
                let left = shard.reap(now, hold, &self.hasher, &mut garbage);
                drop(shard);
                budget -= hold - left;
                if left > 0 {
                    break;
                }
                if budget == 0 {
                    let next = number % self.shards.len();
                    self.next_swept.store(next, Ordering::Relaxed);
                    return false;
                }
            }
        }
        true
    }
}

impl<V> Inner<V> {
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
        None => value,
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

fn check(key: &str) -> Result<()> {
    if key.is_empty() {
        let message = "the key is empty; a key has at least one character";
        return Err(Error::new(ErrorKind::InvalidKey, crate::NAME, message).with_key(key));
    }
    Ok(())
}

fn check_all<'k>(mut keys: impl Iterator<Item = &'k str>) -> Result<()> {
    keys.try_for_each(check)
}

/// A shard is whole whenever code that could panic runs, so a poisoned lock means nothing.
fn read<V>(shard: &RwLock<Shard<V>>) -> RwLockReadGuard<'_, Shard<V>> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<V>(shard: &RwLock<Shard<V>>) -> RwLockWriteGuard<'_, Shard<V>> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

impl<V> Clone for DictBackend<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for DictBackend<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DictBackend")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<V: Clone + Send + Sync + 'static> CacheBackend for DictBackend<V> {
    type Value = V;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<V>>> {
        self.get_sync(key)
    }

    async fn set(&self, key: &str, value: CachedValue<V>) -> Result<()> {
        self.set_sync(key, value)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.delete_sync(key)
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<CachedValue<V>>>> {
        check_all(keys.iter().copied())?;
        let mut found = Vec::with_capacity(keys.len());
        for (i, keys) in keys.chunks(CHUNK).enumerate() {
            if i > 0 {
                yield_now().await;
            }
            self.0.get_chunk(keys, &mut found);
        }
        Ok(found)
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<V>)>) -> Result<()> {
        check_all(entries.iter().map(|(key, _)| *key))?;
        let mut entries = entries.into_iter();
        while self.0.set_chunk(&mut entries) {
            yield_now().await;
        }
        Ok(())
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        check_all(keys.iter().copied())?;
        for (i, keys) in keys.chunks(CHUNK).enumerate() {
            if i > 0 {
                yield_now().await;
            }
            self.0.delete_chunk(keys);
        }
        Ok(())
    }

    fn check_key(&self, key: &str) -> Result<()> {
        check(key)
    }
}
