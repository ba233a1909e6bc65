//! [`Expiry`], which entries of a shard are due.

use crate::lists::Lists;

/// A timing wheel. Time is cut into ticks, and each entry stands in the list of the tick that
/// its deadline lies in. When a tick has passed, its list is looked through: constant work for
/// each entry, however many there are.
///
/// An entry whose deadline moves further away stays where it is, so that overwriting touches
/// nothing here; it is put into its new place when the old tick has passed.
///
/// The ticks of short lifetimes are short: each is 1/64 to 1/32 of the lifetime that it was
/// chosen for, so that what has expired is found about one tick later.
pub(crate) struct Expiry {
    lists: Lists,
    levels: Vec<Level>,
    /// No tick has passed before this time.
    soonest: u64,
}

/// The ticks of one length.
struct Level {
    /// A tick is 2^shift nanoseconds long.
    shift: u32,
    /// The number of the list of the first place.
    lists: u32,
    /// All earlier ticks have been looked through.
    next: u64,
    /// Which places have entries.
    occupied: u64,
}

/// How many ticks of a level can be told apart. One more bit would not fit [`Level::occupied`].
const PLACES: u64 = 64;

/// The shortest tick, 65 µs.
const SHORTEST: u32 = 16;

/// The list of those that stood in ticks that have passed.
const DUE: u32 = 0;

impl Expiry {
    /// For the entries in so many cells.
    pub(crate) fn new(cells: usize) -> Self {
        Self {
            lists: Lists::new(1, cells),
            levels: Vec::new(),
            soonest: u64::MAX,
        }
    }

    /// Whether [`collect`](Self::collect) and [`due`](Self::due) have anything to do.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.soonest
    }

    /// Puts an entry with a deadline into its place, or into a new one.
    pub(crate) fn schedule(&mut self, cell: u32, deadline: u64, now: u64) {
        let shift = fitting(deadline, now);
        let found = self.levels.iter().position(|level| level.shift == shift);
        let level = found.unwrap_or_else(|| self.add(shift, now));
        self.place(level, cell, deadline, now);
    }

    /// Finds a new place for an entry that was due too early. It takes a coarser one rather
    /// than that ever finer levels come into being.
    pub(crate) fn defer(&mut self, cell: u32, deadline: u64, now: u64) {
        let shift = fitting(deadline, now);
        let coarse_enough = self.levels.iter().enumerate();
        let found = coarse_enough
            .filter(|(_, level)| level.shift >= shift)
            .min_by_key(|(_, level)| level.shift)
            .map(|(i, _)| i);
        let level = found.unwrap_or_else(|| self.add(shift, now));
        self.place(level, cell, deadline, now);
    }

    /// Forgets an entry.
    pub(crate) fn unlink(&mut self, cell: u32) {
        self.lists.unlink(cell);
    }

    /// Follows the entries into other cells, as [`Lists::renumber`].
    pub(crate) fn renumber(&mut self, moved: &[u32], cells: usize) {
        self.lists.renumber(moved, cells);
    }

    /// Makes due what stands in ticks that have passed and, when `early`, in those that have
    /// begun.
    pub(crate) fn collect(&mut self, now: u64, early: bool) {
        for level in &mut self.levels {
            let current = now >> level.shift;
            while let Some(tick) = level.first_occupied() {
                if tick > current || (tick == current && !early) {
                    break;
                }
                let place = tick % PLACES;
                self.lists.append(DUE, level.lists + place as u32);
                level.occupied &= !(1 << place);
            }
            level.next = level.next.max(current);
        }
        self.look_ahead();
    }

    /// An entry that is due, as far as is known here. It stays due until it is removed,
    /// deferred or unlinked.
    pub(crate) fn due(&self) -> Option<u32> {
        self.lists.first(DUE)
    }

    /// To be called when those that are due have been dealt with.
    pub(crate) fn look_ahead(&mut self) {
        self.soonest = if self.due().is_some() {
            0
        } else {
            let ends = self.levels.iter().filter_map(Level::first_end);
            ends.min().unwrap_or(u64::MAX)
        };
    }

    fn place(&mut self, level: usize, cell: u32, deadline: u64, now: u64) {
        let Some(level) = self.levels.get_mut(level) else {
            return;
        };
        if level.occupied == 0 {
            level.next = level.next.max(now >> level.shift);
        }
        // Not into a tick that has been looked through: `now` may be a little behind.
        let tick = (deadline >> level.shift).max(level.next);
        let place = tick % PLACES;
        level.occupied |= 1 << place;
        self.lists.push_back(level.lists + place as u32, cell);
        self.soonest = self.soonest.min(level.end(tick));
    }

    fn add(&mut self, shift: u32, now: u64) -> usize {
        self.levels.push(Level {
            shift,
            lists: self.lists.add(64),
            next: now >> shift,
            occupied: 0,
        });
        self.levels.len() - 1
    }
}

impl Level {
    /// The first tick that has entries. One that is more than 63 ticks ahead is taken for the
    /// one 64 ticks before; its entries are then deferred.
    fn first_occupied(&self) -> Option<u64> {
        let from_next = self.occupied.rotate_right((self.next % PLACES) as u32);
        (from_next != 0).then(|| self.next + u64::from(from_next.trailing_zeros()))
    }

    fn first_end(&self) -> Option<u64> {
        self.first_occupied().map(|tick| self.end(tick))
    }

    fn end(&self, tick: u64) -> u64 {
        (tick + 1).saturating_mul(1 << self.shift)
    }
}

/// The length of tick, as a power of two, that fits an entry that has this long to live: 32 to
/// 64 of them.
fn fitting(deadline: u64, now: u64) -> u32 {
    let left = deadline.saturating_sub(now);
    left.checked_ilog2()
        .unwrap_or(0)
        .saturating_sub(5)
        .max(SHORTEST)
}
