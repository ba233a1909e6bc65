//! [`Shard`], one part of the entries.

use std::mem::needs_drop;

use crate::clock::NEVER;
use crate::expiry::Expiry;
use crate::hash::{KeyHash, KeyHasher};
use crate::key::Key;
use crate::lists::Lists;
use crate::table::Table;

/// A table of entries. What expires stands in a timing wheel as well, and, when there is a
/// bound, everything stands in the order of writing.
///
/// No code of the payload's type runs in here except in [`get`](Self::get)'s caller: what is
/// replaced or removed goes into [`Garbage`], to be dropped when the lock is released.
pub(crate) struct Shard<V> {
    table: Table<Entry<V>>,
    /// There from the first entry on that expires.
    expiry: Option<Box<Expiry>>,
    /// There when there is a bound.
    order: Option<Box<Lists>>,
    limit: usize,
    counts: Counts,
}

struct Entry<V> {
    key: Key,
    stored: Stored<V>,
}

/// A payload and what is known of it.
pub(crate) struct Stored<V> {
    pub(crate) payload: V,
    /// Nanoseconds since 1970.
    pub(crate) cached_at: u64,
    /// On the backend's clock, or [`NEVER`].
    pub(crate) deadline: u64,
}

/// What a shard has removed on its own.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
}

/// Payloads to be dropped when no lock is held.
pub(crate) struct Garbage<V> {
    /// Most writes replace one value at most, which takes no allocation.
    one: Option<V>,
    more: Vec<V>,
}

/// The only list of [`Shard::order`].
const OLDEST_FIRST: u32 = 0;

