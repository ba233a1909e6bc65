//! One history: callers, the client's decisions, the cluster, and what happens when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::Bug;
use super::cluster::{Ask, Cluster, Put, Reply, State, Stored};
use super::judge::RECOVERY;
use crate::coalescer::{Coalescer, Entry, Left, Limits, RoundId, Ticket};
use crate::endpoints::Connection;
use crate::endpoints::backoff::Backoff;
use crate::endpoints::roster::{Choice, Roster};
use crate::events::Change;
use crate::failure::{Failure, Fault, Next};
use crate::leases::TtlClass;
use crate::leases::book::{Boarding, Book, Grant, GrantId};
use crate::revision::{Doubts, Revision};

const LIMITS: Limits = Limits {
    operations: 16,
    bytes: 1024,
};

/// When the last fault is over, and when callers stop.
const HEALED: Duration = Duration::from_secs(16);
const STOP: Duration = Duration::from_secs(27);

/// Kinds of rounds.
const WRITES: usize = 0;
const READS: usize = 1;

#[derive(Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            rng.next();
        }
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound.max(1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).unwrap()]
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.below((to - from) * 1000 + 1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Set(u64),
    Get,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Found(Option<u64>),
    Failed,
    GaveUp,
}

/// What a caller did, and what it saw.
#[derive(Clone, Debug)]
pub(super) struct Call {
    task: usize,
    pub(super) op: Op,
    pub(super) key: u64,
    pub(super) ttl: Option<Duration>,
    pub(super) begin: Instant,
    pub(super) deadline: Instant,
    pub(super) gives_up: Option<Instant>,
    pub(super) end: Option<Instant>,
    pub(super) outcome: Option<Outcome>,
    /// What it leaves has to keep out a set that may arrive late.
    endures: bool,
    lease: Option<(TtlClass, i64)>,
    place: Place,
    lost: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Boards(GrantId),
    Waits(usize, Ticket),
    Alone(u64),
}

#[derive(Clone, Debug)]
enum What {
    Round {
        kind: usize,
        round: RoundId,
    },
    Alone {
        kind: usize,
        round: RoundId,
        call: usize,
    },
    Grant {
        grant: Grant,
        sent: Instant,
    },
    Revoke {
        lease: i64,
    },
    Probe {
        at: usize,
    },
}

/// A request, until it is answered.
#[derive(Debug)]
struct Job {
    what: What,
    deadline: Instant,
    asked: Option<usize>,
    attempts: u32,
    backoff: Backoff,
    has_moved_on: bool,
    attempt: Option<u64>,
    /// Wakes that were meant for an earlier state are void.
    epoch: u64,
    /// Those for whom it was first sent.
    first: Vec<usize>,
}

#[derive(Debug)]
struct Attempt {
    job: u64,
    at: usize,
    sent: Instant,
    generation: u64,
    answers: u64,
    newest: i64,
    keys: Vec<u64>,
    puts: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    generation: u64,
    answers: u64,
    /// Connections up to this one lead nowhere.
    forgotten: u64,
}

#[derive(Debug)]
enum Event {
    Begin {
        task: usize,
    },
    GiveUp {
        call: usize,
    },
    Deadline {
        call: usize,
    },
    Deliver {
        attempt: u64,
        at: usize,
        ask: Ask,
        generation: u64,
    },
    Answer {
        attempt: u64,
        reply: Result<Reply, Fault>,
    },
    Limit {
        attempt: u64,
    },
    Wake {
        job: u64,
        epoch: u64,
    },
    Kick {
        kind: usize,
    },
    Board,
    /// Another process writes.
    Foreign,
    Revoke,
    Becomes {
        at: usize,
        state: State,
    },
    Elect,
    LoseLeases,
}

