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
