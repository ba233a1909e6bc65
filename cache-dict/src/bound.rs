//! [`Bound`], the maximum number of entries.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The maximum number of entries of all shards together, and how many more they may add.
///
/// Room is taken before an entry is added and given back after it is removed, so the bound is
/// never exceeded. Without a bound, nothing is counted.
pub(crate) struct Bound {
    /// Zero: no bound.
    max: usize,
    room: AtomicUsize,
}

impl Bound {
    /// Zero: no bound.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            room: AtomicUsize::new(max),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.max > 0
    }

    /// A number of entries that was counted shard by shard while others were written: more than
    /// there ever were at once, if entries were removed behind the count and added ahead of it.
    pub(crate) fn limit(&self, counted: usize) -> usize {
        if self.exists() {
            counted.min(self.max)
        } else {
            counted
        }
    }

    /// Takes room for one entry. Returns `false` if there is none.
    #[inline]
    pub(crate) fn take_one(&self) -> bool {
        let less = |room: usize| room.checked_sub(1);
        !self.exists()
            || self
                .room
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
                .is_ok()
    }

    #[inline]
    pub(crate) fn give_back(&self, entries: usize) {
        if self.exists() {
            self.room.fetch_add(entries, Ordering::AcqRel);
        }
    }
}
