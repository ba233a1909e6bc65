//! [`Index`], from the hash of a key to the slot of its entry.

/// An open-addressing table of (tag, slot) pairs with linear probing. The tag is 32 bits of the
/// key's hash: enough to grow without looking at the entries, and to look at an entry only
/// when it is almost surely the right one. Entries whose tags are equal stand one after the
/// other, so any collision is handled.
///
/// Its size is not held to powers of two, which would leave half of it empty just after they
/// are passed.
#[derive(Default)]
pub(crate) struct Index {
    cells: Vec<Cell>,
    len: usize,
}

/// Tag in the upper half, slot in the lower.
type Cell = u64;

const FREE: Cell = u64::MAX;
const SMALLEST: usize = 8;

impl Index {
    /// The slot with this tag that `matches`.
    #[inline]
    pub(crate) fn find(&self, tag: u32, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(tag);
        loop {
            let cell = *self.cells.get(at)?;
            if cell == FREE {
                return None;
            }
            if tag_of(cell) == tag && matches(slot_of(cell)) {
                return Some(slot_of(cell));
            }
            at = self.after(at);
        }
    }

    /// Adds a slot that is not there yet.
    pub(crate) fn insert(&mut self, tag: u32, slot: u32) {
        // At least a quarter stays free, which keeps the searches short and makes them end.
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            self.rebuild((self.cells.len() + self.cells.len() / 2).max(SMALLEST));
        }
        self.place(cell(tag, slot));
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, tag: u32, slot: u32) {
        let Some(at) = self.position(tag, slot) else {
            return;
        };
        self.vacate(at);
        self.len -= 1;
        if self.cells.len() > 8 * SMALLEST && self.len * 8 < self.cells.len() {
            self.rebuild(self.len * 2);
        }
    }

    /// Lets the entry that was in slot `from` be found in slot `to`.
    pub(crate) fn relocate(&mut self, tag: u32, from: u32, to: u32) {
        if let Some(found) = self
            .position(tag, from)
            .and_then(|at| self.cells.get_mut(at))
        {
            *found = cell(tag, to);
        }
    }

    /// Where the search for a tag begins: the share of the table that the tag is of 2³².
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.cells.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        let next = at + 1;
        if next == self.cells.len() { 0 } else { next }
    }

    /// How many steps it is from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.cells.len() - from
        }
    }

    fn position(&self, tag: u32, slot: u32) -> Option<usize> {
        let wanted = cell(tag, slot);
        let mut at = self.home(tag);
        loop {
            let found = *self.cells.get(at)?;
            if found == wanted {
                return Some(at);
            }
            if found == FREE {
                return None;
            }
            at = self.after(at);
        }
    }

    fn place(&mut self, new: Cell) {
        let mut at = self.home(tag_of(new));
        while let Some(found) = self.cells.get_mut(at) {
            if *found == FREE {
                *found = new;
                return;
            }
            at = self.after(at);
        }
    }

    /// Empties a place, and moves up what could not be found behind the gap any more.
    fn vacate(&mut self, mut gap: usize) {
        let mut at = gap;
        loop {
            at = self.after(at);
            let Some(&cell) = self.cells.get(at) else {
                return;
            };
            if cell == FREE {
                break;
            }
            let home = self.home(tag_of(cell));
            if self.distance(home, at) >= self.distance(gap, at) {
                self.put(gap, cell);
                gap = at;
            }
        }
        self.put(gap, FREE);
    }

    fn put(&mut self, at: usize, cell: Cell) {
        if let Some(place) = self.cells.get_mut(at) {
            *place = cell;
        }
    }

    fn rebuild(&mut self, size: usize) {
        let old = std::mem::replace(&mut self.cells, vec![FREE; size.max(SMALLEST)]);
        for cell in old {
            if cell != FREE {
                self.place(cell);
            }
        }
    }
}

fn cell(tag: u32, slot: u32) -> Cell {
    u64::from(tag) << 32 | u64::from(slot)
}

fn tag_of(cell: Cell) -> u32 {
    (cell >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn slot_of(cell: Cell) -> u32 {
    cell as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map, with tags that collide, stand close together, and wrap around.
        #[test]
        fn behaves_like_a_map(
            steps in proptest::collection::vec(
                (any::<bool>(), prop_oneof![0_u32..4, any::<u32>(), u32::MAX - 4..=u32::MAX], 0_u32..50),
                1..400,
            ),
        ) {
            let mut index = Index::default();
            let mut model: HashMap<u32, u32> = HashMap::new();
            for (insert, tag, slot) in steps {
                match model.get(&slot).copied() {
                    None if insert => {
                        index.insert(tag, slot);
                        model.insert(slot, tag);
                    }
                    Some(tag) if !insert => {
                        index.remove(tag, slot);
                        model.remove(&slot);
                    }
                    _ => {}
                }
                for (slot, tag) in &model {
                    prop_assert_eq!(index.find(*tag, |found| found == *slot), Some(*slot));
                }
                prop_assert_eq!(index.len, model.len());
                let occupied = index.cells.iter().filter(|cell| **cell != FREE).count();
                prop_assert_eq!(occupied, model.len());
            }
        }
    }

    #[test]
    fn it_shrinks_when_emptied() {
        let mut index = Index::default();
        let tag = |slot: u32| slot.wrapping_mul(0x9e37_79b9);
        (0..10_000).for_each(|slot| index.insert(tag(slot), slot));
        assert!(index.cells.len() < 20_000);
        (10..10_000).for_each(|slot| index.remove(tag(slot), slot));
        assert!(index.cells.len() < 200);
        assert!((0..10).all(|slot| index.find(tag(slot), |found| found == slot).is_some()));
    }
}
