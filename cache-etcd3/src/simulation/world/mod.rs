//! One history: the callers, the client's decisions, the cluster, and the schedule of events.

mod callers;
mod network;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::bug::Bug;
use super::cluster::{Ask, Cluster, Reply, State};
use super::random::Rng;
use crate::coalescer::{Coalescer, Limits, RoundId, Ticket};
use crate::endpoints::Purpose;
use crate::endpoints::backoff::Backoff;
use crate::endpoints::roster::Roster;
use crate::failure::Fault;
use crate::leases::TtlClass;
use crate::leases::book::{Book, Grant, GrantId};
use crate::revision::{Doubts, Revision};
use crate::rounds::rounds_in_flight;

const LIMITS: Limits = Limits {
    operations: 16,
    bytes: 1024,
};

/// When the last fault ends, and when callers stop.
const HEALED: Duration = Duration::from_secs(16);
const STOP: Duration = Duration::from_secs(27);

/// How long after the last fault calls must succeed again.
pub(super) const RECOVERY: Duration = Duration::from_secs(9);

/// Kinds of rounds.
const WRITES: usize = 0;
const READS: usize = 1;

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

/// A call and its outcome.
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
    /// Its value must protect the key from a late set.
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

impl What {
    fn purpose(&self) -> Purpose {
        match self {
            Self::Round { kind: READS, .. }
            | Self::Alone { kind: READS, .. }
            | Self::Probe { .. } => Purpose::Read,
            _ => Purpose::Write,
        }
    }
}

/// A request in flight.
#[derive(Debug)]
struct Job {
    what: What,
    deadline: Instant,
    asked: Option<usize>,
    attempts: u32,
    backoff: Backoff,
    has_moved_on: bool,
    attempt: Option<u64>,
    /// Wake-ups with another epoch are ignored.
    epoch: u64,
    /// The calls for which it was first sent.
    first: Vec<usize>,
}

#[derive(Debug)]
struct Attempt {
    job: u64,
    at: usize,
    purpose: Purpose,
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
    /// Connections up to this one are dead.
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
    /// The behavior of callers in this history.
    tasks: usize,
    keys: u64,
    call_timeout: Duration,
    give_up: u64,
    /// Since when one member has been hanging while all others are healthy.
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
    /// Requests to a member that was known to refuse them while others were available.
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
            coalescers: [true, false]
                .map(|exclusive| Coalescer::new(exclusive, rounds_in_flight(members))),
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

    /// The events, for comparison.
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

    /// Requests in flight when a member failed, and its probes.
    pub(super) fn wasted_allowed(&self) -> usize {
        self.faults * (30 + self.tasks)
    }

    pub(super) fn open_at_end(&self) -> Vec<bool> {
        let members = 0..self.cluster.members.len();
        members.map(|at| self.roster.open(at).is_some()).collect()
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
}
