//! [`Table`], a hash table whose entries stay where they are.

use crate::hash::KeyHash;

/// An open-addressing hash table after the manner of Facebook's F14. The cells stand in chunks
/// of fifteen, and each chunk has a header of sixteen bytes: a tag for each cell, made of the
/// hash, and the number of entries that found the chunk full and went on to the next.
///
/// A search reads the headers, which are few enough to stay in the processor's cache, and then,
/// almost always, just the one cell that it is for. What is removed leaves nothing behind that
/// a search would stumble over. An entry keeps its cell until the table is
/// [resized](Self::resize), so that lists can refer to it. The size is not held to powers of
/// two, which would leave half of it empty just after they are passed.
pub(crate) struct Table<T> {
    headers: Vec<Header>,
    cells: Vec<Option<T>>,
    len: usize,
}

/// The tags of a chunk in the lower fifteen bytes, and in the highest the number of those that
/// went on. A free cell has the tag zero.
#[derive(Clone, Copy)]
struct Header(u128);

/// Cells in a chunk.
const CHUNK: usize = 15;
/// The table grows when so many cells of a chunk are taken on average.
const FULL: usize = 13;
/// Cells are numbered in 31 bits.
const MOST_CHUNKS: usize = (1 << 31) / CHUNK;

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Self {
            headers: Vec::new(),
            cells: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many cells there are.
    pub(crate) fn size(&self) -> usize {
        self.cells.len()
    }

    pub(crate) fn get(&self, cell: u32) -> Option<&T> {
        self.cells.get(cell as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, cell: u32) -> Option<&mut T> {
        self.cells.get_mut(cell as usize)?.as_mut()
    }

    /// The cell with this hash whose entry `matches`.
    #[inline]
    pub(crate) fn find(&self, hash: KeyHash, matches: impl Fn(&T) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let mut chunk = self.home(hash);
        // No more often than there are chunks: the count of a header may be too high.
        for _ in 0..self.headers.len() {
            let header = *self.headers.get(chunk)?;
            for place in header.places(tag) {
                let cell = chunk * CHUNK + place;
                if let Some(Some(entry)) = self.cells.get(cell)
                    && matches(entry)
                {
                    return u32::try_from(cell).ok();
                }
            }
            if header.went_on() == 0 {
                return None;
            }
            chunk = self.after(chunk);
        }
        None
    }

    /// The size that the table should have, if another than it has: before an entry is added,
    /// or after some were removed.
    pub(crate) fn better_size(&self, adding: usize) -> Option<usize> {
        let chunks = self.headers.len();
        let wanted = self.len + adding;
        let better = if wanted > chunks * FULL {
            chunks + chunks / 3 + 1
        } else if chunks > 4 && wanted * 6 < chunks * CHUNK {
            wanted / 10 + 1
        } else {
            return None;
        };
        (better <= MOST_CHUNKS).then_some(better)
    }

    /// Moves all entries into so many chunks; tells `moved` the old and the new cell of each.
    pub(crate) fn resize(
        &mut self,
        chunks: usize,
        hash: impl Fn(&T) -> KeyHash,
        mut moved: impl FnMut(u32, u32),
    ) {
        let mut larger = Self::new();
        larger.headers = vec![Header(0); chunks];
        larger.cells.reserve_exact(chunks * CHUNK);
        larger.cells.resize_with(chunks * CHUNK, || None);
        let old = std::mem::replace(self, larger);
        for (from, entry) in (0_u32..).zip(old.cells) {
            if let Some(entry) = entry
                && let Some(to) = self.insert(hash(&entry), entry)
            {
                moved(from, to);
            }
        }
    }

    /// Adds an entry that is not there yet, into the cell returned; none if there is no room,
    /// which there is unless [`better_size`](Self::better_size) was not asked.
    pub(crate) fn insert(&mut self, hash: KeyHash, entry: T) -> Option<u32> {
        if self.len >= self.cells.len() {
            return None;
        }
        let mut chunk = self.home(hash);
        loop {
            let header = self.headers.get_mut(chunk)?;
            if let Some(place) = header.first_free() {
                header.take(place, tag(hash));
                let cell = chunk * CHUNK + place;
                *self.cells.get_mut(cell)? = Some(entry);
                self.len += 1;
                return u32::try_from(cell).ok();
            }
            header.one_more_went_on();
            chunk = self.after(chunk);
        }
    }

    /// Frees a cell, whose entry has this hash.
    pub(crate) fn remove(&mut self, cell: u32, hash: KeyHash) -> Option<T> {
        let removed = self.cells.get_mut(cell as usize)?.take()?;
        self.len -= 1;
        let mut chunk = self.home(hash);
        let last = cell as usize / CHUNK;
        while chunk != last
            && let Some(header) = self.headers.get_mut(chunk)
        {
            header.one_less_went_on();
            chunk = self.after(chunk);
        }
        if let Some(header) = self.headers.get_mut(last) {
            header.free(cell as usize % CHUNK);
        }
        Some(removed)
    }

    /// The chunk where the search for a hash begins: the share of all that the hash is of 2³².
    fn home(&self, hash: KeyHash) -> usize {
        ((u64::from(hash.low()) * self.headers.len() as u64) >> 32) as usize
    }

    fn after(&self, chunk: usize) -> usize {
        let next = chunk + 1;
        if next == self.headers.len() { 0 } else { next }
    }
}

/// A byte of the hash that neither the shard nor the home depends on; not zero.
#[inline]
fn tag(hash: KeyHash) -> u8 {
    ((hash.high() >> 24) as u8).max(1)
}

const LOWEST_BITS: u128 = u128::from_le_bytes([1; 16]);
const HIGHEST_BITS: u128 = LOWEST_BITS << 7;
/// Those of the tags, without the count.
const HIGHEST_BITS_OF_TAGS: u128 = HIGHEST_BITS >> 8;
const COUNT: u32 = 120;

impl Header {
    /// The places with this tag, and now and then one with another: whoever looks there finds
    /// out.
    fn places(self, tag: u8) -> impl Iterator<Item = usize> {
        // A byte is zero where the tags are equal. Subtracting one from each byte then sets its
        // highest bit; the borrow may set that of the byte above too.
        let different = self.0 ^ (LOWEST_BITS * u128::from(tag));
        let mut equal = different.wrapping_sub(LOWEST_BITS) & !different & HIGHEST_BITS_OF_TAGS;
        std::iter::from_fn(move || {
            (equal != 0).then(|| {
                let place = equal.trailing_zeros() / 8;
                equal &= equal - 1;
                place as usize
            })
        })
    }

    fn first_free(self) -> Option<usize> {
        // The lowest match is always exact.
        self.places(0).next()
    }

    fn take(&mut self, place: usize, tag: u8) {
        self.0 |= u128::from(tag) << (8 * place);
    }

    fn free(&mut self, place: usize) {
        self.0 &= !(0xff << (8 * place));
    }

    fn went_on(self) -> u8 {
        (self.0 >> COUNT) as u8
    }

    /// A count that has reached its limit stays there: it is not known any more.
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
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn resize(table: &mut Table<u64>, hash: impl Fn(u64) -> KeyHash, adding: usize) {
        if let Some(chunks) = table.better_size(adding) {
            table.resize(chunks, |entry| hash(*entry), |_, _| {});
        }
    }

    proptest! {
        /// Against a map, with hashes that collide altogether, in their home, or in their tag.
        #[test]
        fn behaves_like_a_map(
            mask in prop_oneof![Just(0), Just(0xf), Just(u64::from(u32::MAX)), Just(!0xffff_ffff), Just(u64::MAX)],
            steps in proptest::collection::vec((0..3, 0_u64..600), 1..2000),
        ) {
            let hash = |key: u64| KeyHash::of_bits(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask);
            let mut table: Table<u64> = Table::new();
            let mut model: HashMap<u64, u32> = HashMap::new();
            for (step, key) in steps {
                let found = table.find(hash(key), |entry| *entry == key);
                prop_assert_eq!(found.is_some(), model.contains_key(&key));
                match found {
                    None if step < 2 => {
                        resize(&mut table, hash, 1);
                        let cell = table.insert(hash(key), key);
                        prop_assert_eq!(cell.and_then(|cell| table.get(cell)), Some(&key));
                        model.insert(key, 0);
                    }
                    Some(cell) if step == 2 => {
                        prop_assert_eq!(table.remove(cell, hash(key)), Some(key));
                        prop_assert_eq!(table.get(cell), None);
                        model.remove(&key);
                        resize(&mut table, hash, 0);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for key in model.keys() {
                prop_assert!(table.find(hash(*key), |entry| entry == key).is_some());
            }
            prop_assert_eq!(table.cells.iter().flatten().count(), model.len());
        }
    }

    #[test]
    fn removing_leaves_nothing_behind() {
        let hash = |key: u64| KeyHash::of_bits(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut table = Table::new();
        let full = 40;
        table.resize(full, |key| hash(*key), |_, _| {});
        for round in 0..1_000 {
            let keys = || (0..(full * CHUNK) as u64).map(|n| n + round * 1_000);
            for key in keys() {
                assert!(table.insert(hash(key), key).is_some());
            }
            assert_eq!(table.insert(hash(0), 0), None);
            for key in keys() {
                let cell = table.find(hash(key), |entry| *entry == key).unwrap();
                table.remove(cell, hash(key));
            }
        }
        let stuck = table.headers.iter().filter(|header| header.0 != 0);
        assert!(stuck.into_iter().all(|header| header.went_on() == u8::MAX));
    }

    #[test]
    fn it_grows_by_a_third_and_shrinks_when_emptied() {
        let hash = |key: u64| KeyHash::of_bits(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut table = Table::new();
        for key in 0..10_000 {
            resize(&mut table, hash, 1);
            table.insert(hash(key), key);
            assert!(table.size() <= 2 * CHUNK + table.len() * 2);
        }
        for key in 10..10_000 {
            let cell = table.find(hash(key), |entry| *entry == key).unwrap();
            table.remove(cell, hash(key));
            resize(&mut table, hash, 0);
        }
        assert!(table.size() <= 5 * CHUNK);
        assert!((0..10).all(|key| table.find(hash(key), |entry| *entry == key).is_some()));
    }
}
