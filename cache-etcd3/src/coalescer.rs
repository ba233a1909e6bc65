//! [`Coalescer`]: which calls share a request, and when it is sent. A plain type that takes the
//! time as an argument.
//!
//! A small number of requests (rounds) are in flight at a time. A call that arrives while there is
//! room is sent immediately in its own round, so a single task never waits. Later calls queue and
//! form the next round when one finishes. A round that takes too long is considered stalled, and
//! no longer delays the others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

/// The limit including stalled rounds, which bounds memory.
const MAX_ROUNDS: usize = 16;

/// A round older than this is considered stalled.
pub(crate) const STALLED: Duration = Duration::from_millis(100);

/// The largest size of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) operations: usize,
    pub(crate) bytes: usize,
}

/// Identifies a waiting call; tickets are in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RoundId(u64);

/// What happens to a new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is sent now, in its own round.
    Alone(RoundId),
    /// It waits for a round under this ticket.
    Waits(Ticket),
}

/// The state of a call whose caller has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It was answered before.
    Answered,
    /// It was not sent and is withdrawn.
    Withdrawn,
    /// It is in a request that was sent.
    UnderWay,
    /// The same, and no other caller waits for that request.
    LastOf(RoundId),
}

/// Waiting calls, and the rounds in flight.
#[derive(Debug)]
pub(crate) struct Coalescer<T> {
    /// Rounds in flight never share a key, as writes require.
    exclusive: bool,
    /// How many rounds may be in flight before calls wait.
    most: usize,
    next: u64,
    waiting: BTreeMap<Ticket, Item<T>>,
    rounds: BTreeMap<RoundId, Round<T>>,
    /// The round of each ticket.
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
    pub(crate) fn new(exclusive: bool, most: usize) -> Self {
        Self {
            exclusive,
            most,
            next: 0,
            waiting: BTreeMap::new(),
            rounds: BTreeMap::new(),
            member_of: HashMap::new(),
        }
    }

    /// Adds a call. `call` is evaluated only if it has to wait.
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

    /// Forms a round from the waiting calls, in order of arrival, if there is room.
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

    /// The calls of a round that still wait for its response, in order of arrival.
    pub(crate) fn members(&self, round: RoundId) -> impl Iterator<Item = (Ticket, &T)> {
        let members = self.rounds.get(&round).map(|round| &round.members);
        members
            .into_iter()
            .flatten()
            .map(|(ticket, call)| (*ticket, call))
    }

    /// A call of a round, if it still waits.
    pub(crate) fn member(&self, ticket: Ticket) -> Option<&T> {
        let round = self.member_of.get(&ticket)?;
        self.rounds.get(round)?.members.get(&ticket)
    }

    /// Removes a call from its round, to answer it.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<T> {
        let round = self.member_of.remove(&ticket)?;
        self.rounds.get_mut(&round)?.members.remove(&ticket)
    }

    /// Removes a call whose caller was dropped.
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

    /// Removes a finished round and returns the calls that were not answered.
    pub(crate) fn finish(&mut self, round: RoundId) -> Vec<T> {
        let Some(round) = self.rounds.remove(&round) else {
            return Vec::new();
        };
        for ticket in round.members.keys() {
            self.member_of.remove(ticket);
        }
        round.members.into_values().collect()
    }

    /// How many calls wait or are in flight.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let under_way = self.rounds.values().map(|round| round.members.len());
        self.waiting.len() + under_way.sum::<usize>()
    }

    /// Whether it is worth waiting for further calls before the next round, after one that answered
    /// this many: if only one is in flight at a time, those that come late wait for a whole round.
    pub(crate) fn expects_more(&self, answered: usize) -> bool {
        self.most == 1 && self.waiting.len() < answered
    }

    /// When a round becomes stalled, so that [`begin`](Self::begin) may form another.
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
        self.rounds.len() < MAX_ROUNDS && busy.count() < self.most
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
            Entry::Alone(_) => panic!("sent immediately"),
        }
    }

    fn keys(coalescer: &Coalescer<u64>, round: RoundId) -> Vec<u64> {
        coalescer.members(round).map(|(_, key)| *key).collect()
    }

    /// A coalescer with the keys 1000 and 1001 in flight, which is full.
    fn busy(now: Instant, exclusive: bool) -> (Coalescer<u64>, RoundId) {
        let mut coalescer = Coalescer::new(exclusive, 2);
        let Entry::Alone(first) = enter(&mut coalescer, now, 1000) else {
            panic!("there is room");
        };
        assert!(matches!(enter(&mut coalescer, now, 1001), Entry::Alone(_)));
        (coalescer, first)
    }

    #[test]
    fn calls_that_arrive_while_requests_are_in_flight_are_batched_in_order() {
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
        // It does not overtake waiting calls.
        waits(enter(&mut coalescer, now, 7));
        assert_eq!(coalescer.finish(round).len(), 4);
        let round = coalescer.begin(now, LIMITS).unwrap();
        assert_eq!(keys(&coalescer, round), [5, 6, 7]);
    }

    #[test]
    fn the_number_of_rounds_is_bounded() {
        let now = Instant::now();
        let mut coalescer = Coalescer::new(false, 1);
        let Entry::Alone(first) = enter(&mut coalescer, now, 1) else {
            panic!("there is room");
        };
        waits(enter(&mut coalescer, now, 2));
        waits(enter(&mut coalescer, now, 3));
        assert_eq!(coalescer.begin(now, LIMITS), None);
        coalescer.finish(first);
        let round = coalescer.begin(now, LIMITS).unwrap();
        assert_eq!(keys(&coalescer, round), [2, 3]);
        waits(enter(&mut coalescer, now, 4));
        assert_eq!(coalescer.begin(now, LIMITS), None);
    }

    #[test]
    fn only_a_single_round_in_flight_waits_for_the_calls_of_those_it_answered() {
        let now = Instant::now();
        for (rounds, expected) in [(1, [true, true, false]), (2, [false; 3])] {
            let mut coalescer = Coalescer::new(false, rounds);
            while matches!(enter(&mut coalescer, now, 0), Entry::Alone(_)) {}
            // One call has been queued by the loop.
            for (waiting, expected) in (1..).zip(expected) {
                assert_eq!(coalescer.expects_more(3), expected, "{waiting} of 3 wait");
                waits(enter(&mut coalescer, now, 1));
            }
        }
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
    fn a_dropped_call_is_withdrawn_unless_it_was_sent() {
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
        assert_eq!(coalescer.begin(now, LIMITS), None, "its key is in flight");
        let later = now + STALLED;
        let round = coalescer.begin(later, LIMITS).unwrap();
        assert_eq!(coalescer.leave(last), Left::LastOf(round));
        assert!(coalescer.finish(round).is_empty());
    }

    #[test]
    fn only_exclusive_rounds_wait_for_a_key_in_flight() {
        let now = Instant::now();
        let mut coalescer = Coalescer::new(true, 2);
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

        let mut reads = Coalescer::new(false, 2);
        assert!(matches!(enter(&mut reads, now, 1), Entry::Alone(_)));
        assert!(matches!(enter(&mut reads, now, 1), Entry::Alone(_)));
    }

    #[test]
    fn stalled_rounds_delay_no_others_and_are_bounded() {
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
    fn dropped_calls_leave_nothing_behind() {
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
