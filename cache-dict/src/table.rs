//! [`Table`], a hash table whose entries have numbered slots.

use crate::hash::KeyHash;
use crate::index_lists::{LinkStore, Links, Moved};

/// An open-addressing hash table, similar to Facebook's F14. The slots are in buckets of seven, and
/// each bucket has eight bytes of tags: a tag for each slot, taken from the hash, and the number of
/// entries that found the bucket full and overflowed to the next.
///
/// A search reads the tags, which are small enough to stay in the processor's cache, and then,
/// almost always, only the slot sought. Most entries are in the place of their bucket that their
/// hash prefers, so the processor can guess the slot. Removed entries leave no tombstones. An entry
/// keeps its slot until the table is [resized](Self::resize), so that lists can refer to it.
pub(crate) struct Table<T> {
    tags: Vec<Tags>,
    buckets: Vec<Bucket<T>>,
    len: usize,
}

/// The tags of a bucket in the lower seven bytes, and the number of entries that overflowed in the
/// highest. A free slot has the tag zero.
#[derive(Clone, Copy)]
struct Tags(u64);

/// The number of slots in a bucket.
const PER_BUCKET: usize = 7;
/// The table grows when this many slots of a bucket are taken on average.
const FULL: usize = 6;
/// Up to this size the table doubles; then it grows by two fifths.
const DOUBLES_TO: usize = 256;
/// Slots are numbered in 31 bits.
const MOST_BUCKETS: usize = (1 << 31) / PER_BUCKET;

/// Aligned, so that a slot of 64 bytes, the size with a payload of eight, is one cache line.
#[repr(align(64))]
struct Bucket<T>([Slot<T>; PER_BUCKET]);

