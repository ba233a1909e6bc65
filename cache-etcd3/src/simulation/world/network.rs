//! The faults of the network and of the members.

use std::time::Duration;

use super::{Attempt, Event, HEALED, World};
use crate::endpoints::Connection;
use crate::events::Change;
use crate::failure::{Fault, Next};
use crate::simulation::bug::Bug;
use crate::simulation::cluster::{self, Ask, Reply, State};

/// The IDs of clusters: the one that is used, and that of the first member if it is foreign.
const OURS: u64 = 1;
const FOREIGN: u64 = 100;

impl World {
    pub(super) fn plan_faults(&mut self) {
        let count = self.rng.pick(&[0, 1, 1, 2, 4]);
        let members = self.cluster.members.len() as u64;
        self.faults = count;
        for _ in 0..count {
            self.had_faults = true;
            let at = usize::try_from(self.rng.below(members)).unwrap();
            let from = self.start + self.rng.millis(500, 6500);
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
                        State::Foreign,
                    ]);
                    // The backend would rightly follow a single node.
                    let state = match state {
                        State::Foreign if members == 1 => State::Dead,
                        state => state,
                    };
                    let until = from + self.rng.millis(200, 9000);
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

    pub(super) fn latency(&mut self) -> Duration {
        match self.rng.below(200) {
            0 => self.rng.millis(20, 150),
            _ => self.rng.millis(0, 3),
        }
    }

    pub(super) fn deliver(&mut self, attempt: u64, at: usize, ask: Ask, generation: u64) {
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
            State::Foreign => Ok(Reply::Foreign(Box::new(cluster::empty(&ask)))),
            _ if !has_quorum => Ok(Reply::NoLeader),
            State::Electing => Ok(Reply::Repeat),
            State::Well | State::Forgotten => {
                let is_over = self.now >= self.healed;
                if !is_over && matches!(ask, Ask::Grant { .. }) && self.rng.chance(4) {
                    // Some grants get no response.
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

    pub(super) fn becomes(&mut self, at: usize, state: State) {
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
            // It executes the requests that it had received, in any order.
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

    pub(super) fn answer(&mut self, id: u64, reply: Result<Reply, Fault>) {
        let Some(attempt) = self.attempts.remove(&id) else {
            return;
        };
        let fault = match &reply {
            Err(fault) => Some(*fault),
            Ok(Reply::NoLeader) => Some(Fault::NoLeader),
            Ok(Reply::Learner) => Some(Fault::Learner),
            Ok(_) => None,
        };
        let took = fault.is_none().then(|| self.now - attempt.sent);
        self.roster
            .ended(self.now, attempt.at, attempt.purpose, took);
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
        let (cluster, reply) = match reply.unwrap_or(Reply::Repeat) {
            Reply::Foreign(reply) => (FOREIGN + attempt.at as u64, *reply),
            reply => (OURS, reply),
        };
        if !self.has(Bug::AnswersNotTold) {
            let cluster = (!self.has(Bug::ClusterNotCompared)).then_some(cluster);
            let (outcome, change) = self.roster.answered(self.now, attempt.at, cluster);
            self.note(change.as_ref());
            if matches!(change, Some(Change::Up { .. })) {
                self.heard();
            }
            if let Err(failure) = outcome {
                return self.again(attempt.job, failure.next);
            }
        }
        match reply {
            Reply::Foreign(_) => {}
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

    pub(super) fn fault(&mut self, attempt: &Attempt, connection: Connection, fault: Fault) {
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

    pub(super) fn note(&mut self, change: Option<&Change>) {
        self.downs += u32::from(matches!(change, Some(Change::Down { .. })));
    }

    /// The attempt timed out.
    pub(super) fn limit(&mut self, id: u64) {
        let Some(attempt) = self.attempts.remove(&id) else {
            return;
        };
        self.given_up(&attempt);
        self.again(attempt.job, Next::Late);
    }

    pub(super) fn given_up(&mut self, attempt: &Attempt) {
        self.in_doubt(attempt);
        let (at, sent) = (attempt.at, attempt.sent);
        self.roster.ended(self.now, at, attempt.purpose, None);
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

    pub(super) fn in_doubt(&mut self, attempt: &Attempt) {
        self.doubts.note(self.now, attempt.puts.iter().copied());
    }

    pub(super) fn proof(&self, attempt: &Attempt) -> Connection {
        let link = self.links[attempt.at];
        if link.generation == attempt.generation && link.answers == 0 {
            Connection::Fresh
        } else {
            Connection::Proven
        }
    }

    pub(super) fn disconnect(&mut self, attempt: &Attempt) {
        let link = &mut self.links[attempt.at];
        if link.generation == attempt.generation {
            link.generation += 1;
            link.answers = 0;
        }
    }
}
