//! Whether the history of a key is one that the backend's promises allow.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::event::{Event, Outcome, What};
use super::faults::FaultLog;
use super::order::{Claim, contradictions};
use super::promises::{Order, Promises};
use super::time::nanos;

/// What a deadline may be off by: it travels as a float of seconds.
const ROUNDING: Duration = Duration::from_micros(10);

/// A promise that was broken, and the events that prove it.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) rule: &'static str,
    pub(crate) text: String,
    /// Positions in the history.
    pub(crate) proof: Vec<usize>,
}

/// Judges all that happened to one key, in any order of events.
pub(crate) fn judge(events: &[Event], promises: &Promises, faults: &FaultLog) -> Vec<Finding> {
    let history = History::new(events, promises, faults);
    let mut findings = Vec::new();
    history.unknown_values(&mut findings);
    history.lifetimes(&mut findings);
    history.order(&mut findings);
    history.losses(&mut findings);
    findings
}

struct History<'a> {
    events: &'a [Event],
    promises: &'a Promises,
    faults: &'a FaultLog,
    /// The position of the write of each version.
    writes: HashMap<u64, usize>,
    /// The positions of the reads that found it.
    reads: HashMap<u64, Vec<usize>>,
    first: u64,
    last: u64,
}

impl<'a> History<'a> {
    fn new(events: &'a [Event], promises: &'a Promises, faults: &'a FaultLog) -> Self {
        let mut writes = HashMap::new();
        let mut reads: HashMap<u64, Vec<usize>> = HashMap::new();
        for (position, event) in events.iter().enumerate() {
            match event.what {
                What::Write { version, .. } => drop(writes.insert(version, position)),
                What::Hit { version, .. } => reads.entry(version).or_default().push(position),
                _ => {}
            }
        }
        Self {
            events,
            promises,
            faults,
            writes,
            reads,
            first: events.iter().map(|event| event.start.at).min().unwrap_or(0),
            last: events.iter().map(|event| event.end.at).max().unwrap_or(0),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, &'a Event, Option<(usize, &'a Event)>)> {
        self.events.iter().enumerate().filter_map(|(at, event)| {
            let What::Hit { version, .. } = event.what else {
                return None;
            };
            let write = self.writes.get(&version).copied();
            let write = write.and_then(|write| Some((write, self.events.get(write)?)));
            Some((at, event, write))
        })
    }

    fn unknown_values(&self, findings: &mut Vec<Finding>) {
        for (at, read, write) in self.pairs() {
            match write {
                None => findings.push(Finding {
                    rule: "never written",
                    text: "a read found a value that was never written under this key".to_owned(),
                    proof: vec![at],
                }),
                Some((from, write)) if read.end.at < write.start.at => findings.push(Finding {
                    rule: "never written",
                    text: "a read found a value that was written only later".to_owned(),
                    proof: vec![at, from],
                }),
                Some(_) => {}
            }
        }
    }

    /// Nothing is served at or after its deadline, and the time left is told rightly.
    fn lifetimes(&self, findings: &mut Vec<Finding>) {
        for (at, read, write) in self.pairs() {
            let Some((from, write)) = write else { continue };
            let (What::Write { ttl, .. }, What::Hit { left, .. }) = (&write.what, &read.what)
            else {
                continue;
            };
            let mut broken = |rule, text| {
                findings.push(Finding {
                    rule,
                    text,
                    proof: vec![from, at],
                });
            };
            if *ttl == u64::MAX {
                if let Some(left) = left {
                    let left = Duration::from_nanos(*left);
                    broken(
                        "time left",
                        format!("a value without a TTL has {left:?} left"),
                    );
                }
                continue;
            }
            let earliest = write.start.clock.saturating_add(*ttl);
            let latest = write.end.clock.saturating_add(*ttl);
            let rounding = nanos(ROUNDING);
            if read.start.clock >= latest.saturating_add(rounding) {
                let late = Duration::from_nanos(read.start.clock - latest);
                broken(
                    "served after its deadline",
                    format!("a read that began {late:?} after the deadline found the value"),
                );
                continue;
            }
            let least = earliest.saturating_sub(read.end.clock.saturating_add(rounding));
            let most = latest.saturating_sub(read.start.clock) + rounding;
            if left.is_none_or(|left| left < least || left > most) {
                let shown = left.map(Duration::from_nanos);
                let (least, most) = (Duration::from_nanos(least), Duration::from_nanos(most));
                broken(
                    "time left",
                    format!("the value says {shown:?} is left; it is {least:?} to {most:?}"),
                );
            }
        }
    }

    /// The spans within which order is judged.
    fn spans(&self) -> Vec<(u64, u64)> {
        match self.promises.order {
            Order::Always | Order::ButForRepeats => vec![(0, u64::MAX)],
            Order::BetweenFaults => {
                let calm = self.faults.calm().into_iter();
                calm.filter(|(from, to)| *from <= self.last && *to >= self.first)
                    .collect()
            }
        }
    }

    /// Until when this write may be applied once more, if it may.
    fn repeated_until(&self, write: &Event) -> Option<u64> {
        if self.promises.order != Order::ButForRepeats {
            return None;
        }
        let (start, end) = (write.start.at, write.end.at);
        let storm = self.faults.storm_until(start, end);
        let is_slow = end.saturating_sub(start) > nanos(self.promises.slow);
        let slow = is_slow.then(|| end.saturating_add(nanos(self.promises.settle)));
        // The storm may be over before the call is.
        storm.max(slow).map(|until| until.max(end))
    }