struct Slot<T> {
    entry: Option<T>,
    links: Links,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Self {
            tags: Vec::new(),
            buckets: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The number of slots.
    pub(crate) fn slots(&self) -> usize {
        self.buckets.len() * PER_BUCKET
    }

    /// The entry in a slot that [`find`](Self::find), [`insert`](Self::insert) or a list named.
    #[inline]
    pub(crate) fn entry(&self, slot: u32) -> &T {
        held(self.slot(slot).entry.as_ref())
    }

    #[inline]
    pub(crate) fn entry_mut(&mut self, slot: u32) -> &mut T {
        held(self.slot_mut(slot).entry.as_mut())
    }

    /// Returns the slot of the entry with this hash for which `is_sought` returns `true`.
    #[inline]
    pub(crate) fn find(&self, hash: KeyHash, is_sought: impl Fn(&T) -> bool) -> Option<u32> {
        self.search(hash, is_sought).map(|(slot, _)| slot)
    }

    /// Returns this entry, without working out the number of its slot.
    #[inline]
    pub(crate) fn get(&self, hash: KeyHash, is_sought: impl Fn(&T) -> bool) -> Option<&T> {
        self.search(hash, is_sought).map(|(_, entry)| entry)
    }

    /// Loads the entry with this hash, most probably, into the processor's cache. Nothing branches
    /// on what is loaded, so the processor goes on without waiting for it.
    #[inline]
    pub(crate) fn load(&self, hash: KeyHash) {
        let number = self.home(hash);
        if let (Some(tags), Some(bucket)) = (self.tags.get(number), self.buckets.get(number))
            && let Some(slot) = bucket.0.get(tags.probable_place(hash.tag()))
        {
            std::hint::black_box(slot.entry.is_some());
        }
    }

    #[inline]
    fn search(&self, hash: KeyHash, is_sought: impl Fn(&T) -> bool) -> Option<(u32, &T)> {
        let mut number = self.home(hash);
        // Most entries are in their preferred place. The processor predicts so, and loads the slot
        // without waiting for the tags.
        let place = hash.place(PER_BUCKET);
        if self.tags.get(number)?.has(place, hash.tag())
            && let Some(entry) = &self.buckets.get(number)?.0.get(place)?.entry
            && is_sought(entry)
        {
            return Some((slot_number(number, place), entry));
        }
        // At most once for each bucket: the number of entries that overflowed may be too high.
        for _ in 0..self.tags.len() {
            let tags = *self.tags.get(number)?;
            let bucket = self.buckets.get(number)?;
            for place in tags.places(hash.tag()) {
                if let Some(Slot {
                    entry: Some(entry), ..
                }) = bucket.0.get(place)
                    && is_sought(entry)
                {
                    return Some((slot_number(number, place), entry));
                }
            }
            if tags.went_on() == 0 {
                return None;
            }
            number = self.after(number);
        }
        None
    }

    /// Returns the number of buckets that the table should have, if it should be resized before
    /// an entry is added.
    ///
    /// A table is resized as a whole. Moving a few entries at each insertion, in the order of their
    /// homes, was measured and made filling a cache twice as slow and one set in a hundred ten times
    /// as slow: each step waits for memory, for the entries that it moves, for their new places and
    /// for their neighbors in lists, while all of one table is in the processor's cache when it is
    /// moved at once.
    ///
    /// A large table does not double, which would leave half of its buckets empty. With less than
    /// two fifths, so many tables would grow while a cache is filled that one write in a thousand
    /// had to wait for it.
    pub(crate) fn larger_size(&self) -> Option<usize> {
        let buckets = self.buckets.len();
        let more = if buckets < DOUBLES_TO {
            buckets.max(1)
        } else {
            buckets * 2 / 5
        };
        (self.len >= buckets * FULL).then(|| (buckets + more).min(MOST_BUCKETS))
    }

    /// Returns the number of buckets that the table should have, if few of its slots are taken.
    pub(crate) fn smaller_size(&self) -> Option<usize> {
        let buckets = self.buckets.len();
        (buckets > 8 && self.len * 6 < buckets * PER_BUCKET).then(|| self.len / 5 + 1)
    }

    /// Moves all entries into this many buckets, which must have room for them. Returns the new
    /// number of each old slot, so that the heads of lists can be renumbered; the links in the
    /// slots already are.
    pub(crate) fn resize(&mut self, buckets: usize, hash: impl Fn(&T) -> KeyHash) -> Moved {
        let mut larger = Self::new();
        larger.tags = vec![Tags(0); buckets];
        larger.buckets.reserve_exact(buckets);
        let old = std::mem::replace(self, larger);
        let mut moved = Vec::with_capacity(old.slots());
        for slot in old.buckets.into_iter().flat_map(|bucket| bucket.0) {
            let Some(entry) = &slot.entry else {
                moved.push(Moved::FREE);
                continue;
            };
            let (number, place) = self.take_place(hash(entry));
            // The order of homes remains, so a bucket is made just before its entries arrive, which
            // loads its memory only once.
            if self.buckets.len() <= number {
                self.buckets.resize_with(number + 1, Bucket::empty);
            }
            let to = slot_number(number, place);
            *self.slot_mut(to) = slot;
            moved.push(to);
        }
        self.buckets.resize_with(buckets, Bucket::empty);
        let moved = Moved(moved);
        for bucket in &mut self.buckets {
            for slot in &mut bucket.0 {
                moved.renumber(&mut slot.links);
            }
        }
        moved
    }

    /// Adds an entry that is not in the table. There must be room for it.
    pub(crate) fn insert(&mut self, hash: KeyHash, entry: T) -> u32 {
        let (number, place) = self.take_place(hash);
        let slot = slot_number(number, place);
        self.slot_mut(slot).entry = Some(entry);
        slot
    }

    /// Marks a free place as taken by an entry with this hash. Returns the number of its bucket
    /// and the place in it.
    fn take_place(&mut self, hash: KeyHash) -> (usize, usize) {
        let mut number = self.home(hash);
        loop {
            let tags = self.tags_mut(number);
            if let Some(place) = tags.free_place(hash.place(PER_BUCKET)) {
                tags.take(place, hash.tag());
                self.len += 1;
                return (number, place);
            }
            tags.one_more_went_on();
            number = self.after(number);
        }
    }

    /// Removes an entry, which has this hash, from its slot.
    pub(crate) fn remove(&mut self, slot: u32, hash: KeyHash) -> T {
        let removed = held(self.slot_mut(slot).entry.take());
        self.len -= 1;
        let mut number = self.home(hash);
        let last = slot as usize / PER_BUCKET;
        while number != last {
            self.tags_mut(number).one_less_went_on();
            number = self.after(number);
        }
        self.tags_mut(last).free(slot as usize % PER_BUCKET);
        removed
    }

    /// The bucket where the search for a hash begins: the hash, scaled from 2³² to the number of
    /// buckets.
    #[inline]
    fn home(&self, hash: KeyHash) -> usize {
        ((u64::from(hash.low()) * self.tags.len() as u64) >> 32) as usize
    }

    fn after(&self, number: usize) -> usize {
        let next = number + 1;
        if next == self.tags.len() { 0 } else { next }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "`home` and `after` return numbers of buckets"
    )]
    fn tags_mut(&mut self, number: usize) -> &mut Tags {
        &mut self.tags[number]
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "slots are numbered here")]
    fn slot(&self, slot: u32) -> &Slot<T> {
        &self.buckets[slot as usize / PER_BUCKET].0[slot as usize % PER_BUCKET]
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "slots are numbered here")]
    fn slot_mut(&mut self, slot: u32) -> &mut Slot<T> {
        &mut self.buckets[slot as usize / PER_BUCKET].0[slot as usize % PER_BUCKET]
    }
}

