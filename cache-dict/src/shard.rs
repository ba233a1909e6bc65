//! [`Shard`], one part of the entries.

use std::mem::needs_drop;
use std::time::Duration;

use crate::bound::Bound;
use crate::clock::{self, NEVER};
use crate::hash::{KeyHash, KeyHasher};
use crate::index_lists::{IndexLists, Links, Moved};
use crate::key::{Key, KeyRef};
use crate::table::Table;
use crate::timing_wheel::TimingWheel;

/// A table of entries. The timing wheel finds those that have expired. In a bounded cache, a list
/// has all entries in the order of their last write.
///
/// No code of the payload's type runs here: replaced and removed payloads go into [`Garbage`],
/// which is dropped after the lock is released.
pub(crate) struct Shard<V> {
    table: Table<Entry<V>>,
    /// Created with the first entry that expires.
    wheel: Option<Box<TimingWheel>>,
    /// Present if the cache is bounded.
    written: Option<Box<Written>>,
    sparse: Sparse,
    hasher: KeyHasher,
    counts: Counts,
}

/// With a payload of eight bytes an entry has 56 bytes: with its links, a cache line.
struct Entry<V> {
    stored: Stored<V>,
    key: Key,
}

/// A payload with its metadata.
pub(crate) struct Stored<V> {
    pub(crate) payload: V,
    /// Nanoseconds since 1970.
    pub(crate) cached_at: u64,
    /// On the backend's clock, or [`NEVER`].
    pub(crate) deadline: u64,
}

/// All entries in the order in which they were last written.
struct Written {
    lists: IndexLists,
    links: Vec<Links>,
}

/// The only list of [`Written`].
const OLDEST_FIRST: u32 = 0;

/// Since when few of the table's slots have been taken. If a table shrank as soon as many entries
/// expired, it would often have to grow again for those that take their place.
#[derive(Clone)]
pub(crate) struct Sparse {
    since: Option<u64>,
    /// The table shrinks after this time, in nanoseconds.
    patience: u64,
}

/// How long a table may be sparse, if that is less than half of the default lifetime.
const MOST_PATIENCE: Duration = Duration::from_secs(16);

/// How many entries a shard has expired and evicted.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
}

/// Payloads to drop after the lock is released.
pub(crate) struct Garbage<V> {
    /// Most writes replace one value at most, which takes no allocation.
    one: Option<V>,
    more: Vec<V>,
}

