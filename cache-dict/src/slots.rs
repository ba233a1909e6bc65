//! [`Slots`], where the entries of a shard are.

use crate::index_lists::{IndexLists, LinkStore, Links};

/// Numbered slots. An entry stays in its slot, so that the index and the lists can refer to it,
/// unless [`compact`](Self::compact) moves it.
///
/// They are allocated a page at a time: growing moves nothing, and less than a page is allocated
/// and not used.
pub(crate) struct Slots<T> {
    pages: Pages<T>,
    /// Slots of this number and above are not in use.
    end: u32,
    free: IndexLists,
    free_count: u32,
}

struct Pages<T>(Vec<Vec<Group<T>>>);

/// Several slots, so that no space is lost where they are aligned: a slot of 64 bytes, as it is
/// for a payload of eight, is one cache line.
#[repr(align(64))]
struct Group<T>([Slot<T>; PER_GROUP]);

struct Slot<T> {
    entry: Option<T>,
    /// Its neighbours in the timing wheel, or among the free slots.
    links: Links,
}

const PER_GROUP: usize = 8;
const GROUPS_PER_PAGE: usize = 8;
const PER_PAGE: usize = PER_GROUP * GROUPS_PER_PAGE;

/// The only list of [`Slots::free`].
const FREE: u32 = 0;

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self {
            pages: Pages(Vec::new()),
            end: 0,
            free: IndexLists::new(1),
            free_count: 0,
        }
    }

    /// How many slots are in use, free ones among them.
    pub(crate) fn end(&self) -> usize {
        self.end as usize
    }

    /// The entry in a slot that it was [put into](Self::insert).
    #[inline]
    pub(crate) fn entry(&self, slot: u32) -> &T {
        held(self.pages.slot(slot).entry.as_ref())
    }

    #[inline]
    pub(crate) fn entry_mut(&mut self, slot: u32) -> &mut T {
        held(self.pages.slot_mut(slot).entry.as_mut())
    }

    /// Puts an entry into a slot, which is in no list.
    pub(crate) fn insert(&mut self, entry: T) -> u32 {
        // The one that was freed last may still be in the processor's cache.
        let slot = self.free.last(FREE).unwrap_or(self.end);
        if slot == self.end {
            self.pages.reach(slot as usize);
            self.end += 1;
        } else {
            self.take_from_free(slot);
        }
        self.pages.slot_mut(slot).entry = Some(entry);
        slot
    }

    /// Takes an entry out of its slot, which must be in no list.
    pub(crate) fn remove(&mut self, slot: u32) -> T {
        let removed = held(self.pages.slot_mut(slot).entry.take());
        self.free.push_back(&mut self.pages, FREE, slot);
        self.free_count += 1;
        removed
    }

    /// To be called twice after each removal: gives up the last slot where most of them are
    /// free, so that memory is given back in steps. If an entry is in it, returns where it is and
    /// a free slot that it has to be [moved](Self::move_last) to for that.
    pub(crate) fn compact(&mut self) -> Option<(u32, u32)> {
        if self.free_count as usize <= self.end() / 2 + PER_PAGE {
            return None;
        }
        let last = self.end.checked_sub(1)?;
        if self.pages.slot(last).entry.is_none() {
            self.take_from_free(last);
            self.give_up(last);
            return None;
        }
        Some((last, self.free.last(FREE)?))
    }

    /// Moves the entry in the last slot, which must be in no list any more, to a free one.
    pub(crate) fn move_last(&mut self, last: u32, to: u32) {
        self.pages.slot_mut(to).entry = self.pages.slot_mut(last).entry.take();
        self.give_up(last);
    }

    /// Makes a free slot one that an entry is about to be moved to.
    pub(crate) fn take_from_free(&mut self, slot: u32) {
        self.free.unlink(&mut self.pages, slot);
        self.free_count -= 1;
    }

    fn give_up(&mut self, last: u32) {
        self.end = last;
        self.pages.0.truncate(self.end().div_ceil(PER_PAGE));
    }
}

impl<T> LinkStore for Slots<T> {
    #[inline]
    fn links(&mut self, slot: u32) -> &mut Links {
        self.pages.links(slot)
    }
}

impl<T> LinkStore for Pages<T> {
    #[inline]
    fn links(&mut self, slot: u32) -> &mut Links {
        &mut self.slot_mut(slot).links
    }
}

impl<T> Pages<T> {
    /// Allocates what it takes to have a slot, if all below it are there.
    fn reach(&mut self, slot: usize) {
        if slot / PER_PAGE == self.0.len() {
            // The first page grows by itself: many a shard never fills it.
            let groups = if slot == 0 { 1 } else { GROUPS_PER_PAGE };
            self.0.push(Vec::with_capacity(groups));
        }
        if let Some(page) = self.0.last_mut()
            && slot % PER_PAGE / PER_GROUP == page.len()
        {
            page.push(Group([const { Slot::EMPTY }; PER_GROUP]));
        }
    }

    #[inline]
    #[expect(
        clippy::indexing_slicing,
        reason = "`reach` was called for each slot that has a number"
    )]
    fn slot(&self, slot: u32) -> &Slot<T> {
        let slot = slot as usize;
        &self.0[slot / PER_PAGE][slot % PER_PAGE / PER_GROUP].0[slot % PER_GROUP]
    }

    #[inline]
    #[expect(
        clippy::indexing_slicing,
        reason = "`reach` was called for each slot that has a number"
    )]
    fn slot_mut(&mut self, slot: u32) -> &mut Slot<T> {
        let slot = slot as usize;
        &mut self.0[slot / PER_PAGE][slot % PER_PAGE / PER_GROUP].0[slot % PER_GROUP]
    }
}

impl<T> Slot<T> {
    const EMPTY: Self = Self {
        entry: None,
        links: Links::NONE,
    };
}

/// What is in a slot that the index or a list names. Such a slot is never free: an entry leaves
/// them all before it leaves its slot.
#[inline]
#[expect(clippy::expect_used, reason = "no caller can bring about a free slot")]
fn held<R>(entry: Option<R>) -> R {
    entry.expect("a slot that is referred to holds an entry")
}
