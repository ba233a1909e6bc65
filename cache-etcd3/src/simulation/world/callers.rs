//! The calls and their outcomes.

use std::time::Duration;

use super::{Call, Event, LIMITS, Op, Outcome, Place, READS, STOP, WRITES, What, World};
use crate::coalescer::{Entry, Left};
use crate::failure::Next;
use crate::leases::TtlClass;
use crate::leases::book::{Boarding, Book};
use crate::simulation::bug::Bug;
use crate::simulation::cluster::{Ask, Put, Stored};

impl World {
    pub(super) fn begin(&mut self, task: usize) {
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

    pub(super) fn class_of(&self, call: usize) -> Option<TtlClass> {
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

    pub(super) fn board(&mut self, call: usize) {
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

    pub(super) fn board_all(&mut self) {
        for call in std::mem::take(&mut self.boarding) {
            self.board(call);
        }
    }

    pub(super) fn enter(&mut self, call: usize) {
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

    pub(super) fn begin_rounds(&mut self, kind: usize) {
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

    /// A caller gives up before its call completes.
    pub(super) fn leave(&mut self, call: usize, outcome: Outcome) {
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

    pub(super) fn is_unsent(&self, call: usize) -> bool {
        match self.calls[call].place {
            Place::Waits(kind, ticket) => self.coalescers[kind].member(ticket).is_none(),
            _ => false,
        }
    }

    pub(super) fn end(&mut self, call: usize, outcome: Outcome) {
        let now = self.now;
        let this = &mut self.calls[call];
        if this.end.is_some() {
            return;
        }
        this.end = Some(now);
        this.outcome = Some(outcome);
        let task = this.task;
        // Immediately with other members; with a single one, after a `call_timeout`.
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

    pub(super) fn tell(&mut self, call: usize, result: &Result<Vec<(u64, Option<Stored>)>, Next>) {
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

    /// Another process sets a key.
    pub(super) fn foreign(&mut self) {
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
}
