//! [`TimingWheel`], which finds the entries of a shard that may have expired.
//!
//! # How a shard and its wheel work together
//!
//! The wheel knows slots and ticks, the shard knows entries and their deadlines. Time is divided
//! into ticks, and a slot is in the list of the tick that contains its deadline. When a tick has
//! passed, its list becomes due as a whole, so that the work for each entry is constant, however
//! many there are.
//!
//! 1. [`schedule`](TimingWheel::schedule) puts a slot into the list of its deadline.
//! 2. An entry that is overwritten with a later deadline keeps its place, unless
//!    [`has_coarser`](TimingWheel::has_coarser) says that its tick may be too long for its new
//!    lifetime. Most overwrites therefore change nothing here.
//! 3. [`next_due`](TimingWheel::next_due) returns the slots whose tick has passed, one by one, and
//!    removes them from their list. The shard checks the deadline of the entry: it removes the
//!    entry, or leaves it out of the wheel if it no longer expires, or
//!    [`defer`](TimingWheel::defer)s it if its deadline has moved.
//! 4. [`unlink`](TimingWheel::unlink) removes a slot whose entry is removed for another reason.
//!
//! A shard may stop in the middle of step 3, when it has done enough for one write, and continue
//! at its next write: the remaining slots are still due.
//!
//! # How late an entry is found
//!
//! Short lifetimes have short ticks. A level has ticks of one length, and a slot goes into the
//! level whose ticks are 1/64 to 1/32 of the time that the entry has to live. It is never in a
//! coarser level than that of its lifetime: step 2 ensures this when an entry is overwritten, and
//! deferring uses the same level again, or a coarser one if the time left requires it. An entry is
//! therefore due at most 1/32 of its lifetime after its deadline, or 65 µs if that is longer.

use crate::index_lists::{IndexLists, LinkStore, Moved};

/// A timing wheel with several levels; see [the module](self).
pub(crate) struct TimingWheel {
    lists: IndexLists,
    levels: Vec<Level>,
    /// No slot is due before this time.
    soonest: u64,
    /// The due slots are taken from both ends of their list in turn. The processor then loads the
    /// next slot of one end while the shard removes that of the other.
    from_back: bool,
}

/// Ticks of one length.
struct Level {
    /// A tick is 2^shift nanoseconds long.
    shift: u32,
    /// The number of the list of the first place. The lists of the other places follow, and then
    /// the list of the slots whose ticks have passed.
    first_list: u32,
    /// All earlier ticks have passed.
    next: u64,
    /// The places that may have slots, as a bit set.
    occupied: u64,
}

/// A slot that is due, and the level where it was.
pub(crate) struct Due {
    pub(crate) slot: u32,
    shift: u32,
}

/// The number of ticks of a level that can be distinguished: the bits of [`Level::occupied`].
const PLACES: u32 = u64::BITS;

/// The shortest tick, 65 µs.
const SHORTEST: u32 = 16;

impl TimingWheel {
    pub(crate) fn new() -> Self {
        Self {
            lists: IndexLists::new(0),
            levels: Vec::new(),
            soonest: u64::MAX,
            from_back: false,
        }
    }

    /// Moves a slot into the list of its deadline.
    pub(crate) fn schedule(
        &mut self,
        store: &mut impl LinkStore,
        slot: u32,
        deadline: u64,
        now: u64,
    ) {
        self.place(store, slot, fitting(deadline, now), deadline, now);
    }

    /// Whether an entry that is overwritten now may be in a level too coarse for its new
    /// deadline.
    #[inline]
    pub(crate) fn has_coarser(&self, deadline: u64, now: u64) -> bool {
        let shift = fitting(deadline, now);
        self.levels.iter().any(|level| {
            level.shift > shift
                && (level.occupied != 0 || self.lists.first(level.due_list()).is_some())
        })
    }

    /// Returns the next slot whose tick has passed, and removes it from its list.
    #[inline]
    pub(crate) fn next_due(&mut self, store: &mut impl LinkStore, now: u64) -> Option<Due> {
        if now < self.soonest {
            return None;
        }
        self.next_of_levels(store, now)
    }

    fn next_of_levels(&mut self, store: &mut impl LinkStore, now: u64) -> Option<Due> {
        for level in &mut self.levels {
            level.advance(&mut self.lists, store, now >> level.shift);
            let ends = self.lists.ends(level.due_list());
            if let Some((first, last)) = ends {
                let slot = if self.from_back { last } else { first };
                self.from_back = !self.from_back;
                self.lists.unlink(store, slot);
                let shift = level.shift;
                return Some(Due { slot, shift });
            }
        }
        let ends = self.levels.iter().filter_map(Level::first_end);
        self.soonest = ends.min().unwrap_or(u64::MAX);
        None
    }

    /// Puts a slot back that was due before its entry's deadline.
    pub(crate) fn defer(&mut self, store: &mut impl LinkStore, due: &Due, deadline: u64, now: u64) {
        // Not into a finer level: entries that are deferred again and again would create a level
        // for each power of two below their lifetime.
        let shift = fitting(deadline, now).max(due.shift);
        self.place(store, due.slot, shift, deadline, now);
    }

    /// Removes a slot from its list.
    pub(crate) fn unlink(&mut self, store: &mut impl LinkStore, slot: u32) {
        self.lists.unlink(store, slot);
    }

    /// Applies the new numbers of slots.
    pub(crate) fn renumber(&mut self, moved: &Moved) {
        self.lists.renumber(moved);
    }

