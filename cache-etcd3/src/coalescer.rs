//! Which calls share a request, and when it is sent: [`Coalescer`], a plain type that is told the
//! time.
//!
//! Few requests (rounds) are under way at a time. A call that finds room is a round of its own
//! and is sent at once, so one task alone waits for nobody. What comes meanwhile waits, and
//! forms the next round as soon as one is finished. A round that takes long is held up by a
//! fault and does not count any more: nobody waits for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

/// How many rounds are under way before others wait for them.
const ROUNDS: usize = 2;

/// All rounds, those that are held up included. What they hold is bounded by it.
const MAX_ROUNDS: usize = 16;

/// From here on a round is taken to be held up by a fault.
pub(crate) const STALLED: Duration = Duration::from_millis(100);

/// How large a round may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) operations: usize,
    pub(crate) bytes: usize,
}

/// A call among those that were made, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RoundId(u64);

/// What becomes of a call that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is a round of its own, to be sent now.
    Alone(RoundId),
    /// It waits for a round, under this ticket.
    Waits(Ticket),
}

/// What leaving means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It was answered before.
    Answered,
    /// It was not sent, and will not be.
    Withdrawn,
    /// It is in a request that was sent.
    UnderWay,
    /// The same, and it was the last who waited for that request.
    LastOf(RoundId),
}

/// Calls that wait, and the rounds under way.
#[derive(Debug)]
pub(crate) struct Coalescer<T> {
    /// Two rounds under way never have a key in common, as is right for writes.
    exclusive: bool,
    next: u64,
    waiting: BTreeMap<Ticket, Item<T>>,
    rounds: BTreeMap<RoundId, Round<T>>,
    /// In which round each ticket is.
    member_of: HashMap<Ticket, RoundId>,
}

#[derive(Debug)]
struct Item<T> {
    key: u64,
    bytes: usize,
    call: T,
}

#[derive(Debug)]
struct Round<T> {
    sent: Instant,
    keys: Vec<u64>,
    members: BTreeMap<Ticket, T>,
}

impl<T> Coalescer<T> {
    pub(crate) fn new(exclusive: bool) -> Self {
        Self {
            exclusive,
            next: 0,
            waiting: BTreeMap::new(),
            rounds: BTreeMap::new(),
            member_of: HashMap::new(),
        }
    }

    /// A call comes. `call` is asked for only if it has to wait.
    pub(crate) fn enter(
        &mut self,
        now: Instant,
        key: u64,
        bytes: usize,
        call: impl FnOnce() -> T,
    ) -> Entry {
        if self.waiting.is_empty() && self.has_room(now) && !self.is_taken(now, key) {
            return Entry::Alone(self.open(now, vec![key], BTreeMap::new()));
        }
        let ticket = Ticket(self.number());
        let call = call();
        self.waiting.insert(ticket, Item { key, bytes, call });
        Entry::Waits(ticket)
    }

    /// Forms a round of what waits, if there is room for one. First come, first served.
    pub(crate) fn begin(&mut self, now: Instant, limits: Limits) -> Option<RoundId> {
        if self.waiting.is_empty() || !self.has_room(now) {
            return None;
        }
        let taken = if self.exclusive {
            let busy = self
                .rounds
                .values()
                .filter(|round| is_busy(now, round.sent));
            busy.flat_map(|round| round.keys.iter().copied()).collect()
        } else {
            HashSet::new()
        };
        let mut chosen = Vec::new();
        let mut keys = HashSet::new();
        let mut bytes = 0;
        for (ticket, item) in &self.waiting {
            if taken.contains(&item.key) {
                continue;
            }
            let is_new = !keys.contains(&item.key);
            let is_full = keys.len() >= limits.operations || bytes + item.bytes > limits.bytes;
            if is_new && is_full && !chosen.is_empty() {
                break;
            }
            if is_new {
                keys.insert(item.key);
            }
            bytes += item.bytes;
            chosen.push(*ticket);
        }
        if chosen.is_empty() {
            return None;
        }
        let mut members = BTreeMap::new();
        for ticket in chosen {
            if let Some(item) = self.waiting.remove(&ticket) {
                members.insert(ticket, item.call);
            }
        }
        let tickets: Vec<Ticket> = members.keys().copied().collect();
        let round = self.open(now, keys.into_iter().collect(), members);
        for ticket in tickets {
            self.member_of.insert(ticket, round);
        }
        Some(round)
    }

