//! [`Shard`], one part of the entries.

use std::mem::needs_drop;

use crate::bound::Bound;
use crate::clock::NEVER;
use crate::hash::{KeyHash, KeyHasher};
use crate::index::Index;
use crate::index_lists::{IndexLists, Links};
use crate::key::{Key, KeyRef};
use crate::slots::Slots;
use crate::timing_wheel::TimingWheel;

/// Entries in slots. The index finds them by key, the timing wheel when they have expired, and,
/// where there is a bound, a list has them in the order of writing.
///
/// No code of the payload's type runs in here: what is replaced or removed goes into
/// [`Garbage`], to be dropped when the lock is released.
pub(crate) struct Shard<V> {
    index: Index,
    slots: Slots<Entry<V>>,
    /// There from the first entry on that expires.
    wheel: Option<Box<TimingWheel>>,
    /// There when there is a bound.
    written: Option<Box<Written>>,
    hasher: KeyHasher,
    counts: Counts,
}

/// An entry of 56 bytes where the payload has eight: with its links, a cache line.
struct Entry<V> {
    stored: Stored<V>,
    key: Key,
}

/// A payload and what is known of it.
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

impl<V> Shard<V> {
    pub(crate) fn new(hasher: KeyHasher, bounded: bool) -> Self {
        Self {
            index: Index::new(),
            slots: Slots::new(),
            wheel: None,
            written: bounded.then(|| Box::new(Written::new())),
            hasher,
            counts: Counts::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// What is stored under `key`, expired or not.
    #[inline]
    pub(crate) fn get(&self, key: &KeyRef<'_>, hash: KeyHash) -> Option<&Stored<V>> {
        let slot = self.find(key, hash)?;
        Some(&self.slots.entry(slot).stored)
    }

    /// Stores a value that is not expired. Gives it back when it would be one entry too many,
    /// and there is none here that could make room.
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
            let entry = self.slots.entry_mut(slot);
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
            let slot = self.slots.insert(Entry { stored, key });
            self.index.insert(hash, slot);
            (slot, NEVER)
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
            // If it is in the wheel, it leaves it when it is due.
            return;
        }
        let wheel = self
            .wheel
            .get_or_insert_with(|| Box::new(TimingWheel::new()));
        if deadline < was || wheel.has_coarser(deadline, now) {
            wheel.schedule(&mut self.slots, slot, deadline, now);
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
        }
    }

    /// Removes what is stored under `key` if it has expired.
    pub(crate) fn delete_expired(
        &mut self,
        key: &KeyRef<'_>,
        hash: KeyHash,
        now: u64,
        bound: &Bound,
        garbage: &mut Garbage<V>,
    ) {
        if let Some(slot) = self.find(key, hash)
            && self.slots.entry(slot).stored.deadline <= now
        {
            self.remove(slot, hash, bound, garbage);
            self.counts.expired += 1;
        }
    }

    /// Removes what has expired, looking at `budget` entries at most. Returns how much of the
    /// budget is left: none if there may be more to do.
    pub(crate) fn reap(
        &mut self,
        now: u64,
        mut budget: usize,
        bound: &Bound,
        garbage: &mut Garbage<V>,
    ) -> usize {
        while budget > 0
            && let Some(wheel) = &mut self.wheel
            && let Some(due) = wheel.next_due(&mut self.slots, now)
        {
            budget -= 1;
            let deadline = self.slots.entry(due.slot).stored.deadline;
            if deadline <= now {
                let hash = self.hash_of(due.slot);
                self.remove(due.slot, hash, bound, garbage);
                self.counts.expired += 1;
            } else if deadline < NEVER {
                wheel.defer(&mut self.slots, &due, deadline, now);
            }
        }
        budget
    }

    /// Lets [`reap`](Self::reap) find even what has expired just now.
    pub(crate) fn hurry(&mut self, now: u64) {
        if let Some(wheel) = &mut self.wheel {
            wheel.hurry(&mut self.slots, now);
        }
    }

    /// Removes the entry that was written least recently, which makes room for another; whether
    /// there was one.
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
        let mut empty = Self::new(self.hasher.clone(), self.written.is_some());
        empty.counts = self.counts;
        std::mem::replace(self, empty)
    }

    #[inline]
    fn find(&self, key: &KeyRef<'_>, hash: KeyHash) -> Option<u32> {
        self.index
            .find(hash, |slot| self.slots.entry(slot).key.is(key))
    }

    fn hash_of(&self, slot: u32) -> KeyHash {
        self.hasher.hash(&self.slots.entry(slot).key.as_ref())
    }

    /// Takes an entry out of everything that refers to it, and then out of its slot.
    fn remove(&mut self, slot: u32, hash: KeyHash, bound: &Bound, garbage: &mut Garbage<V>) {
        self.index.remove(hash, slot);
        if let Some(wheel) = &mut self.wheel {
            wheel.unlink(&mut self.slots, slot);
        }
        if let Some(written) = &mut self.written {
            written.unlink(slot);
        }
        garbage.add(self.slots.remove(slot).stored.payload);
        bound.give_back(1);
        // Two for one, so that slots are given up faster than entries.
        self.compact();
        self.compact();
    }

    /// Gives up a slot where most of them are free.
    fn compact(&mut self) {
        if let Some((last, to)) = self.slots.compact() {
            self.index.renumber(self.hash_of(last), last, to);
            self.slots.take_from_free(to);
            if let Some(wheel) = &mut self.wheel {
                wheel.replace(&mut self.slots, last, to);
            }
            if let Some(written) = &mut self.written {
                written.replace(last, to);
            }
            self.slots.move_last(last, to);
        }
    }
}

#[cfg(test)]
impl<V> Shard<V> {
    /// For how many entries there is memory.
    pub(crate) fn capacity(&self) -> usize {
        self.index.lanes().max(self.slots.end())
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
        let slots = slot as usize + 1;
        if self.links.len() < slots {
            self.links.resize(slots, Links::NONE);
        }
        self.lists.push_back(&mut self.links, OLDEST_FIRST, slot);
    }

    fn unlink(&mut self, slot: u32) {
        self.lists.unlink(&mut self.links, slot);
    }

    fn replace(&mut self, from: u32, to: u32) {
        self.lists.replace(&mut self.links, from, to);
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
