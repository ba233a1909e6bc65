//! [`Index`], which slot the entry with a hash is in.

use crate::hash::KeyHash;

/// An open-addressing hash table of slot numbers.
///
/// A bucket is one cache line: the hashes of up to seven entries, the numbers of their slots,
/// and how many entries found the bucket full and went on to the next. A search reads one line,
/// almost always, and then the slot that it is for. A bucket says by itself when a search has to
/// go on, so what is removed leaves nothing behind that later searches would stumble over.
///
/// The hashes are kept here, so growing reads no entry, and moves none: what is rehashed at once
/// is small, twelve bytes an entry.
pub(crate) struct Index {
    buckets: Vec<Bucket>,
    len: usize,
}

/// Lanes after the seventh hold no entry, which makes comparing all hashes at once simple.
#[repr(align(64))]
#[derive(Clone)]
struct Bucket {
    hashes: [u32; LANES],
    slots: [u32; LANES],
}

/// Eight, so that a comparison with all of them takes two vector instructions.
const LANES: usize = 8;
/// How many of them hold entries. The last one of `slots` counts those that went on.
const ENTRIES: usize = LANES - 1;
const PASSED: usize = ENTRIES;

/// The index grows when buckets hold more than 11/2 entries on average, and shrinks when they
/// hold fewer than two.
const FULL_HALVES: usize = 11;
const SPARSE: usize = 2;
/// After it has shrunk, buckets hold so many on average.
const SHRUNK: usize = 4;

/// The slot number of a lane without an entry.
const FREE: u32 = u32::MAX;

const EMPTY: Bucket = Bucket {
    hashes: [0; LANES],
    slots: {
        let mut slots = [FREE; LANES];
        slots[PASSED] = 0;
        slots
    },
};

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            buckets: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// For how many entries there are lanes.
    #[cfg(test)]
    pub(crate) fn lanes(&self) -> usize {
        self.buckets.len() * ENTRIES
    }

    /// The slot with this hash that is the one sought.
    #[inline]
    pub(crate) fn find(&self, hash: KeyHash, is_sought: impl Fn(u32) -> bool) -> Option<u32> {
        let mut number = self.home(hash.low());
        // No more often than there are buckets, should entries have passed each of them.
        for _ in 0..self.buckets.len() {
            let bucket = self.buckets.get(number)?;
            for lane in bucket.lanes_with(hash.low()) {
                let slot = bucket.slots[lane];
                if slot != FREE && is_sought(slot) {
                    return Some(slot);
                }
            }
            if bucket.slots[PASSED] == 0 {
                return None;
            }
            number = self.after(number);
        }
        None
    }

    /// Adds a slot that is not there yet.
    pub(crate) fn insert(&mut self, hash: KeyHash, slot: u32) {
        if (self.len + 1) * 2 > self.buckets.len() * FULL_HALVES {
            self.rehash(self.buckets.len() + self.buckets.len() / 4 + 1);
        }
        self.place(hash.low(), slot);
        self.len += 1;
    }

    /// Removes a slot that is there under this hash.
    pub(crate) fn remove(&mut self, hash: KeyHash, slot: u32) {
        let mut number = self.home(hash.low());
        for _ in 0..self.buckets.len() {
            let bucket = self.bucket(number);
            if let Some(lane) = bucket.lane_of(slot) {
                bucket.slots[lane] = FREE;
                self.len -= 1;
                break;
            }
            bucket.slots[PASSED] -= 1;
            number = self.after(number);
        }
        if self.buckets.len() > 1 && self.len < self.buckets.len() * SPARSE {
            self.rehash(self.len / SHRUNK + 1);
        }
    }

    /// Gives the entry that has this hash and is in the slot `from` the slot `to`.
    pub(crate) fn renumber(&mut self, hash: KeyHash, from: u32, to: u32) {
        let mut number = self.home(hash.low());
        for _ in 0..self.buckets.len() {
            let bucket = self.bucket(number);
            if let Some(lane) = bucket.lane_of(from) {
                bucket.slots[lane] = to;
                return;
            }
            number = self.after(number);
        }
    }

    /// Spreads all entries over so many buckets, which have room for them.
    fn rehash(&mut self, buckets: usize) {
        let old = std::mem::replace(&mut self.buckets, vec![EMPTY; buckets]);
        for bucket in old {
            let lanes = bucket.hashes.into_iter().zip(bucket.slots).take(ENTRIES);
            for (hash, slot) in lanes.filter(|(_, slot)| *slot != FREE) {
                self.place(hash, slot);
            }
        }
    }

    /// Into the first bucket from the home on that has room.
    fn place(&mut self, hash: u32, slot: u32) {
        let mut number = self.home(hash);
        loop {
            let bucket = self.bucket(number);
            if let Some(lane) = bucket.lane_of(FREE) {
                bucket.hashes[lane] = hash;
                bucket.slots[lane] = slot;
                return;
            }
            bucket.slots[PASSED] += 1;
            number = self.after(number);
        }
    }

    /// The bucket where the search for a hash begins: the share of all that the hash is of 2³².
    /// The number of buckets need not be a power of two then, which would leave half of them
    /// empty just after it is passed.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.buckets.len() as u64) >> 32) as usize
    }

    fn after(&self, number: usize) -> usize {
        let next = number + 1;
        if next == self.buckets.len() { 0 } else { next }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "`home` and `after` give numbers of buckets"
    )]
    fn bucket(&mut self, number: usize) -> &mut Bucket {
        &mut self.buckets[number]
    }
}