    /// Linearizability of one register whose values are all different: each value is the
    /// register's from some moment to some other, and these spans must not contradict each
    /// other (Gibbons and Korach, "Testing shared memories", 1997). A miss is explained by a
    /// delete or by expiry, of which there may be any number; it contradicts only a value that
    /// was seen before and after.
    fn order(&self, findings: &mut Vec<Finding>) {
        let mut seen = HashSet::new();
        for (from, to) in self.spans() {
            let claims = self.claims(from, to);
            for (one, other) in contradictions(&claims) {
                let mut proof = one.proof.clone();
                proof.extend(&other.proof);
                proof.sort_unstable();
                proof.dedup();
                if seen.insert(proof.clone()) {
                    findings.push(Finding {
                        rule: "order",
                        text: format!("no order explains it: {}, and {}", one.text, other.text),
                        proof,
                    });
                }
            }
        }
    }

    fn claims(&self, from: u64, to: u64) -> Vec<Claim> {
        let within = |event: &Event| event.start.at >= from && event.end.at <= to;
        let mut claims = Vec::new();
        for (position, event) in self.events.iter().enumerate() {
            let (start, end) = (event.start.at, event.end.at);
            match event.what {
                What::Delete(Outcome::Done) if within(event) => {
                    claims.push(Claim::at_some_moment(position, "a delete", start, end));
                }
                What::Miss if within(event) => {
                    claims.push(Claim::at_some_moment(position, "a miss", start, end));
                }
                What::Write {
                    version, outcome, ..
                } if start < to => {
                    let repeated = self.repeated_until(event);
                    let is_old = start < from;
                    let reads = self
                        .reads
                        .get(&version)
                        .map(Vec::as_slice)
                        .unwrap_or_default();
                    let reads: Vec<(usize, &Event)> = reads
                        .iter()
                        .filter_map(|read| Some((*read, self.events.get(*read)?)))
                        .filter(|(_, read)| {
                            within(read) && repeated.is_none_or(|until| read.start.at > until)
                        })
                        .collect();
                    let is_done = outcome == Outcome::Done && !is_old && end <= to;
                    if is_done && (reads.is_empty() || repeated.is_some()) {
                        claims.push(Claim::at_some_moment(position, "a write", start, end));
                    }
                    // Until when the value has become the register's, if it ever did.
                    let applied = match outcome {
                        // Before what is looked at, and settled by then.
                        _ if end <= from => from,
                        Outcome::Done if end <= to => repeated.unwrap_or(end),
                        _ => u64::MAX,
                    };
                    if let Some(claim) = Claim::value(
                        (position, if is_old { None } else { Some(start) }, applied),
                        reads
                            .iter()
                            .map(|(at, read)| (*at, read.start.at, read.end.at)),
                    ) {
                        claims.push(claim);
                    }
                }
                _ => {}
            }
        }
        claims
    }

    /// While no fault is about, a value is there until its deadline.
    fn losses(&self, findings: &mut Vec<Finding>) {
        let space = self.events.first().map(|event| event.key.space);
        if !self.promises.keeps || self.promises.evicting == space {
            return;
        }
        let spans = match self.promises.order {
            Order::Always => vec![(0, u64::MAX)],
            _ => self.faults.without_losses(),
        };
        for (begin, end) in spans {
            if begin > self.last || end < self.first {
                continue;
            }
            let within = |event: &Event| event.start.at >= begin && event.end.at <= end;
            for (at, miss) in self.events.iter().enumerate() {
                if !matches!(miss.what, What::Miss) || !within(miss) {
                    continue;
                }
                let before = self.events.iter().enumerate().filter(|(_, event)| {
                    within(event)
                        && event.end.at < miss.start.at
                        && matches!(
                            event.what,
                            What::Write {
                                outcome: Outcome::Done,
                                ..
                            }
                        )
                });
                // The last one is the one that the fewest other calls can have undone.
                let Some((from, write)) = before.max_by_key(|(_, event)| event.start.at) else {
                    continue;
                };
                if may_be_gone(write, miss) || self.may_be_undone(from, write, miss) {
                    continue;
                }
                findings.push(Finding {
                    rule: "lost",
                    text: "a read missed a value that was written, and neither deleted nor due"
                        .to_owned(),
                    proof: vec![from, at],
                });
            }
        }
    }

    /// Whether another call may have removed the value of `write` before `miss`.
    fn may_be_undone(&self, from: usize, write: &Event, miss: &Event) -> bool {
        self.events.iter().enumerate().any(|(at, other)| {
            let (is_unknown, removes) = match other.what {
                What::Delete(outcome) => (outcome == Outcome::Unknown, true),
                What::Write { outcome, .. } => {
                    (outcome == Outcome::Unknown, may_be_gone(other, miss))
                }
                _ => (false, false),
            };
            removes
                && at != from
                && other.start.at < miss.end.at
                && (is_unknown
                    || other.end.at > write.start.at
                    || self.repeated_until(other) > Some(write.start.at))
        })
    }
}

/// Whether what `write` wrote may be expired at the end of `read`.
fn may_be_gone(write: &Event, read: &Event) -> bool {
    match write.what {
        What::Write { ttl, .. } => {
            let deadline = write.start.clock.saturating_add(ttl);
            read.end.clock.saturating_add(nanos(ROUNDING)) >= deadline
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