    /// Makes the current ticks due as well, so that every expired entry is due.
    pub(crate) fn hurry(&mut self, store: &mut impl LinkStore, now: u64) {
        for level in &mut self.levels {
            let current = now >> level.shift;
            let next = level.next.max(current);
            level.advance(&mut self.lists, store, current + 1);
            // Slots may be put into the current tick again.
            level.next = next;
        }
        self.soonest = 0;
    }

    fn place(
        &mut self,
        store: &mut impl LinkStore,
        slot: u32,
        shift: u32,
        deadline: u64,
        now: u64,
    ) {
        let found = self.levels.iter().position(|level| level.shift == shift);
        let number = found.unwrap_or_else(|| self.add_level(shift, now));
        let Some(level) = self.levels.get_mut(number) else {
            return;
        };
        if level.occupied == 0 {
            level.next = level.next.max(now >> shift);
        }
        // Not into a tick that has passed: `now` may be a little behind.
        let tick = (deadline >> shift).max(level.next);
        level.occupied |= 1 << Level::place(tick);
        self.lists.push_back(store, level.list(tick), slot);
        self.soonest = self.soonest.min(level.end(tick));
    }

    fn add_level(&mut self, shift: u32, now: u64) -> usize {
        self.levels.push(Level {
            shift,
            first_list: self.lists.add(PLACES + 1),
            next: now >> shift,
            occupied: 0,
        });
        self.levels.len() - 1
    }
}

impl Level {
    /// Makes the slots in ticks before `tick` due.
    fn advance(&mut self, lists: &mut IndexLists, store: &mut impl LinkStore, tick: u64) {
        while let Some(first) = self.first_occupied()
            && first < tick
        {
            lists.append(store, self.due_list(), self.list(first));
            self.occupied &= !(1 << Self::place(first));
        }
        self.next = self.next.max(tick);
    }

    /// The first tick that may have slots. A tick more than 63 ticks ahead has the place of an
    /// earlier one; its slots become due with that tick and are then deferred.
    fn first_occupied(&self) -> Option<u64> {
        let from_next = self.occupied.rotate_right(Self::place(self.next));
        (from_next != 0).then(|| self.next + u64::from(from_next.trailing_zeros()))
    }

    /// The end of the first tick that may have slots.
    fn first_end(&self) -> Option<u64> {
        self.first_occupied().map(|tick| self.end(tick))
    }

    fn end(&self, tick: u64) -> u64 {
        (tick + 1).saturating_mul(1 << self.shift)
    }

    /// The place of a tick.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the result is below PLACES"
    )]
    fn place(tick: u64) -> u32 {
        (tick % u64::from(PLACES)) as u32
    }

    fn list(&self, tick: u64) -> u32 {
        self.first_list + Self::place(tick)
    }

    fn due_list(&self) -> u32 {
        self.first_list + PLACES
    }
}

/// The length of a tick, as a power of two of nanoseconds, for an entry that expires at
/// `deadline`: 1/64 to 1/32 of the time left.
fn fitting(deadline: u64, now: u64) -> u32 {
    let left = deadline.saturating_sub(now);
    left.checked_ilog2()
        .unwrap_or(0)
        .saturating_sub(5)
        .max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::NEVER;
    use crate::index_lists::Links;
    use crate::tests::cases;

    const SLOTS: usize = 8;

    #[derive(Clone, Copy)]
    struct Entry {
        deadline: u64,
        lifetime: u64,
    }

    /// Uses the wheel as a shard does.
    struct Shard {
        wheel: TimingWheel,
        links: Vec<Links>,
        entries: [Option<Entry>; SLOTS],
    }

    impl Shard {
        fn set(&mut self, slot: usize, lifetime: u64, now: u64) {
            let deadline = now + lifetime;
            let was = self.entries[slot].map_or(NEVER, |entry| entry.deadline);
            self.entries[slot] = Some(Entry { deadline, lifetime });
            if deadline < was || self.wheel.has_coarser(deadline, now) {
                let slot = u32::try_from(slot).unwrap();
                self.wheel.schedule(&mut self.links, slot, deadline, now);
            }
        }

        fn reap(&mut self, now: u64) {
            while let Some(due) = self.wheel.next_due(&mut self.links, now) {
                let entry = &mut self.entries[due.slot as usize];
                let deadline = entry.unwrap().deadline;
                if deadline <= now {
                    *entry = None;
                } else {
                    self.wheel.defer(&mut self.links, &due, deadline, now);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(cases(100))]

        #[test]
        fn an_entry_is_removable_at_most_one_32nd_of_its_lifetime_after_its_deadline(
            steps in proptest::collection::vec((0..SLOTS, 0..45_u32, 0.5..1_f64, 0.0..2_f64), 1..60),
        ) {
            let mut shard = Shard {
                wheel: TimingWheel::new(),
                links: vec![Links::NONE; SLOTS],
                entries: [None; SLOTS],
            };
            let mut now = 1_000_u64;
            for (slot, power, part, pause) in steps {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
                let part_of = |part: f64| ((1_u64 << power) as f64 * part) as u64;
                shard.set(slot, part_of(part), now);
                now += part_of(pause);
                shard.reap(now);
                for entry in shard.entries.into_iter().flatten() {
                    let latest = entry.deadline + (entry.lifetime / 32).max(1 << SHORTEST);
                    prop_assert!(now <= latest, "{} ns too late", now - latest);
                }
                if slot == 0 {
                    shard.wheel.hurry(&mut shard.links, now);
                    shard.reap(now);
                    prop_assert!(shard.entries.iter().flatten().all(|entry| now < entry.deadline));
                }
            }
        }
    }
}