impl<V> Shard<V> {
    pub(crate) fn new(hasher: KeyHasher, bounded: bool, sparse: Sparse) -> Self {
        Self {
            table: Table::new(),
            wheel: None,
            written: bounded.then(|| Box::new(Written::new())),
            sparse,
            hasher,
            counts: Counts::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// The value stored under `key`, expired or not.
    #[inline]
    pub(crate) fn get(&self, key: &KeyRef<'_>, hash: KeyHash) -> Option<&Stored<V>> {
        let entry = self.table.get(hash, |entry| entry.key.is(key))?;
        Some(&entry.stored)
    }

    /// Loads the entry of a key with this hash into the processor's cache.
    #[inline]
    pub(crate) fn load(&self, hash: KeyHash) {
        self.table.load(hash);
    }

    /// Stores a value that has not expired. Returns it if the cache is at its bound and this shard
    /// has no entry to evict.
    pub(crate) fn set(
        &mut self,
        key: &KeyRef<'_>,
        hash: KeyHash,
        stored: Stored<V>,
        now: u64,
        bound: &Bound,
        garbage: &mut Garbage<V>,
    ) -> Result<(), Stored<V>> {
        let deadline = stored.deadline;
        let (slot, was) = if let Some(slot) = self.find(key, hash) {
            let entry = self.table.entry_mut(slot);
            let old = std::mem::replace(&mut entry.stored, stored);
            garbage.add(old.payload);
            (slot, old.deadline)
        } else {
            while !bound.take_one() {
                if !self.evict(bound, garbage) {
                    return Err(stored);
                }
            }
            let key = Key::new(key);
            if let Some(buckets) = self.table.larger_size() {
                self.resize(buckets);
            }
            (self.table.insert(hash, Entry { stored, key }), NEVER)
        };
        if let Some(written) = &mut self.written {
            written.push_back(slot);
        }
        self.schedule(slot, was, deadline, now);
        Ok(())
    }

    /// Puts an entry into the timing wheel, unless it may stay where it is.
    fn schedule(&mut self, slot: u32, was: u64, deadline: u64, now: u64) {
        if deadline == NEVER {
            // If it is in the wheel, `reap` takes it out when its tick has passed.
            return;
        }
        let wheel = self
            .wheel
            .get_or_insert_with(|| Box::new(TimingWheel::new()));
        if deadline < was || wheel.has_coarser(deadline, now) {
            wheel.schedule(&mut self.table, slot, deadline, now);
        }
    }

    pub(crate) fn delete(
        &mut self,
        key: &KeyRef<'_>,
        hash: KeyHash,
        bound: &Bound,
        garbage: &mut Garbage<V>,
    ) {
        if let Some(slot) = self.find(key, hash) {
            self.remove(slot, hash, bound, garbage);
            self.shrink();
        }
    }

    /// Removes the entry of `key` if it has expired.
    pub(crate) fn delete_expired(
        &mut self,
        key: &KeyRef<'_>,
        hash: KeyHash,
        now: u64,
        bound: &Bound,
        garbage: &mut Garbage<V>,
    ) {
        if let Some(slot) = self.find(key, hash)
            && self.table.entry(slot).stored.deadline <= now
        {
            self.remove(slot, hash, bound, garbage);
            self.counts.expired += 1;
            self.shrink_in_time(now);
        }
    }

    /// Removes expired entries, examining at most `budget` entries. Returns the rest of the
    /// budget; zero means that there may be more to remove.
    pub(crate) fn reap(
        &mut self,
        now: u64,
        budget: usize,
        bound: &Bound,
        garbage: &mut Garbage<V>,
    ) -> usize {
        let mut left = budget;
        while left > 0
            && let Some(wheel) = &mut self.wheel
            && let Some(due) = wheel.next_due(&mut self.table, now)
        {
            left -= 1;
            let deadline = self.table.entry(due.slot).stored.deadline;
            if deadline <= now {
                let hash = self.hash_of(due.slot);
                self.remove(due.slot, hash, bound, garbage);
                self.counts.expired += 1;
            } else if deadline < NEVER {
                wheel.defer(&mut self.table, &due, deadline, now);
            }
        }
        self.shrink_in_time(now);
        left
    }

    /// Makes [`reap`](Self::reap) find every expired entry, however recent.
    pub(crate) fn hurry(&mut self, now: u64) {
        if let Some(wheel) = &mut self.wheel {
            wheel.hurry(&mut self.table, now);
        }
    }

    /// Removes the entry with the oldest write. Returns `false` if there is none.
    pub(crate) fn evict(&mut self, bound: &Bound, garbage: &mut Garbage<V>) -> bool {
        let Some(slot) = self.written.as_ref().and_then(|written| written.oldest()) else {
            return false;
        };
        let hash = self.hash_of(slot);
        self.remove(slot, hash, bound, garbage);
        self.counts.evicted += 1;
        true
    }

    /// Empties the shard.
    pub(crate) fn take(&mut self, bound: &Bound) -> Self {
        bound.give_back(self.len());
        let (hasher, bounded) = (self.hasher.clone(), self.written.is_some());
        let mut empty = Self::new(hasher, bounded, self.sparse.clone());
        empty.counts = self.counts;
        std::mem::replace(self, empty)
    }

    #[inline]
    fn find(&self, key: &KeyRef<'_>, hash: KeyHash) -> Option<u32> {
        self.table.find(hash, |entry| entry.key.is(key))
    }

    fn hash_of(&self, slot: u32) -> KeyHash {
        self.hasher.hash(&self.table.entry(slot).key.as_ref())
    }

    /// Takes an entry out of the lists and the table. The caller [shrinks](Self::shrink) the table
    /// after the last removal, if it should.
    fn remove(&mut self, slot: u32, hash: KeyHash, bound: &Bound, garbage: &mut Garbage<V>) {
        if let Some(wheel) = &mut self.wheel {
            wheel.unlink(&mut self.table, slot);
        }
        if let Some(written) = &mut self.written {
            written.unlink(slot);
        }
        garbage.add(self.table.remove(slot, hash).stored.payload);
        bound.give_back(1);
    }

    /// Shrinks the table if few of its slots are taken.
    pub(crate) fn shrink(&mut self) {
        if let Some(buckets) = self.table.smaller_size() {
            self.resize(buckets);
        }
    }

    /// Shrinks the table if few of its slots have been taken for long.
    fn shrink_in_time(&mut self, now: u64) {
        if self.table.smaller_size().is_none() {
            self.sparse.since = None;
        } else {
            let since = *self.sparse.since.get_or_insert(now);
            if now.saturating_sub(since) >= self.sparse.patience {
                self.shrink();
            }
        }
    }

    fn resize(&mut self, buckets: usize) {
        self.sparse.since = None;
        let hash = |entry: &Entry<V>| self.hasher.hash(&entry.key.as_ref());
        let moved = self.table.resize(buckets, hash);
        if let Some(wheel) = &mut self.wheel {
            wheel.renumber(&moved);
        }
        if let Some(written) = &mut self.written {
            written.renumber(&moved, self.table.slots());
        }
    }
}

impl Sparse {
    /// For a backend with this default lifetime; zero: values do not expire.
    pub(crate) fn new(default_ttl: Duration) -> Self {
        let patience = match default_ttl / 2 {
            Duration::ZERO => MOST_PATIENCE,
            half => half.min(MOST_PATIENCE),
        };
        Self {
            since: None,
            patience: clock::nanos(patience),
        }
    }
}

#[cfg(test)]
impl<V> Shard<V> {
    /// The number of entries for which there is memory.
    pub(crate) fn capacity(&self) -> usize {
        self.table.slots()
    }
}

impl Written {
    fn new() -> Self {
        Self {
            lists: IndexLists::new(1),
            links: Vec::new(),
        }
    }

    fn oldest(&self) -> Option<u32> {
        self.lists.first(OLDEST_FIRST)
    }

    fn push_back(&mut self, slot: u32) {
        self.lists.push_back(&mut self.links, OLDEST_FIRST, slot);
    }

    fn unlink(&mut self, slot: u32) {
        self.lists.unlink(&mut self.links, slot);
    }

    fn renumber(&mut self, moved: &Moved, slots: usize) {
        moved.renumber_all(&mut self.links, slots);
        self.lists.renumber(moved);
    }
}

impl<V> Garbage<V> {
    pub(crate) fn new() -> Self {
        Self {
            one: None,
            more: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, payload: V) {
        if !const { needs_drop::<V>() } {
            return;
        }
        if self.one.is_none() {
            self.one = Some(payload);
        } else {
            self.more.push(payload);
        }
    }
}