impl<V> Shard<V> {
    /// Holds `limit` entries at most, if there is one.
    pub(crate) fn new(limit: Option<usize>) -> Self {
        Self {
            table: Table::new(),
            expiry: None,
            order: limit.map(|_| Box::new(Lists::new(1, 0))),
            limit: limit.unwrap_or(usize::MAX),
            counts: Counts::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    #[cfg(test)]
    pub(crate) fn cells(&self) -> usize {
        self.table.size()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// What is stored under `key`, expired or not.
    #[inline]
    pub(crate) fn get(&self, key: &str, hash: KeyHash) -> Option<&Stored<V>> {
        let cell = self.find(key, hash)?;
        self.table.get(cell).map(|entry| &entry.stored)
    }

    /// Whether anything here may expire, so that writing needs the time.
    pub(crate) fn has_expiry(&self) -> bool {
        self.expiry.is_some()
    }

    /// Stores a value that is not expired.
    pub(crate) fn set(
        &mut self,
        key: &str,
        hash: KeyHash,
        stored: Stored<V>,
        now: u64,
        hasher: &KeyHasher,
        garbage: &mut Garbage<V>,
    ) {
        let deadline = stored.deadline;
        let found = self.find(key, hash);
        let entry = found.and_then(|cell| self.table.get_mut(cell));
        let (cell, was) = if let (Some(cell), Some(entry)) = (found, entry) {
            let old = std::mem::replace(&mut entry.stored, stored);
            garbage.add(old.payload);
            (cell, old.deadline)
        } else {
            if self.len() >= self.limit {
                self.evict(hasher, garbage);
            }
            self.resize(1, hasher);
            let key = Key::new(key);
            let Some(cell) = self.table.insert(hash, Entry { key, stored }) else {
                return;
            };
            (cell, NEVER)
        };
        if let Some(order) = &mut self.order {
            order.push_back(OLDEST_FIRST, cell);
        }
        // An entry that expires later than before is looked at in its old place, and deferred.
        if deadline < was {
            let cells = self.table.size();
            let expiry = self
                .expiry
                .get_or_insert_with(|| Box::new(Expiry::new(cells)));
            expiry.schedule(cell, deadline, now);
        }
    }

    pub(crate) fn delete(
        &mut self,
        key: &str,
        hash: KeyHash,
        hasher: &KeyHasher,
        garbage: &mut Garbage<V>,
    ) {
        if let Some(cell) = self.find(key, hash) {
            self.remove(cell, hash, garbage);
            self.resize(0, hasher);
        }
    }

    /// Removes what has expired, looking at `budget` entries at most. Returns how much of the
    /// budget is left: none if there may be more to do.
    pub(crate) fn reap(
        &mut self,
        now: u64,
        mut budget: usize,
        hasher: &KeyHasher,
        garbage: &mut Garbage<V>,
    ) -> usize {
        match &mut self.expiry {
            Some(expiry) if expiry.is_due(now) => expiry.collect(now, false),
            _ => return budget,
        }
        while budget > 0 {
            let Some(expiry) = &mut self.expiry else {
                break;
            };
            let Some(cell) = expiry.due() else {
                break;
            };
            budget -= 1;
            match self.table.get(cell) {
                Some(entry) if entry.stored.deadline <= now => {
                    let hash = hasher.hash(entry.key.as_bytes());
                    self.remove(cell, hash, garbage);
                    self.counts.expired += 1;
                }
                Some(entry) if entry.stored.deadline < NEVER => {
                    expiry.defer(cell, entry.stored.deadline, now);
                }
                _ => expiry.unlink(cell),
            }
        }
        self.resize(0, hasher);
        if let Some(expiry) = &mut self.expiry {
            expiry.look_ahead();
        }
        budget
    }

    /// Lets [`reap`](Self::reap) find even what has expired just now.
    pub(crate) fn hurry(&mut self, now: u64) {
        if let Some(expiry) = &mut self.expiry {
            expiry.collect(now, true);
        }
    }

    /// Empties the shard.
    pub(crate) fn take(&mut self) -> Self {
        let limit = self.order.is_some().then_some(self.limit);
        let mut empty = Self::new(limit);
        empty.counts = self.counts;
        std::mem::replace(self, empty)
    }

    fn find(&self, key: &str, hash: KeyHash) -> Option<u32> {
        let key = key.as_bytes();
        self.table.find(hash, |entry| entry.key.as_bytes() == key)
    }

    /// Removes the entry that was written least recently.
    fn evict(&mut self, hasher: &KeyHasher, garbage: &mut Garbage<V>) {
        if let Some(order) = &self.order
            && let Some(cell) = order.first(OLDEST_FIRST)
            && let Some(entry) = self.table.get(cell)
        {
            let hash = hasher.hash(entry.key.as_bytes());
            self.remove(cell, hash, garbage);
            self.counts.evicted += 1;
        }
    }

    fn remove(&mut self, cell: u32, hash: KeyHash, garbage: &mut Garbage<V>) {
        if let Some(expiry) = &mut self.expiry {
            expiry.unlink(cell);
        }
        if let Some(order) = &mut self.order {
            order.unlink(cell);
        }
        if let Some(removed) = self.table.remove(cell, hash) {
            garbage.add(removed.stored.payload);
        }
    }

    /// Grows the table for so many more entries, or shrinks it, if need be.
    fn resize(&mut self, adding: usize, hasher: &KeyHasher) {
        let Some(size) = self.table.better_size(adding) else {
            return;
        };
        let listed = self.expiry.is_some() || self.order.is_some();
        let mut moved = vec![u32::MAX; if listed { self.table.size() } else { 0 }];
        let hash = |entry: &Entry<V>| hasher.hash(entry.key.as_bytes());
        self.table.resize(size, hash, |from, to| {
            if let Some(place) = moved.get_mut(from as usize) {
                *place = to;
            }
        });
        let cells = self.table.size();
        if let Some(expiry) = &mut self.expiry {
            expiry.renumber(&moved, cells);
        }
        if let Some(order) = &mut self.order {
            order.renumber(&moved, cells);
        }
    }
}

impl<V> Garbage<V> {
    pub(crate) fn new() -> Self {
        Self {
            one: None,
            more: Vec::new(),
        }
    }

    fn add(&mut self, payload: V) {
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