impl<T> LinkStore for Table<T> {
    #[inline]
    fn links(&mut self, slot: u32) -> &mut Links {
        &mut self.slot_mut(slot).links
    }
}

impl<T> Bucket<T> {
    fn empty() -> Self {
        Self(
            [const {
                Slot {
                    entry: None,
                    links: Links::NONE,
                }
            }; PER_BUCKET],
        )
    }
}

/// Below 2³¹: see [`MOST_BUCKETS`].
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "`MOST_BUCKETS` limits the number of buckets"
)]
fn slot_number(bucket: usize, place: usize) -> u32 {
    (bucket * PER_BUCKET + place) as u32
}

/// The entry of a slot that a tag or a list refers to. Such a slot is never free, because an entry
/// is removed from the tags and the lists together with its slot.
#[inline]
#[expect(
    clippy::expect_used,
    reason = "callers cannot cause a reference to a free slot"
)]
fn held<R>(entry: Option<R>) -> R {
    entry.expect("a slot that a tag or a list refers to has an entry")
}

const LOWEST_BITS: u64 = u64::from_le_bytes([1; 8]);
const HIGHEST_BITS: u64 = LOWEST_BITS << 7;
/// Without the byte of the count.
const HIGHEST_BITS_OF_TAGS: u64 = HIGHEST_BITS >> 8;
const COUNT: u32 = 56;

impl Tags {
    /// The places with this tag, and rarely one with another tag, so the caller compares keys.
    #[inline]
    fn places(self, tag: u8) -> impl Iterator<Item = usize> {
        let mut equal = self.equal(tag);
        std::iter::from_fn(move || {
            (equal != 0).then(|| {
                let place = equal.trailing_zeros() / 8;
                equal &= equal - 1;
                place as usize
            })
        })
    }

    /// The lowest place with this tag, or the last.
    #[inline]
    fn probable_place(self, tag: u8) -> usize {
        let last = 1 << (8 * PER_BUCKET - 1);
        (self.equal(tag) | last).trailing_zeros() as usize / 8
    }

    /// The highest bits of the bytes of the places with this tag, and rarely of one with another
    /// tag. The lowest is always exact.
    #[inline]
    fn equal(self, tag: u8) -> u64 {
        // A byte is zero where the tags are equal. Subtracting one from it sets its highest bit;
        // the borrow may also set that of the byte above.
        let different = self.0 ^ (LOWEST_BITS * u64::from(tag));
        different.wrapping_sub(LOWEST_BITS) & !different & HIGHEST_BITS_OF_TAGS
    }

    #[inline]
    fn has(self, place: usize, tag: u8) -> bool {
        (self.0 >> (8 * place)) & 0xff == u64::from(tag)
    }

    /// A free place: the preferred one, if possible.
    #[inline]
    fn free_place(self, preferred: usize) -> Option<usize> {
        if self.has(preferred, 0) {
            return Some(preferred);
        }
        // The lowest match is always exact.
        self.places(0).next()
    }

    fn take(&mut self, place: usize, tag: u8) {
        self.0 |= u64::from(tag) << (8 * place);
    }

    fn free(&mut self, place: usize) {
        self.0 &= !(0xff << (8 * place));
    }

    #[inline]
    fn went_on(self) -> u8 {
        (self.0 >> COUNT) as u8
    }

    /// A count that has reached its limit is no longer exact, and stays there.
    fn one_more_went_on(&mut self) {
        if self.went_on() < u8::MAX {
            self.0 += 1 << COUNT;
        }
    }

