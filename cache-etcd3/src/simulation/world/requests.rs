//! Requests and their retries: a model of the code that does I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Attempt, Call, Event, Job, Op, Outcome, Place, RECOVERY, STOP, WRITES, What, World};
use crate::coalescer::{RoundId, Ticket};
use crate::endpoints::backoff::Backoff;
use crate::endpoints::roster::Choice;
use crate::failure::{Failure, Next};
use crate::simulation::bug::Bug;
use crate::simulation::cluster::{Ask, Put, Stored};

impl World {
    pub(super) fn send(&mut self, what: What, deadline: Instant) -> u64 {
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

    pub(super) fn step(&mut self, id: u64) {
        self.waiters.remove(&id);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.epoch += 1;
        let (epoch, deadline, asked) = (job.epoch, job.deadline, job.asked);
        let purpose = job.what.purpose();
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
        match self.roster.choose(self.now, purpose, asked) {
            Choice::Use(at) => self.attempt(id, at),
            Choice::Wait(until) => {
                self.waiters.insert(id);
                self.at(until.min(deadline), Event::Wake { job: id, epoch });
            }
            Choice::Refuse(failure) => self.finish(id, Err(failure.next)),
        }
    }

    /// The contents of the request; `None` if no caller waits for it.
    pub(super) fn ask(&self, job: &Job) -> Option<Ask> {
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

    /// Turns writes that do not protect their key into marks if the key is in doubt.
    pub(super) fn send_back(&mut self, id: u64) {
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

    pub(super) fn attempt(&mut self, id: u64, at: usize) {
        self.send_back(id);
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let Some(ask) = self.ask(job) else {
            return self.finish(id, Err(Next::Withdrawn));
        };
        let attempt = self.number();
        let (limit, purpose) = match self.jobs.get_mut(&id) {
            Some(job) => {
                job.attempt = Some(attempt);
                job.asked = Some(at);
                if let What::Grant { sent, .. } = &mut job.what {
                    *sent = self.now;
                }
                let purpose = job.what.purpose();
                let allowed = self.roster.begins(self.now, at, purpose, job.attempts);
                (job.deadline.min(self.now + allowed), purpose)
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
                purpose,
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

    pub(super) fn moved_on(&mut self, id: u64) {
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

    pub(super) fn granted(&mut self, id: u64, lease: i64, ttl: i64) {
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

    /// Retries after a failed attempt, unless the deadline has passed.
    pub(super) fn again(&mut self, id: u64, next: Next) {
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

    pub(super) fn heard(&mut self) {
        for job in std::mem::take(&mut self.waiters) {
            if let Some(epoch) = self.jobs.get(&job).map(|job| job.epoch) {
                self.at(self.now, Event::Wake { job, epoch });
            }
        }
    }

    /// No caller waits for the request any more.
    pub(super) fn abort(&mut self, id: u64) {
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

    pub(super) fn round_is_over(&mut self, kind: usize, round: RoundId) {
        self.senders.remove(&(kind, round));
        if !self.has(Bug::RoundNotFinished) {
            for call in self.coalescers[kind].finish(round) {
                self.end(call, Outcome::Failed);
            }
        }
        self.begin_rounds(kind);
    }

    pub(super) fn finish(&mut self, id: u64, result: Result<Vec<(u64, Option<Stored>)>, Next>) {
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

    pub(super) fn revoke(&mut self) {
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
