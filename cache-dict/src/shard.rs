//! [`Shard`], one part of the entries.

use std::mem::needs_drop;

use crate::clock::NEVER;
use crate::expiry::Expiry;
use crate::hash::{KeyHash, KeyHasher};
use crate::index::Index;
use crate::key::Key;
use crate::lists::Lists;

/// The entries stand densely in a vector; the index leads from the hash of a key to its slot.
/// What expires stands in a timing wheel as well, and, when there is a bound, everything
/// stands in the order of writing.
///
/// No code of the payload's type runs in here except in [`get`](Self::get)'s caller: what is
/// replaced or removed goes into [`Garbage`], to be dropped when the lock is released.
pub(crate) struct Shard<V> {
    index: Index,
    entries: Vec<Entry<V>>,
    /// There from the first entry on that expires.
    expiry: Option<Box<Expiry>>,
    /// There when there is a bound.
    order: Option<Box<Lists>>,
    limit: usize,
    counts: Counts,
}

pub(crate) struct Entry<V> {
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

/// Slots are numbered in 31 bits.
const MOST_ENTRIES: usize = 1 << 31;

impl<V> Shard<V> {
    /// Holds `limit` entries at most, if there is one.
    pub(crate) fn new(limit: Option<usize>) -> Self {
        Self {
            index: Index::default(),
            entries: Vec::new(),
            expiry: None,
            order: limit.map(|_| Box::new(Lists::new(1))),
            limit: limit.unwrap_or(MOST_ENTRIES).min(MOST_ENTRIES),
            counts: Counts::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// What is stored under `key`, expired or not.
    #[inline]
    pub(crate) fn get(&self, key: &str, hash: KeyHash) -> Option<&Stored<V>> {
        let slot = self.find(key, hash)?;
        self.entries.get(slot as usize).map(|entry| &entry.stored)
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
        let slot = self.find(key, hash);
        let place = slot.and_then(|slot| self.entries.get_mut(slot as usize));
        let (slot, was) = if let (Some(slot), Some(entry)) = (slot, place) {
            let old = std::mem::replace(&mut entry.stored, stored);
            garbage.add(old.payload);
            (slot, old.deadline)
        } else {
            if self.entries.len() >= self.limit {
                self.evict(hasher, garbage);
            }
            let slot = self.push(Key::new(key), hash, stored);
            (slot, NEVER)
        };
        if let Some(order) = &mut self.order {
            order.push_back(OLDEST_FIRST, slot);
        }
        // An entry that expires later than before is looked at in its old place, and deferred.
        if deadline < was {
            let expiry = self.expiry.get_or_insert_with(|| Box::new(Expiry::new()));
            expiry.schedule(slot, deadline, now);
        }
    }

    pub(crate) fn delete(
        &mut self,
        key: &str,
        hash: KeyHash,
        hasher: &KeyHasher,
        garbage: &mut Garbage<V>,
    ) {
        if let Some(slot) = self.find(key, hash) {
            self.remove(slot, hash, hasher, garbage);
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
            let Some(slot) = expiry.due() else {
                break;
            };
            budget -= 1;
            match self.entries.get(slot as usize) {
                Some(entry) if entry.stored.deadline <= now => {
                    let hash = hasher.hash(entry.key.as_bytes());
                    self.remove(slot, hash, hasher, garbage);
                    self.counts.expired += 1;
                }
                Some(entry) if entry.stored.deadline < NEVER => {
                    expiry.defer(slot, entry.stored.deadline, now);
                }
                _ => expiry.unlink(slot),
            }
        }
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
        self.index.find(hash.low(), |slot| {
            let entry = self.entries.get(slot as usize);
            entry.is_some_and(|entry| entry.key.as_bytes() == key)
        })
    }

    fn push(&mut self, key: Key, hash: KeyHash, stored: Stored<V>) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the limit fits in 31 bits")]
        let slot = self.entries.len() as u32;
        make_room(&mut self.entries, 1);
        self.index.insert(hash.low(), slot);
        self.entries.push(Entry { key, stored });
        slot
    }

    /// Removes the entry that was written least recently.
    fn evict(&mut self, hasher: &KeyHasher, garbage: &mut Garbage<V>) {
        let oldest = match &self.order {
            Some(order) => order.first(OLDEST_FIRST),
            // Two thousand million entries, and no order: any will do.
            None => Some(0),
        };
        if let Some(slot) = oldest
            && let Some(entry) = self.entries.get(slot as usize)
        {
            let hash = hasher.hash(entry.key.as_bytes());
            self.remove(slot, hash, hasher, garbage);
            self.counts.evicted += 1;
        }
    }

    /// Removes an entry; the last one takes its slot.
    fn remove(&mut self, slot: u32, hash: KeyHash, hasher: &KeyHasher, garbage: &mut Garbage<V>) {
        if slot as usize >= self.entries.len() {
            return;
        }
        let removed = self.entries.swap_remove(slot as usize);
        #[expect(clippy::cast_possible_truncation, reason = "the limit fits in 31 bits")]
        let last = self.entries.len() as u32;
        self.index.remove(hash.low(), slot);
        if let Some(moved) = self.entries.get(slot as usize) {
            let moved = hasher.hash(moved.key.as_bytes());
            self.index.relocate(moved.low(), last, slot);
        }
        if let Some(expiry) = &mut self.expiry {
            expiry.swap_remove(slot, last);
        }
        if let Some(order) = &mut self.order {
            order.swap_remove(slot, last);
        }
        give_back(&mut self.entries);
        garbage.add(removed.stored.payload);
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

/// Room for `more` elements. Grows by a quarter instead of doubling: the copying stays small
/// beside an insertion, and much less memory lies idle.
pub(crate) fn make_room<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 4).max(4));
    }
}

/// Frees what a vector that has shrunk much keeps.
pub(crate) fn give_back<T>(vec: &mut Vec<T>) {
    if vec.capacity() > 64 && vec.len() < vec.capacity() / 4 {
        vec.shrink_to(vec.len() * 2);
    }
}
