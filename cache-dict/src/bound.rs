//! [`Bound`], how many entries there may be.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many entries all shards may hold together, and how many more they may take on.
///
/// Room is taken before an entry is added and given back after it was removed, so the bound is
/// never exceeded. Where there is none, nothing is counted.
pub(crate) struct Bound {
    /// Zero: no bound.
    max: usize,
    room: AtomicUsize,
}

impl Bound {
    /// Zero: none.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            room: AtomicUsize::new(max),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.max > 0
    }

    /// Whether there is room for one more, which is taken.
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
