//! [`TimingWheel`], which finds the entries of a shard that may have expired.
//!
//! # How a shard and its wheel work together
//!
//! The wheel knows slots and ticks, the shard knows entries and their deadlines. Time is cut
//! into ticks, and a slot is in the list of the tick that its deadline lies in. When a tick has
//! passed, its list becomes due as a whole, so that the work for each entry is constant, however
//! many there are.
//!
//! 1. [`schedule`](TimingWheel::schedule) puts a slot into the list of its deadline.
//! 2. An entry that is overwritten with a later deadline stays where it is, unless
//!    [`has_coarser`](TimingWheel::has_coarser) says that it may be in a tick too long for its
//!    new lifetime. Most overwriting therefore touches nothing here.
//! 3. [`next_due`](TimingWheel::next_due) hands out one slot after the other whose tick has
//!    passed, and takes it out of its list. The shard looks at the entry's deadline: it removes
//!    the entry, or leaves it out of the wheel when it does not expire any more, or
//!    [`defer`](TimingWheel::defer)s it when its deadline has moved.
//! 4. [`unlink`](TimingWheel::unlink) takes out a slot whose entry is removed otherwise.
//!
//! A shard that stops in the middle of 3, since it has done enough for one write, goes on there
//! at its next write: what it has not been handed yet is still due.
//!
//! # How late an entry is found
//!
//! The ticks of short lifetimes are short. A level has ticks of one length, and a slot goes into
//! the level whose ticks are 1/64 to 1/32 of the time that the entry has to live. It is never in
//! a coarser level than that of its lifetime: overwriting sees to it by rule 2, and deferring
//! takes the same level again, or a coarser one only if the time left asks for it. So an entry
//! is due one 32nd of its lifetime after its deadline at the latest, or 65 µs where that is more.

use crate::index_lists::{IndexLists, LinkStore, Moved};

/// A timing wheel with several levels; see [the module](self).
pub(crate) struct TimingWheel {
    lists: IndexLists,
    levels: Vec<Level>,
    /// No slot is due before this time.
    soonest: u64,
}

/// The ticks of one length.
struct Level {
    /// A tick is 2^shift nanoseconds long.
    shift: u32,
    /// The number of the list of the first place. Those of the others follow, and then that of
    /// the slots whose ticks have passed.
    first_list: u32,
    /// All earlier ticks have passed.
    next: u64,
    /// Which places may have slots.
    occupied: u64,
}

/// A slot that is due, and where it was.
pub(crate) struct Due {
    pub(crate) slot: u32,
    shift: u32,
}

/// How many ticks of a level can be told apart: as many as [`Level::occupied`] has bits.
const PLACES: u32 = u64::BITS;

/// The shortest tick, 65 µs.
const SHORTEST: u32 = 16;

impl TimingWheel {
    pub(crate) fn new() -> Self {
        Self {
            lists: IndexLists::new(0),
            levels: Vec::new(),
            soonest: u64::MAX,
        }
    }

    /// Puts a slot into the list of its deadline, out of the one that it was in.
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

    /// The next slot whose tick has passed. It is in no list any more.
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
            if let Some(slot) = self.lists.first(level.due_list()) {
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
        // Not into a finer level: deferred again and again, entries would bring about a level
        // for each power of two below their lifetime.
        let shift = fitting(deadline, now).max(due.shift);
        self.place(store, due.slot, shift, deadline, now);
    }

    /// Takes a slot out.
    pub(crate) fn unlink(&mut self, store: &mut impl LinkStore, slot: u32) {
        self.lists.unlink(store, slot);
    }

    /// Applies the new numbers of slots.
    pub(crate) fn renumber(&mut self, moved: &Moved) {
        self.lists.renumber(moved);
    }

    /// Makes ticks that have begun due as well, so that every expired entry is.
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
    /// Makes due what is in ticks before `tick`.
    fn advance(&mut self, lists: &mut IndexLists, store: &mut impl LinkStore, tick: u64) {
        while let Some(first) = self.first_occupied()
            && first < tick
        {
            lists.append(store, self.due_list(), self.list(first));
            self.occupied &= !(1 << Self::place(first));
        }
        self.next = self.next.max(tick);
    }

    /// The first tick that may have slots. One that is more than 63 ticks ahead is taken for the
    /// one 64 ticks before; what is in it is then deferred.
    fn first_occupied(&self) -> Option<u64> {
        let from_next = self.occupied.rotate_right(Self::place(self.next));
        (from_next != 0).then(|| self.next + u64::from(from_next.trailing_zeros()))
    }

    /// When the first tick that may have slots has passed.
    fn first_end(&self) -> Option<u64> {
        self.first_occupied().map(|tick| self.end(tick))
    }

    fn end(&self, tick: u64) -> u64 {
        (tick + 1).saturating_mul(1 << self.shift)
    }

    /// Which of the places a tick has.
    #[expect(clippy::cast_possible_truncation, reason = "the rest is below PLACES")]
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

/// The length of tick, as a power of two, that fits an entry that has this long to live: 32 to
/// 64 of them.
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

    /// What a shard does to its wheel.
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
        fn what_expires_is_due_one_32nd_of_its_lifetime_later_at_the_latest(
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