    fn one_less_went_on(&mut self) {
        if (1..u8::MAX).contains(&self.went_on()) {
            self.0 -= 1 << COUNT;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::hash::KeyHasher;
    use crate::key::KeyRef;
    use crate::tests::cases;

    fn hash(key: u64, mask: u64) -> KeyHash {
        KeyHash::of_bits(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask)
    }

    fn resize(table: &mut Table<u64>, mask: u64, size: Option<usize>) {
        if let Some(buckets) = size {
            table.resize(buckets, |entry| hash(*entry, mask));
        }
    }

    fn grow(table: &mut Table<u64>, mask: u64) {
        resize(table, mask, table.larger_size());
    }

    fn shrink(table: &mut Table<u64>, mask: u64) {
        resize(table, mask, table.smaller_size());
    }

    proptest! {
        #![proptest_config(cases(64))]

        /// Compared with a map, with hashes that collide completely, in their home, or in their
        /// tag.
        #[test]
        fn behaves_like_a_map(
            mask in prop_oneof![Just(0), Just(0xf), Just(u64::from(u32::MAX)), Just(!0xffff_ffff), Just(u64::MAX)],
            steps in proptest::collection::vec((0..3, 0_u64..300), 1..600),
        ) {
            let mut table: Table<u64> = Table::new();
            let mut model: HashSet<u64> = HashSet::new();
            for (step, key) in steps {
                let found = table.find(hash(key, mask), |entry| *entry == key);
                prop_assert_eq!(found.is_some(), model.contains(&key));
                match found {
                    None if step < 2 => {
                        grow(&mut table, mask);
                        let slot = table.insert(hash(key, mask), key);
                        prop_assert_eq!(table.entry(slot), &key);
                        model.insert(key);
                    }
                    Some(slot) if step == 2 => {
                        prop_assert_eq!(table.remove(slot, hash(key, mask)), key);
                        model.remove(&key);
                        shrink(&mut table, mask);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for key in &model {
                prop_assert!(table.find(hash(*key, mask), |entry| entry == key).is_some());
            }
            let slots = table.buckets.iter().flat_map(|bucket| &bucket.0);
            prop_assert_eq!(slots.filter(|slot| slot.entry.is_some()).count(), model.len());
        }
    }

    #[test]
    fn removed_entries_leave_no_tombstones() {
        let hash = |key| hash(key, u64::MAX);
        let mut table = Table::new();
        let full = 40;
        table.resize(full, |key| hash(*key));
        for round in 0..500 {
            let keys = || (0..(full * PER_BUCKET) as u64).map(|n| n + round * 1_000);
            for key in keys() {
                table.insert(hash(key), key);
            }
            for key in keys() {
                let slot = table.find(hash(key), |entry| *entry == key).unwrap();
                table.remove(slot, hash(key));
            }
        }
        let mut stuck = table.tags.iter().filter(|tags| tags.0 != 0);
        assert!(stuck.all(|tags| tags.went_on() == u8::MAX));
    }

    #[test]
    fn the_table_grows_by_two_fifths_and_shrinks_when_emptied() {
        let mut table = Table::new();
        for key in 0..10_000 {
            grow(&mut table, u64::MAX);
            table.insert(hash(key, u64::MAX), key);
            let (taken, slots) = (table.len(), table.slots());
            let most = if taken > 1_600 { 165 } else { 240 };
            assert!(
                slots <= 14 + taken * most / 100,
                "{slots} slots for {taken}"
            );
        }
        for key in 10..10_000 {
            let hash = hash(key, u64::MAX);
            let slot = table.find(hash, |entry| *entry == key).unwrap();
            table.remove(slot, hash);
            shrink(&mut table, u64::MAX);
        }
        assert!(table.slots() <= 9 * PER_BUCKET);
        let found = |key| table.find(hash(key, u64::MAX), |entry| *entry == key);
        assert!((0..10).all(|key| found(key).is_some()));
    }

    #[test]
    fn most_entries_are_in_their_preferred_place_and_are_loaded() {
        let hasher = KeyHasher::new();
        let hash = |key: &u64| hasher.hash(&KeyRef::new(&key.to_string()));
        let mut table = Table::new();
        for key in 0..10_000 {
            if let Some(buckets) = table.larger_size() {
                table.resize(buckets, hash);
            }
            table.insert(hash(&key), key);
        }
        let (mut preferred, mut loaded) = (0, 0);
        for key in 0..10_000 {
            let hash = hash(&key);
            let slot = table.find(hash, |entry| *entry == key).unwrap();
            let home = table.home(hash);
            preferred += u32::from(slot == slot_number(home, hash.place(PER_BUCKET)));
            let place = table.tags[home].probable_place(hash.tag());
            loaded += u32::from(slot == slot_number(home, place));
        }
        // About 6,300 and 9,200.
        assert!(preferred > 5_500 && loaded > 8_000, "{preferred}, {loaded}");
    }

    #[test]
    fn links_follow_the_entries() {
        use crate::index_lists::IndexLists;

        let mut table = Table::new();
        let mut lists = IndexLists::new(1);
        for key in 0..1_000 {
            if let Some(buckets) = table.larger_size() {
                let moved = table.resize(buckets, |key| hash(*key, u64::MAX));
                lists.renumber(&moved);
            }
            let slot = table.insert(hash(key, u64::MAX), key);
            lists.push_back(&mut table, 0, slot);
        }
        for key in 0..1_000 {
            let first = lists.first(0).unwrap();
            assert_eq!(*table.entry(first), key);
            lists.unlink(&mut table, first);
        }
    }
}