pub(super) struct World {
    bug: Option<Bug>,
    rng: Rng,
    start: Instant,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    numbers: u64,
    pub(super) cluster: Cluster,
    roster: Roster,
    book: Book,
    revision: Revision,
    doubts: Doubts,
    coalescers: [Coalescer<usize>; 2],
    senders: BTreeMap<(usize, RoundId), u64>,
    jobs: BTreeMap<u64, Job>,
    attempts: BTreeMap<u64, Attempt>,
    hanging: Vec<Vec<(u64, Ask)>>,
    links: Vec<Link>,
    waiters: BTreeSet<u64>,
    boarding: BTreeSet<usize>,
    pub(super) calls: Vec<Call>,
    /// How callers are in this history.
    tasks: usize,
    keys: u64,
    call_timeout: Duration,
    give_up: u64,
    /// The one member that hangs, alone, since when.
    hangs: Option<Instant>,
    pub(super) had_faults: bool,
    faults: usize,
    pub(super) healed: Instant,
    pub(super) withdrawn: BTreeSet<u64>,
    pub(super) losses: Vec<Instant>,
    pub(super) downs: u32,
    pub(super) slow: usize,
    /// Calls that failed because of leases that the server did not know.
    pub(super) leaseless: usize,
    /// Requests to a member that was known to refuse them while there were others.
    pub(super) wasted: usize,
    handled: usize,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = Rng::new(seed);
        let start = Instant::now();
        let members = rng.pick(&[1, 3, 3]);
        let seconds = rng.pick(&[1, 2, 5, 10]);
        let call_timeout = Duration::from_secs(seconds);
        let urls = (0..members).map(|at| format!("http://member-{at}:2379"));
        Self {
            bug,
            start,
            now: start,
            events: BTreeMap::new(),
            numbers: 0,
            cluster: Cluster::new(members, &mut rng),
            roster: Roster::new(urls.collect(), call_timeout),
            book: Book::new(seed),
            revision: Revision::default(),
            doubts: Doubts::new(start),
            coalescers: [Coalescer::new(true), Coalescer::new(false)],
            senders: BTreeMap::new(),
            jobs: BTreeMap::new(),
            attempts: BTreeMap::new(),
            hanging: vec![Vec::new(); members],
            links: vec![
                Link {
                    generation: 1,
                    answers: 0,
                    forgotten: 0,
                };
                members
            ],
            waiters: BTreeSet::new(),
            boarding: BTreeSet::new(),
            calls: Vec::new(),
            tasks: rng.pick(&[1, 3, 8, 16]),
            keys: rng.pick(&[1, 3, 10]),
            call_timeout,
            give_up: rng.pick(&[0, 0, 10, 60]),
            hangs: None,
            had_faults: false,
            faults: 0,
            healed: start,
            withdrawn: BTreeSet::new(),
            losses: Vec::new(),
            downs: 0,
            slow: 0,
            leaseless: 0,
            wasted: 0,
            handled: 0,
            rng,
        }
    }

    pub(super) fn run(&mut self) {
        self.plan_faults();
        for task in 0..self.tasks {
            let at = self.start + self.rng.millis(0, 50);
            self.at(at, Event::Begin { task });
        }
        self.at(self.start, Event::Revoke);
        if self.rng.chance(50) {
            self.at(self.start, Event::Foreign);
        }
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.handled += 1;
            if self.handled > 200_000 {
                break;
            }
            if at > self.start + Duration::from_secs(60) {
                break;
            }
            self.handle(event);
        }
    }

    /// What happened, for comparison.
    pub(super) fn trace(&self) -> String {
        let since = |at: Instant| at.saturating_duration_since(self.start);
        let call = |call: &Call| {
            let end = call.end.map(since);
            format!(
                "{:?} {} {:?} {:?} {end:?}\n",
                call.op,
                call.key,
                since(call.begin),
                call.outcome
            )
        };
        self.calls.iter().map(call).collect()
    }

    pub(super) fn calls_left(&self) -> usize {
        let members = |coalescer: &Coalescer<usize>| coalescer.len();
        self.coalescers.iter().map(members).sum()
    }

    pub(super) fn slow_allowed(&self) -> usize {
        6 + self.tasks
    }

    /// Those that were under way when a member failed, and its probes.
    pub(super) fn wasted_allowed(&self) -> usize {
        self.faults * (30 + self.tasks)
    }

    pub(super) fn open_at_end(&self) -> Vec<bool> {
        let members = 0..self.cluster.members.len();
        members.map(|at| self.roster.open(at).is_some()).collect()
    }

    fn plan_faults(&mut self) {
        let count = self.rng.pick(&[0, 1, 1, 2, 4]);
        let members = self.cluster.members.len() as u64;
        self.faults = count;
        for _ in 0..count {
            self.had_faults = true;
            let at = usize::try_from(self.rng.below(members)).unwrap();
            let from = self.start + self.rng.millis(500, 9000);
            match self.rng.below(10) {
                0 => self.at(from, Event::LoseLeases),
                1 => self.at(from, Event::Elect),
                _ => {
                    let state = self.rng.pick(&[
                        State::Hangs,
                        State::Hangs,
                        State::Hangs,
                        State::Dead,
                        State::CutOff,
                        State::Learner,
                        State::Forgotten,
                        State::Forgotten,
                    ]);
                    let until = from + self.rng.millis(200, 6500);
                    self.at(from, Event::Becomes { at, state });
                    let state = State::Well;
                    self.at(until, Event::Becomes { at, state });
                }
            }
        }
        if self.had_faults {
            self.healed = self.start + HEALED;
        }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn at(&mut self, at: Instant, event: Event) {
        let number = self.number();
        self.events.insert((at.max(self.now), number), event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Begin { task } => self.begin(task),
            Event::GiveUp { call } => self.leave(call, Outcome::GaveUp),
            Event::Deadline { call } => self.leave(call, Outcome::Failed),
            Event::Deliver {
                attempt,
                at,
                ask,
                generation,
            } => self.deliver(attempt, at, ask, generation),
            Event::Answer { attempt, reply } => self.answer(attempt, reply),
            Event::Limit { attempt } => self.limit(attempt),
            Event::Wake { job, epoch } => {
                if self.jobs.get(&job).is_some_and(|job| job.epoch == epoch) {
                    self.step(job);
                }
            }
            Event::Kick { kind } => self.begin_rounds(kind),
            Event::Board => self.board_all(),
            Event::Foreign => self.foreign(),
            Event::Revoke => self.revoke(),
            Event::Becomes { at, state } => self.becomes(at, state),
            Event::Elect => {
                self.cluster.elect(self.now);
                let until = self.now + self.rng.millis(300, 1500);
                for at in 0..self.cluster.members.len() {
                    if self.cluster.state(at) == State::Well {
                        self.becomes(at, State::Electing);
                        let state = State::Well;
                        self.at(until, Event::Becomes { at, state });
                    }
                }
            }
            Event::LoseLeases => {
                self.losses.push(self.now);
                let leases: Vec<i64> = self.cluster.leases.keys().copied().collect();
                for lease in leases {
                    self.cluster.drop_lease(lease);
                }
            }
        }
    }

    // Callers.

    fn begin(&mut self, task: usize) {
        if self.now >= self.start + STOP {
            return;
        }
        let call = self.calls.len();
        let op = match self.rng.below(20) {
            0..9 => Op::Get,
            9..18 => Op::Set(call as u64),
            _ => Op::Delete,
        };
        let ttl = self.rng.pick(&[None, Some(1), Some(2), Some(4), Some(60)]);
        let patience = self.rng.millis(5, 1200);
        let gives_up = self.rng.chance(self.give_up).then(|| self.now + patience);
        let deadline = self.now + self.call_timeout;
        let key = self.rng.below(self.keys);
        self.calls.push(Call {
            task,
            op,
            key,
            ttl: ttl.map(Duration::from_secs),
            begin: self.now,
            deadline,
            gives_up,
            end: None,
            outcome: None,
            endures: false,
            lease: None,
            place: Place::Nowhere,
            lost: 0,
        });
        self.at(deadline, Event::Deadline { call });
        if let Some(at) = gives_up {
            self.at(at, Event::GiveUp { call });
        }
        self.board(call);
    }

    fn class_of(&self, call: usize) -> Option<TtlClass> {
        let Call {
            op, ttl, endures, ..
        } = &self.calls[call];
        let ttl = match op {
            Op::Set(_) if *endures => (*ttl)?.max(Duration::from_secs(60)),
            Op::Set(_) => (*ttl)?,
            Op::Delete if *endures => Duration::from_secs(60),
            _ => return None,
        };
        let ttl = if self.has(Bug::ClassTooShort) {
            ttl / 2
        } else {
            ttl
        };
        TtlClass::of(ttl)
    }

    fn board(&mut self, call: usize) {
        self.boarding.remove(&call);
        let Some(class) = self.class_of(call) else {
            return self.enter(call);
        };
        if let Place::Boards(grant) = self.calls[call].place
            && self.book.failure_of(class, grant).is_some()
        {
            return self.end(call, Outcome::Failed);
        }
        let key = self.calls[call].key;
        let (boarding, grant) = self.book.board(self.now, class, key);
        if let Some(grant) = grant {
            let sent = self.now;
            self.send(What::Grant { grant, sent }, self.now + self.call_timeout);
        }
        match boarding {
            Boarding::On(lease) => {
                self.calls[call].lease = Some((class, lease));
                self.enter(call);
            }
            Boarding::Wait(grant) => {
                if !matches!(self.calls[call].place, Place::Boards(_)) {
                    self.calls[call].place = Place::Boards(grant);
                }
                self.boarding.insert(call);
                self.at(Book::patience(self.now), Event::Board);
            }
        }
    }

    fn board_all(&mut self) {
        for call in std::mem::take(&mut self.boarding) {
            self.board(call);
        }
    }

    fn enter(&mut self, call: usize) {
        let kind = if self.calls[call].op == Op::Get {
            READS
        } else {
            WRITES
        };
        let key = self.calls[call].key;
        match self.coalescers[kind].enter(self.now, key, 1, || call) {
            Entry::Alone(round) => {
                let what = What::Alone { kind, round, call };
                let deadline = self.calls[call].deadline;
                let number = self.numbers + 1;
                self.calls[call].place = Place::Alone(number);
                self.senders.insert((kind, round), number);
                let sent = self.send(what, deadline);
                debug_assert_eq!(sent, number);
            }
            Entry::Waits(ticket) => {
                self.calls[call].place = Place::Waits(kind, ticket);
                self.begin_rounds(kind);
            }
        }
    }

    fn begin_rounds(&mut self, kind: usize) {
        while let Some(round) = self.coalescers[kind].begin(self.now, LIMITS) {
            let members = self.coalescers[kind].members(round);
            let deadlines = members.map(|(_, call)| self.calls[*call].deadline);
            let deadline = deadlines.max();
            let number = self.numbers + 1;
            self.senders.insert((kind, round), number);
            self.send(What::Round { kind, round }, deadline.unwrap_or(self.now));
        }
        if let Some(at) = self.coalescers[kind].poll_timeout(self.now) {
            self.at(at, Event::Kick { kind });
        }
    }

    /// A caller goes away before it was answered.
    fn leave(&mut self, call: usize, outcome: Outcome) {
        if self.calls[call].end.is_some() {
            return;
        }
        match self.calls[call].place {
            Place::Waits(_, _) if self.has(Bug::NotWithdrawn) => {
                if let Op::Set(value) = self.calls[call].op
                    && self.is_unsent(call)
                {
                    self.withdrawn.insert(value);
                }
            }
            Place::Waits(kind, ticket) => {
                let key = self.calls[call].key;
                match self.coalescers[kind].leave(ticket) {
                    Left::Answered => {}
                    Left::Withdrawn => {
                        if let Op::Set(value) = self.calls[call].op {
                            self.withdrawn.insert(value);
                        }
                    }
                    Left::UnderWay => self.doubts.note(self.now, [key]),
                    Left::LastOf(round) => {
                        self.doubts.note(self.now, [key]);
                        if let Some(job) = self.senders.get(&(kind, round)).copied()
                            && !self.has(Bug::RepeatedForNobody)
                        {
                            self.abort(job);
                        }
                    }
                }
            }
            Place::Alone(job) => self.abort(job),
            Place::Boards(_) | Place::Nowhere => {
                self.boarding.remove(&call);
            }
        }
        self.end(call, outcome);
    }

    fn is_unsent(&self, call: usize) -> bool {
        match self.calls[call].place {
            Place::Waits(kind, ticket) => self.coalescers[kind].member(ticket).is_none(),
            _ => false,
        }
    }

    fn end(&mut self, call: usize, outcome: Outcome) {
        let now = self.now;
        let this = &mut self.calls[call];
        if this.end.is_some() {
            return;
        }
        this.end = Some(now);
        this.outcome = Some(outcome);
        let task = this.task;
        // With others at once; alone, when it has lasted for the time of a call.
        let alone = self.cluster.members.len() == 1;
        let until_known = Duration::from_secs(3) + self.call_timeout * u32::from(alone);
        let known = self.hangs.map(|since| since + until_known);
        if known.is_some_and(|known| this.begin > known)
            && now - this.begin > Duration::from_millis(300)
        {
            self.slow += 1;
        }
        let pause = self.rng.millis(10, 600);
        self.at(now + pause, Event::Begin { task });
    }

    // Requests.

    fn send(&mut self, what: What, deadline: Instant) -> u64 {
        let first = match &what {
            What::Round { kind, round } => {
                let members = self.coalescers[*kind].members(*round);
                members.map(|(_, call)| *call).collect()
            }
            What::Alone { call, .. } => vec![*call],
            _ => Vec::new(),
        };
        let id = self.number();
        let job = Job {
            what,
            deadline,
            asked: None,
            attempts: 0,
            backoff: Backoff::new(id),
            has_moved_on: false,
            attempt: None,
            epoch: 0,
            first,
        };
        self.jobs.insert(id, job);
        self.step(id);
        id
    }

    fn step(&mut self, id: u64) {
        self.waiters.remove(&id);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.epoch += 1;
        let (epoch, deadline, asked) = (job.epoch, job.deadline, job.asked);
        if self.now >= deadline {
            return self.finish(id, Err(Next::Late));
        }
        if !self.has(Bug::NoProbes) {
            for at in self.roster.begin_probes(self.now) {
                let probe = self.number();
                let job = Job {
                    what: What::Probe { at },
                    deadline: self.now + self.roster.probe_limit(),
                    asked: None,
                    attempts: 0,
                    backoff: Backoff::new(probe),
                    has_moved_on: false,
                    attempt: None,
                    epoch: 0,
                    first: Vec::new(),
                };
                self.jobs.insert(probe, job);
                self.attempt(probe, at);
            }
        }
        match self.roster.choose(self.now, asked) {
            Choice::Use(at) => self.attempt(id, at),
            Choice::Wait(until) => {
                self.waiters.insert(id);
                self.at(until.min(deadline), Event::Wake { job: id, epoch });
            }
            Choice::Refuse(failure) => self.finish(id, Err(failure.next)),
        }
    }

    /// What the request asks the server for; `None`: nobody waits for it.
    fn ask(&self, job: &Job) -> Option<Ask> {
        let members: Vec<usize> = match &job.what {
            What::Grant { grant, .. } => {
                let seconds = grant.seconds;
                return Some(Ask::Grant { seconds });
            }
            What::Revoke { lease } => return Some(Ask::Revoke { lease: *lease }),
            What::Probe { .. } => return Some(Ask::Read { keys: Vec::new() }),
            What::Alone { call, .. } => vec![*call],
            What::Round { .. } if self.has(Bug::RepeatedForNobody) => job.first.clone(),
            What::Round { kind, round } => {
                let members = self.coalescers[*kind].members(*round);
                members.map(|(_, call)| *call).collect()
            }
        };
        let mut last: BTreeMap<u64, usize> = BTreeMap::new();
        for call in members {
            last.insert(self.calls[call].key, call);
        }
        let first = self.calls.get(*last.values().next()?)?;
        if first.op == Op::Get {
            let keys = last.keys().copied().collect();
            return Some(Ask::Read { keys });
        }
        let put = |(key, call): (&u64, &usize)| {
            let call = &self.calls[*call];
            let lease = call.lease.map(|(_, lease)| lease);
            let value = match call.op {
                Op::Set(value) => {
                    let deadline = call.ttl.map(|ttl| call.begin + ttl);
                    Some((Some(value), deadline, lease))
                }
                _ if call.endures => Some((None, Some(self.start), lease)),
                _ => None,
            };
            Put { key: *key, value }
        };
        Some(Ask::Write {
            puts: last.iter().map(put).collect(),
            newest: (!self.has(Bug::NoRevision)).then(|| self.revision.newest()),
        })
    }

    /// What would not endure is sent back if its key is in doubt.
    fn send_back(&mut self, id: u64) {
        if self.has(Bug::NoTombstone) {
            return;
        }
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let calls: Vec<(Option<Ticket>, usize)> = match &job.what {
            What::Alone { call, .. } => vec![(None, *call)],
            What::Round { kind, round } => {
                let members = self.coalescers[*kind].members(*round);
                members
                    .map(|(ticket, call)| (Some(ticket), *call))
                    .collect()
            }
            _ => return,
        };
        for (ticket, call) in calls {
            let Call {
                op, ttl, endures, ..
            } = self.calls[call];
            let is_short = match op {
                Op::Set(_) => ttl.is_some_and(|ttl| ttl < Duration::from_secs(60)),
                Op::Delete => true,
                Op::Get => false,
            };
            let key = self.calls[call].key;
            if endures || !is_short || !self.doubts.has(self.now, key) {
                continue;
            }
            self.calls[call].endures = true;
            self.calls[call].place = Place::Nowhere;
            match ticket {
                Some(ticket) => drop(self.coalescers[WRITES].take(ticket)),
                None => self.abort(id),
            }
            self.board(call);
        }
    }

    fn attempt(&mut self, id: u64, at: usize) {
        self.send_back(id);
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let Some(ask) = self.ask(job) else {
            return self.finish(id, Err(Next::Withdrawn));
        };
        let attempt = self.number();
        let limit = match self.jobs.get_mut(&id) {
            Some(job) => {
                job.attempt = Some(attempt);
                job.asked = Some(at);
                if let What::Grant { sent, .. } = &mut job.what {
                    *sent = self.now;
                }
                job.deadline.min(self.now + self.roster.limit(job.attempts))
            }
            None => return,
        };
        let (keys, puts) = match &ask {
            Ask::Write { puts, .. } => {
                let keys = puts.iter().map(|put| put.key).collect();
                let puts = puts.iter().filter(|put| put.value.is_some());
                (keys, puts.map(|put| put.key).collect())
            }
            Ask::Read { keys } => (keys.clone(), Vec::new()),
            _ => (Vec::new(), Vec::new()),
        };
        let link = self.links[at];
        self.attempts.insert(
            attempt,
            Attempt {
                job: id,
                at,
                sent: self.now,
                generation: link.generation,
                answers: link.answers,
                newest: self.revision.newest(),
                keys,
                puts,
            },
        );
        self.at(limit, Event::Limit { attempt });
        let generation = link.generation;
        let arrives = self.now + self.latency();
        self.at(
            arrives,
            Event::Deliver {
                attempt,
                at,
                ask,
                generation,
            },
        );
    }

    fn latency(&mut self) -> Duration {
        match self.rng.below(200) {
            0 => self.rng.millis(20, 150),
            _ => self.rng.millis(0, 3),
        }
    }

    fn deliver(&mut self, attempt: u64, at: usize, ask: Ask, generation: u64) {
        if generation <= self.links[at].forgotten {
            return;
        }
        let members = &self.cluster.members;
        let serving = members.iter().filter(|state| {
            matches!(
                state,
                State::Well | State::Forgotten | State::Electing | State::Learner
            )
        });
        let has_quorum = serving.count() * 2 > members.len();
        let reply = match self.cluster.state(at) {
            State::Dead => Err(Fault::Unreachable),
            State::Hangs => {
                self.hanging[at].push((attempt, ask));
                return;
            }
            State::CutOff => Ok(Reply::NoLeader),
            State::Learner => Ok(Reply::Learner),
            _ if !has_quorum => Ok(Reply::NoLeader),
            State::Electing => Ok(Reply::Repeat),
            State::Well | State::Forgotten => {
                let is_over = self.now >= self.healed;
                if !is_over && matches!(ask, Ask::Grant { .. }) && self.rng.chance(4) {
                    // Some grants are never answered.
                    return;
                }
                Ok(self.cluster.answer(self.now, &ask))
            }
        };
        let mut arrives = self.now + self.latency();
        if matches!(ask, Ask::Grant { .. }) && self.rng.chance(20) {
            arrives += self.rng.millis(100, 400);
        }
        self.at(arrives, Event::Answer { attempt, reply });
    }

    fn becomes(&mut self, at: usize, state: State) {
        if self.cluster.state(at) == state {
            return;
        }
        let was = std::mem::replace(&mut self.cluster.members[at], state);
        match state {
            State::Forgotten => self.links[at].forgotten = self.links[at].generation,
            State::Dead => {
                let here = self.attempts.iter().filter(|(_, attempt)| attempt.at == at);
                let broken: Vec<u64> = here.map(|(id, _)| *id).collect();
                for attempt in broken {
                    let reply = Err(Fault::Broken);
                    self.at(self.now, Event::Answer { attempt, reply });
                }
            }
            _ => {}
        }
        if was == State::Hangs {
            // It takes up what it had been given, in any order.
            let mut held = std::mem::take(&mut self.hanging[at]);
            while !held.is_empty() {
                let next = usize::try_from(self.rng.below(held.len() as u64)).unwrap();
                let (attempt, ask) = held.swap_remove(next);
                let generation = u64::MAX;
                let later = self.now + self.rng.millis(0, 40);
                self.at(
                    later,
                    Event::Deliver {
                        attempt,
                        at,
                        ask,
                        generation,
                    },
                );
            }
        }
        let down = self.cluster.members.clone();
        let is_alone = down.iter().filter(|it| **it != State::Well).count() == 1;
        self.hangs = (is_alone && down.contains(&State::Hangs)).then_some(self.now);
    }

    fn answer(&mut self, id: u64, reply: Result<Reply, Fault>) {
        let Some(attempt) = self.attempts.remove(&id) else {
            return;
        };
        let fault = match &reply {
            Err(fault) => Some(*fault),
            Ok(Reply::NoLeader) => Some(Fault::NoLeader),
            Ok(Reply::Learner) => Some(Fault::Learner),
            Ok(_) => None,
        };
        if let Some(fault) = fault {
            let connection = self.proof(&attempt);
            if fault == Fault::Broken {
                self.disconnect(&attempt);
            }
            self.in_doubt(&attempt);
            let states = self.cluster.members.iter();
            let has_others = states.filter(|state| **state == State::Well).count() == 2;
            self.wasted += usize::from(has_others);
            self.fault(&attempt, connection, fault);
            return self.again(attempt.job, Next::Elsewhere(fault));
        }
        let link = &mut self.links[attempt.at];
        if link.generation == attempt.generation {
            link.answers += 1;
        }
        if !self.has(Bug::AnswersNotTold) {
            let change = self.roster.answered(self.now, attempt.at);
            if change.is_some() {
                self.heard();
            }
        }
        match reply.unwrap_or(Reply::Repeat) {
            Reply::Repeat | Reply::NoLeader | Reply::Learner => {
                self.in_doubt(&attempt);
                self.again(attempt.job, Next::Repeat);
            }
            Reply::Applied(revision) => {
                self.revision.saw(attempt.newest, revision);
                self.finish(attempt.job, Ok(Vec::new()));
            }
            Reply::MovedOn(revision) => {
                self.revision.saw(attempt.newest, revision);
                self.moved_on(attempt.job);
            }
            Reply::NoLease => self.finish(attempt.job, Err(Next::NewLease)),
            Reply::Found(found, revision) => {
                self.revision.saw(attempt.newest, revision);
                let found = attempt.keys.iter().copied().zip(found).collect();
                self.finish(attempt.job, Ok(found));
            }
            Reply::Granted { lease, ttl } => self.granted(attempt.job, lease, ttl),
            Reply::Revoked => self.finish(attempt.job, Ok(Vec::new())),
        }
    }

    fn moved_on(&mut self, id: u64) {
        let is_applied = self.has(Bug::MovedOnIsApplied);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let is_alone = matches!(job.what, What::Alone { .. });
        if is_applied || (is_alone && job.has_moved_on) {
            return self.finish(id, Ok(Vec::new()));
        }
        job.has_moved_on = true;
        job.asked = None;
        job.attempts = 0;
        self.step(id);
    }

    fn granted(&mut self, id: u64, lease: i64, ttl: i64) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        let What::Grant { grant, sent } = job.what else {
            return;
        };
        let sent = if self.has(Bug::LeaseCountsFromAnswer) {
            self.now
        } else {
            sent
        };
        self.book.granted(self.now, grant, sent, lease, ttl);
        self.board_all();
    }

    fn fault(&mut self, attempt: &Attempt, connection: Connection, fault: Fault) {
        if self.has(Bug::FaultsNotTold) {
            return;
        }
        let message = format!("{fault:?}");
        let (at, sent) = (attempt.at, attempt.sent);
        let (_, change) = self
            .roster
            .failed(self.now, at, sent, connection, fault, message);
        self.note(change.as_ref());
    }

    fn note(&mut self, change: Option<&Change>) {
        self.downs += u32::from(matches!(change, Some(Change::Down { .. })));
    }

    /// The attempt has had its time.
    fn limit(&mut self, id: u64) {
        let Some(attempt) = self.attempts.remove(&id) else {
            return;
        };
        self.given_up(&attempt);
        self.again(attempt.job, Next::Late);
    }

    fn given_up(&mut self, attempt: &Attempt) {
        self.in_doubt(attempt);
        let (at, sent) = (attempt.at, attempt.sent);
        let connection = self.proof(attempt);
        if self.has(Bug::ShortTimeIsFault) {
            self.fault(attempt, connection, Fault::Silent);
        } else if !self.has(Bug::GivenUpNotTold) {
            let change = self.roster.given_up(self.now, at, sent, connection);
            self.note(change.as_ref());
        }
        let is_fair = self.now - sent >= Duration::from_millis(500);
        let is_silent = self.links[at].answers == attempt.answers;
        if is_silent
            && (is_fair || self.roster.open(at).is_some())
            && !self.has(Bug::SilentConnectionKept)
        {
            self.disconnect(attempt);
        }
    }

    fn in_doubt(&mut self, attempt: &Attempt) {
        self.doubts.note(self.now, attempt.puts.iter().copied());
    }

    fn proof(&self, attempt: &Attempt) -> Connection {
        let link = self.links[attempt.at];
        if link.generation == attempt.generation && link.answers == 0 {
            Connection::Fresh
        } else {
            Connection::Proven
        }
    }

    fn disconnect(&mut self, attempt: &Attempt) {
        let link = &mut self.links[attempt.at];
        if link.generation == attempt.generation {
            link.generation += 1;
            link.answers = 0;
        }
    }

    /// An attempt has failed: another, unless the time is over.
    fn again(&mut self, id: u64, next: Next) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if let What::Probe { at } = job.what {
            self.jobs.remove(&id);
            self.roster.end_probe(at);
            return self.heard();
        }
        job.attempt = None;
        let same = job.attempts > 0 && next != Next::Late;
        job.attempts += 1;
        job.epoch += 1;
        let waits = next == Next::Repeat || same;
        let at = if waits {
            self.now + job.backoff.pause()
        } else {
            self.now
        };
        let (epoch, deadline) = (job.epoch, job.deadline);
        if at >= deadline {
            return self.finish(id, Err(next));
        }
        self.at(at, Event::Wake { job: id, epoch });
    }

    fn heard(&mut self) {
        for job in std::mem::take(&mut self.waiters) {
            if let Some(epoch) = self.jobs.get(&job).map(|job| job.epoch) {
                self.at(self.now, Event::Wake { job, epoch });
            }
        }
    }

    /// Those who waited for a request have gone.
    fn abort(&mut self, id: u64) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        self.waiters.remove(&id);
        if let Some(attempt) = job
            .attempt
            .and_then(|attempt| self.attempts.remove(&attempt))
        {
            self.given_up(&attempt);
        }
        if let What::Round { kind, round } | What::Alone { kind, round, .. } = job.what {
            self.round_is_over(kind, round);
        }
    }

    fn round_is_over(&mut self, kind: usize, round: RoundId) {
        self.senders.remove(&(kind, round));
        if !self.has(Bug::RoundNotFinished) {
            for call in self.coalescers[kind].finish(round) {
                self.end(call, Outcome::Failed);
            }
        }
        self.begin_rounds(kind);
    }

    fn finish(&mut self, id: u64, result: Result<Vec<(u64, Option<Stored>)>, Next>) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        self.waiters.remove(&id);
        match job.what {
            What::Round { kind, round } => {
                let members: Vec<(Ticket, usize)> = self.coalescers[kind]
                    .members(round)
                    .map(|(ticket, call)| (ticket, *call))
                    .collect();
                for (ticket, call) in members {
                    self.coalescers[kind].take(ticket);
                    self.tell(call, &result);
                }
                self.round_is_over(kind, round);
            }
            What::Alone { kind, round, call } => {
                self.tell(call, &result);
                self.round_is_over(kind, round);
            }
            What::Grant { grant, .. } => {
                let next = result.err().unwrap_or(Next::Late);
                self.book
                    .not_granted(grant, Failure::new(next, "not granted"));
                self.board_all();
            }
            What::Probe { at } => {
                self.roster.end_probe(at);
                self.heard();
            }
            What::Revoke { .. } => {}
        }
    }

    fn tell(&mut self, call: usize, result: &Result<Vec<(u64, Option<Stored>)>, Next>) {
        if self.calls[call].end.is_some() {
            return;
        }
        let outcome = match result {
            Ok(found) if self.calls[call].op == Op::Get => {
                let key = self.calls[call].key;
                let stored = found.iter().find(|(found, _)| *found == key);
                let stored = stored.and_then(|(_, stored)| *stored);
                let living = stored.filter(|it| it.deadline.is_none_or(|at| self.now < at));
                Outcome::Found(living.and_then(|stored| stored.value))
            }
            Ok(_) => Outcome::Done,
            Err(Next::NewLease) if self.calls[call].lost < 3 => {
                self.calls[call].lost += 1;
                self.calls[call].place = Place::Nowhere;
                if let Some((class, lease)) = self.calls[call].lease
                    && !self.has(Bug::LostLeaseKept)
                {
                    self.book.lost(self.now, class, lease);
                }
                return self.board(call);
            }
            Err(next) => {
                self.leaseless += usize::from(*next == Next::NewLease);
                Outcome::Failed
            }
        };
        self.end(call, outcome);
    }

    /// Another process sets a key, at once.
    fn foreign(&mut self) {
        if self.now >= self.start + STOP {
            return;
        }
        let value = 1_000_000_000 + self.number();
        let key = self.rng.below(self.keys);
        let put = Put {
            key,
            value: Some((Some(value), None, None)),
        };
        let ask = Ask::Write {
            puts: vec![put],
            newest: None,
        };
        self.cluster.answer(self.now, &ask);
        self.calls.push(Call {
            task: usize::MAX,
            op: Op::Set(value),
            key,
            ttl: None,
            begin: self.now,
            deadline: self.now,
            gives_up: None,
            end: Some(self.now),
            outcome: Some(Outcome::Done),
            endures: false,
            lease: None,
            place: Place::Nowhere,
            lost: 0,
        });
        let pause = self.rng.millis(50, 900);
        self.at(self.now + pause, Event::Foreign);
    }

    fn revoke(&mut self) {
        let lease = if self.has(Bug::RevokedEarly) {
            self.cluster.leases.keys().next().copied()
        } else {
            self.book.revoke(self.now)
        };
        if let Some(lease) = lease {
            self.send(What::Revoke { lease }, self.now + Duration::from_secs(5));
        }
        if self.now < self.start + STOP + RECOVERY {
            self.at(self.now + Duration::from_millis(50), Event::Revoke);
        }
    }
}