    /// Those of a round who wait for its answer still, in the order in which they came.
    pub(crate) fn members(&self, round: RoundId) -> impl Iterator<Item = (Ticket, &T)> {
        let members = self.rounds.get(&round).map(|round| &round.members);
        members
            .into_iter()
            .flatten()
            .map(|(ticket, call)| (*ticket, call))
    }

    /// Somebody of a round, if still there.
    pub(crate) fn member(&self, ticket: Ticket) -> Option<&T> {
        let round = self.member_of.get(&ticket)?;
        self.rounds.get(round)?.members.get(&ticket)
    }

    /// Takes a call out of its round, to be answered.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<T> {
        let round = self.member_of.remove(&ticket)?;
        self.rounds.get_mut(&round)?.members.remove(&ticket)
    }

    /// The caller has gone, and with it all that was kept for it.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Left {
        if self.waiting.remove(&ticket).is_some() {
            return Left::Withdrawn;
        }
        let Some(id) = self.member_of.remove(&ticket) else {
            return Left::Answered;
        };
        let Some(round) = self.rounds.get_mut(&id) else {
            return Left::Answered;
        };
        round.members.remove(&ticket);
        if round.members.is_empty() {
            Left::LastOf(id)
        } else {
            Left::UnderWay
        }
    }

    /// A round is over. Those who were not answered are returned.
    pub(crate) fn finish(&mut self, round: RoundId) -> Vec<T> {
        let Some(round) = self.rounds.remove(&round) else {
            return Vec::new();
        };
        for ticket in round.members.keys() {
            self.member_of.remove(ticket);
        }
        round.members.into_values().collect()
    }

    /// How many calls wait or are under way.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let under_way = self.rounds.values().map(|round| round.members.len());
        self.waiting.len() + under_way.sum::<usize>()
    }

    /// When [`begin`](Self::begin) may have something to send though no round was finished.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let sent = self.rounds.values().map(|round| round.sent);
        sent.filter(|sent| is_busy(now, *sent))
            .min()
            .map(|sent| sent + STALLED)
    }

    fn has_room(&self, now: Instant) -> bool {
        let busy = self
            .rounds
            .values()
            .filter(|round| is_busy(now, round.sent));
        self.rounds.len() < MAX_ROUNDS && busy.count() < ROUNDS
    }

    fn is_taken(&self, now: Instant, key: u64) -> bool {
        self.exclusive
            && self
                .rounds
                .values()
                .any(|round| is_busy(now, round.sent) && round.keys.contains(&key))
    }

    fn open(&mut self, now: Instant, keys: Vec<u64>, members: BTreeMap<Ticket, T>) -> RoundId {
        let round = RoundId(self.number());
        let sent = now;
        self.rounds.insert(
            round,
            Round {
                sent,
                keys,
                members,
            },
        );
        round
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn is_busy(now: Instant, sent: Instant) -> bool {
    now.saturating_duration_since(sent) < STALLED
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        operations: 4,
        bytes: 100,
    };

    fn enter(coalescer: &mut Coalescer<u64>, now: Instant, key: u64) -> Entry {
        coalescer.enter(now, key, 1, || key)
    }

    fn waits(entry: Entry) -> Ticket {
        match entry {
            Entry::Waits(ticket) => ticket,
            Entry::Alone(_) => panic!("it was sent"),
        }
    }

    fn keys(coalescer: &Coalescer<u64>, round: RoundId) -> Vec<u64> {
        coalescer.members(round).map(|(_, key)| *key).collect()
    }

    /// With all rounds taken, by keys 1000 and 1001.
    fn busy(now: Instant, exclusive: bool) -> (Coalescer<u64>, RoundId) {
        let mut coalescer = Coalescer::new(exclusive);
        let Entry::Alone(first) = enter(&mut coalescer, now, 1000) else {
            panic!("there is room");
        };
        assert!(matches!(enter(&mut coalescer, now, 1001), Entry::Alone(_)));
        (coalescer, first)
    }

    #[test]
    fn what_comes_while_requests_are_under_way_goes_together_in_order() {
        let now = Instant::now();
        let (mut coalescer, first) = busy(now, false);
        for key in 1..=6 {
            waits(enter(&mut coalescer, now, key));
        }
        assert_eq!(coalescer.begin(now, LIMITS), None, "there is no room");
        coalescer.finish(first);
        let round = coalescer.begin(now, LIMITS).unwrap();
        assert_eq!(keys(&coalescer, round), [1, 2, 3, 4]);
        assert_eq!(coalescer.begin(now, LIMITS), None);
        // Not past those that wait.
        waits(enter(&mut coalescer, now, 7));
        assert_eq!(coalescer.finish(round).len(), 4);
        let round = coalescer.begin(now, LIMITS).unwrap();
        assert_eq!(keys(&coalescer, round), [5, 6, 7]);
    }

    #[test]
    fn a_round_is_bounded_by_bytes_and_one_key_counts_once() {
        let now = Instant::now();
        let (mut coalescer, first) = busy(now, false);
        for _ in 0..6 {
            waits(enter(&mut coalescer, now, 1));
        }
        waits(coalescer.enter(now, 2, 99, || 2));
        waits(enter(&mut coalescer, now, 3));
        coalescer.finish(first);
        let round = coalescer.begin(now, LIMITS).unwrap();
        assert_eq!(keys(&coalescer, round), [1; 6]);
        coalescer.finish(round);
        let round = coalescer.begin(now, LIMITS).unwrap();
        assert_eq!(keys(&coalescer, round), [2, 3]);
    }

    #[test]
    fn a_caller_that_leaves_takes_with_it_what_was_not_sent() {
        let now = Instant::now();
        let (mut coalescer, first) = busy(now, true);
        let tickets: Vec<Ticket> = (1..=3)
            .map(|key| waits(enter(&mut coalescer, now, key)))
            .collect();
        assert_eq!(coalescer.leave(tickets[1]), Left::Withdrawn);
        coalescer.finish(first);
        let round = coalescer.begin(now, LIMITS).unwrap();
        assert_eq!(keys(&coalescer, round), [1, 3]);
        assert_eq!(coalescer.leave(tickets[0]), Left::UnderWay);
        assert_eq!(coalescer.take(tickets[2]), Some(3));
        assert_eq!(coalescer.leave(tickets[2]), Left::Answered);
        assert_eq!(coalescer.leave(tickets[1]), Left::Answered);
        coalescer.finish(round);

        let last = waits(enter(&mut coalescer, now, 1001));
        assert_eq!(coalescer.begin(now, LIMITS), None, "its key is under way");
        let later = now + STALLED;
        let round = coalescer.begin(later, LIMITS).unwrap();
        assert_eq!(coalescer.leave(last), Left::LastOf(round));
        assert!(coalescer.finish(round).is_empty());
    }

    #[test]
    fn a_key_under_way_waits_only_where_that_matters() {
        let now = Instant::now();
        let mut coalescer = Coalescer::new(true);
        let Entry::Alone(first) = enter(&mut coalescer, now, 1) else {
            panic!("there is room");
        };
        waits(enter(&mut coalescer, now, 1));
        waits(enter(&mut coalescer, now, 2));
        let round = coalescer.begin(now, LIMITS).unwrap();
        assert_eq!(keys(&coalescer, round), [2]);
        coalescer.finish(first);
        let round = coalescer.begin(now, LIMITS).unwrap();
        assert_eq!(keys(&coalescer, round), [1]);

        let mut reads = Coalescer::new(false);
        assert!(matches!(enter(&mut reads, now, 1), Entry::Alone(_)));
        assert!(matches!(enter(&mut reads, now, 1), Entry::Alone(_)));
    }

    #[test]
    fn rounds_that_are_held_up_hold_nobody_up_and_are_bounded() {
        let start = Instant::now();
        let (mut coalescer, _) = busy(start, true);
        waits(enter(&mut coalescer, start, 1));
        assert_eq!(coalescer.poll_timeout(start), Some(start + STALLED));
        let mut now = start;
        let mut begun = 0;
        for key in 0..1000 {
            now += STALLED;
            begun += usize::from(coalescer.begin(now, LIMITS).is_some());
            let _ = enter(&mut coalescer, now, key);
        }
        assert!(begun < MAX_ROUNDS, "{begun}");
        assert_eq!(coalescer.rounds.len(), MAX_ROUNDS);
    }

    #[test]
    fn nothing_is_kept_for_callers_that_have_gone() {
        let now = Instant::now();
        let (mut coalescer, _) = busy(now, true);
        let tickets: Vec<Ticket> = (0..10_000)
            .map(|key| waits(enter(&mut coalescer, now, key)))
            .collect();
        for ticket in tickets {
            coalescer.leave(ticket);
        }
        assert!(coalescer.waiting.is_empty() && coalescer.member_of.is_empty());
        assert_eq!(coalescer.poll_timeout(now), None);
    }
}