impl Bucket {
    /// The lanes with this hash, free ones that had it among them.
    #[inline]
    fn lanes_with(&self, hash: u32) -> Lanes {
        Lanes(equal(&self.hashes, hash))
    }

    /// The first lane with this slot.
    #[inline]
    fn lane_of(&self, slot: u32) -> Option<usize> {
        Lanes(equal(&self.slots, slot)).next()
    }
}

/// Which of the lanes that hold entries are equal to `sought`, a bit for each. Written without
/// a branch: compilers make a few vector instructions of it.
#[inline]
fn equal(lanes: &[u32; LANES], sought: u32) -> u32 {
    let mut bits = 0;
    for (lane, value) in lanes.iter().enumerate() {
        bits |= u32::from(*value == sought) << lane;
    }
    bits & !(1 << PASSED)
}

/// Numbers of lanes, the lowest first.
struct Lanes(u32);

impl Iterator for Lanes {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let lane = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (lane < ENTRIES).then_some(lane)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::tests::cases;

    fn hash(key: u64, mask: u64) -> KeyHash {
        KeyHash::of_bits(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask)
    }

    proptest! {
        #![proptest_config(cases(64))]

        /// Against a map, with hashes that collide altogether, or in their home.
        #[test]
        fn behaves_like_a_map(
            mask in prop_oneof![Just(0), Just(0xf), Just(0xffff_0000), Just(u64::MAX)],
            steps in proptest::collection::vec((0..4, 0_u32..300), 1..600),
        ) {
            let mut index = Index::new();
            // By key, the slot.
            let mut model: HashMap<u32, u32> = HashMap::new();
            let mut next = 0;
            for (step, key) in steps {
                let hash = hash(key.into(), mask);
                let slot = model.get(&key).copied();
                let found = index.find(hash, |found| Some(found) == slot);
                prop_assert_eq!(found, slot);
                match (step, slot) {
                    (0 | 1, None) => {
                        index.insert(hash, next);
                        model.insert(key, next);
                        next += 1;
                    }
                    (2, Some(slot)) => {
                        index.remove(hash, slot);
                        model.remove(&key);
                    }
                    (3, Some(slot)) => {
                        index.renumber(hash, slot, next);
                        model.insert(key, next);
                        next += 1;
                    }
                    _ => {}
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for (key, slot) in &model {
                let found = index.find(hash((*key).into(), mask), |found| found == *slot);
                prop_assert_eq!(found, Some(*slot));
            }
            let held = index.buckets.iter().flat_map(|bucket| &bucket.slots[..ENTRIES]);
            prop_assert_eq!(held.filter(|slot| **slot != FREE).count(), model.len());
        }
    }

    #[test]
    fn removing_leaves_nothing_behind() {
        let mut index = Index::new();
        for round in 0..100_u32 {
            let slots = || (0..200_u32).map(|n| n + round * 1_000);
            for slot in slots() {
                index.insert(hash(slot.into(), u64::MAX), slot);
            }
            for slot in slots() {
                index.remove(hash(slot.into(), u64::MAX), slot);
            }
            assert!(index.buckets.iter().all(|bucket| bucket.slots == EMPTY.slots));
        }
    }

    #[test]
    fn it_grows_by_a_quarter_and_shrinks_when_emptied() {
        let mut index = Index::new();
        for slot in 0..10_000 {
            index.insert(hash(slot.into(), u64::MAX), slot);
            assert!(index.lanes() <= index.len() * 8 / 5 + 2 * ENTRIES);
        }
        for slot in 10..10_000 {
            index.remove(hash(slot.into(), u64::MAX), slot);
            assert!(index.lanes() <= (index.len() + 1) * 4);
        }
        for slot in 0..10 {
            let found = index.find(hash(slot.into(), u64::MAX), |found| found == slot);
            assert_eq!(found, Some(slot));
        }
    }
}
