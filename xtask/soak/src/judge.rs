//! Whether the history of a key is one that the backend's promises allow.
//!
//! Each key has one client that writes it, one call after the other, and many that read it. An
//! atomic register with a single writer is easy to judge (Lamport, "On interprocess
//! communication", 1986): a read finds nothing older than what was written, or seen, before it
//! began. Several writers of one key are the business of the suite.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::faults::{FaultLog, seconds};
use crate::store::{Order, Promises};
use crate::time::{Stamp, nanos};

/// What a deadline may be off by: it travels as a float of seconds.
const ROUNDING: u64 = 10_000;

/// One call, as far as it concerns one key.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    pub(crate) client: u32,
    pub(crate) start: Stamp,
    pub(crate) end: Stamp,
    pub(crate) what: What,
}

/// Versions of one key grow from write to write, and a delete has one as well.
#[derive(Clone, Debug, Serialize)]
pub(crate) enum What {
    /// Surely applied if `done`; a call that failed or was dropped may have been, or may still be.
    Write {
        version: u64,
        ttl: u64,
        done: bool,
    },
    Delete {
        version: u64,
        done: bool,
    },
    /// `left`: the lifetime that the value says it has left, `None` for ever.
    Hit {
        version: u64,
        left: Option<u64>,
    },
    Miss,
}

/// A promise that was broken, and the events that prove it.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) rule: &'static str,
    pub(crate) text: String,
    /// Positions in the history.
    pub(crate) proof: Vec<usize>,
}

/// Judges all that happened to one key, sorted by start.
pub(crate) fn judge(
    events: &[Event],
    is_evicting: bool,
    promises: &Promises,
    faults: &FaultLog,
) -> Vec<Finding> {
    let writes = events.iter().enumerate();
    let writes = writes.filter_map(|(at, event)| Some((event.written()?, (at, event))));
    let history = History {
        events,
        writes: writes.collect(),
        promises,
        faults,
    };
    let mut findings = Vec::new();
    history.values(&mut findings);
    history.order(&mut findings);
    if !is_evicting {
        history.losses(&mut findings);
    }
    findings
}

impl Event {
    /// The version that it writes, nothing being one.
    fn written(&self) -> Option<u64> {
        match self.what {
            What::Write { version, .. } | What::Delete { version, .. } => Some(version),
            What::Hit { .. } | What::Miss => None,
        }
    }

    fn is_done(&self) -> bool {
        matches!(
            self.what,
            What::Write { done: true, .. } | What::Delete { done: true, .. }
        )
    }

    /// Whether nothing of what it writes may be left at the end of `read`.
    fn may_be_gone(&self, read: &Self) -> bool {
        match self.what {
            What::Write { ttl, .. } => {
                let deadline = self.start.clock.saturating_add(ttl);
                read.end.clock.saturating_add(ROUNDING) >= deadline
            }
            _ => true,
        }
    }

    fn is_within(&self, (from, to): (u64, u64)) -> bool {
        self.start.at >= from && self.end.at <= to
    }
}

struct History<'a> {
    events: &'a [Event],
    /// By version, with their positions.
    writes: BTreeMap<u64, (usize, &'a Event)>,
    promises: &'a Promises,
    faults: &'a FaultLog,
}

impl History<'_> {
    /// Values that nobody wrote, that are past their deadline, or that tell the time left wrongly.
    fn values(&self, findings: &mut Vec<Finding>) {
        for (at, read) in self.events.iter().enumerate() {
            let What::Hit { version, left } = read.what else {
                continue;
            };
            let mut broken = |rule, text: String, proof: &[usize]| {
                let proof = proof.to_vec();
                findings.push(Finding { rule, text, proof });
            };
            let Some((from, write)) = self.writes.get(&version) else {
                broken(
                    "never written",
                    "a read found a value that nobody wrote".to_owned(),
                    &[at],
                );
                continue;
            };
            let What::Write { ttl, .. } = write.what else {
                continue;
            };
            let proof = [*from, at];
            if read.end.at < write.start.at {
                broken(
                    "never written",
                    "a read found a value of later".to_owned(),
                    &proof,
                );
            }
            let earliest = write.start.clock.saturating_add(ttl);
            let latest = write.end.clock.saturating_add(ttl);
            if ttl < u64::MAX && read.start.clock >= latest.saturating_add(ROUNDING) {
                let late = Duration::from_nanos(read.start.clock - latest);
                let text = format!("a read that began {late:?} after the deadline found the value");
                broken("served after its deadline", text, &proof);
                continue;
            }
            let least = earliest.saturating_sub(read.end.clock.saturating_add(ROUNDING));
            let most = latest
                .saturating_sub(read.start.clock)
                .saturating_add(ROUNDING);
            let is_right = match left {
                None => ttl == u64::MAX,
                Some(left) => ttl < u64::MAX && (least..=most).contains(&left),
            };
            if !is_right {
                let (least, most) = (Duration::from_nanos(least), Duration::from_nanos(most));
                let left = left.map(Duration::from_nanos);
                let text = format!("the value says {left:?} is left; it is {least:?} to {most:?}");
                broken("time left", text, &proof);
            }
        }
    }

    /// Until when this write may become what the register holds, though a later one was applied.
    fn applied_until(&self, write: &Event) -> u64 {
        let (start, end) = (write.start.at, write.end.at);
        let settled = end.saturating_add(self.promises.settle());
        let is_slow = end - start > nanos(self.promises.slow);
        let may_be_late = !write.is_done() || is_slow;
        let storm = match self.promises.order {
            Order::Always => None,
            _ => self.faults.storm_until(start, end),
        };
        let late = may_be_late.then_some(settled);
        late.max(storm).unwrap_or(end)
    }

    /// What is known of the register within a span: by the ends of the events that show it.
    fn known(&self, span: (u64, u64)) -> Vec<Shown> {
        let within = self.events.iter().enumerate();
        let within = within.filter(|(_, event)| event.is_within(span));
        let shown = within.filter_map(|(at, event)| {
            let version = match event.what {
                What::Hit { version, .. } => version,
                _ if event.is_done() => event.written()?,
                _ => return None,
            };
            let (start, end) = (event.start.at, event.end.at);
            Some((
                end,
                Shown {
                    version,
                    at,
                    start,
                    end,
                },
            ))
        });
        let mut shown: Vec<(u64, Shown)> = shown.collect();
        shown.sort_by_key(|(end, _)| *end);
        let newest = shown
            .into_iter()
            .scan(None, |newest: &mut Option<Shown>, (end, shown)| {
                let newer = newest.filter(|newest| newest.version >= shown.version);
                *newest = Some(Shown {
                    end,
                    ..newer.unwrap_or(shown)
                });
                *newest
            });
        newest.collect()
    }

    /// The reads within these spans, each with the newest version that was the register's before
    /// it began.
    fn reads(&self, spans: &[(u64, u64)]) -> Vec<(usize, &Event, Shown)> {
        let in_span = |span: &(u64, u64)| {
            let known = self.known(*span);
            let reads = self.events.iter().enumerate();
            let reads =
                reads.filter(|(_, event)| event.written().is_none() && event.is_within(*span));
            let with_known = reads.filter_map(|(at, read)| {
                let before = known.partition_point(|shown| shown.end < read.start.at);
                Some((at, read, *known.get(before.checked_sub(1)?)?))
            });
            with_known.collect::<Vec<_>>()
        };
        spans.iter().flat_map(in_span).collect()
    }

    /// A read finds nothing older than what was there before it began.
    fn order(&self, findings: &mut Vec<Finding>) {
        let spans = match self.promises.order {
            Order::Always | Order::ButForRepeats => vec![(0, u64::MAX)],
            Order::BetweenFaults => self.faults.calm(),
        };
        for (at, read, newest) in self.reads(&spans) {
            let What::Hit { version, .. } = read.what else {
                continue;
            };
            let Some((from, write)) = self.writes.get(&version) else {
                continue;
            };
            if version < newest.version && self.applied_until(write) < newest.start {
                findings.push(Finding {
                    rule: "order",
                    text: "a read found a value that had been replaced or deleted".to_owned(),
                    proof: vec![*from, newest.at, at],
                });
            }
        }
    }

    /// While no fault is about, a value is there until its deadline or the next write.
    fn losses(&self, findings: &mut Vec<Finding>) {
        let spans = match self.promises.order {
            Order::Always => vec![(0, u64::MAX)],
            _ => self.faults.without_losses(),
        };
        for (at, miss, newest) in self.reads(&spans) {
            if !matches!(miss.what, What::Miss) {
                continue;
            }
            let removes = |(version, (_, write)): (&u64, &(usize, &Event))| {
                let may_follow =
                    *version >= newest.version || self.applied_until(write) >= newest.start;
                may_follow && write.start.at < miss.end.at && write.may_be_gone(miss)
            };
            // The latest are the likeliest.
            if !self.writes.iter().rev().any(removes) {
                findings.push(Finding {
                    rule: "lost",
                    text: "a read missed a value that was neither deleted nor expired".to_owned(),
                    proof: vec![newest.at, at],
                });
            }
        }
    }
}

/// That the register held a version: the event that shows it, and from which end on it is known.
#[derive(Clone, Copy)]
struct Shown {
    version: u64,
    at: usize,
    start: u64,
    end: u64,
}

/// The events that prove something, and what happened around them, a line each.
pub(crate) fn shown(events: &[Event], proof: &[usize]) -> Vec<String> {
    let near = |at: usize| proof.iter().any(|proof| proof.abs_diff(at) <= 6);
    let lines = events.iter().enumerate().filter(|(at, _)| near(*at));
    lines
        .map(|(at, event)| {
            let mark = if proof.contains(&at) { '»' } else { ' ' };
            let (start, end) = (seconds(event.start.at), seconds(event.end.at));
            let (client, what) = (event.client, &event.what);
            format!("{mark} {start:>12.6} to {end:>12.6}  client {client:<4} {what:?}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::time::{RunTime, SECOND};

    use super::*;

    fn promises(order: Order) -> Promises {
        Promises {
            order,
            evicting: None,
            bound: Duration::from_secs(9),
            slow: Duration::from_secs(9),
            settle: Duration::from_secs(1),
            default_ttl: Duration::ZERO,
            max_value: 0,
            why: &[],
        }
    }

    /// In seconds.
    fn event(what: What, start: u64, end: u64) -> Event {
        let stamp = |at: u64| Stamp {
            at: at * SECOND,
            clock: at * SECOND,
        };
        Event {
            client: 0,
            start: stamp(start),
            end: stamp(end),
            what,
        }
    }

    fn set(version: u64, done: bool, start: u64, end: u64) -> Event {
        event(
            What::Write {
                version,
                ttl: u64::MAX,
                done,
            },
            start,
            end,
        )
    }

    fn delete(version: u64, start: u64, end: u64) -> Event {
        event(
            What::Delete {
                version,
                done: true,
            },
            start,
            end,
        )
    }

    fn hit(version: u64, start: u64, end: u64) -> Event {
        event(
            What::Hit {
                version,
                left: None,
            },
            start,
            end,
        )
    }

    fn miss(start: u64, end: u64) -> Event {
        event(What::Miss, start, end)
    }

    fn rules_with(order: Order, faults: &FaultLog, events: &[Event]) -> Vec<&'static str> {
        let findings = judge(events, false, &promises(order), faults);
        findings.into_iter().map(|finding| finding.rule).collect()
    }

    fn rules(events: &[Event]) -> Vec<&'static str> {
        rules_with(
            Order::Always,
            &FaultLog::new(RunTime::start(), SECOND),
            events,
        )
    }

    #[test]
    fn good_histories_are_accepted() {
        let good: &[&[Event]] = &[
            &[miss(0, 1), set(1, true, 2, 3), hit(1, 4, 5)],
            // Overlapping a write, a read may see either.
            &[
                set(1, true, 0, 1),
                set(2, true, 2, 9),
                hit(1, 3, 4),
                hit(2, 5, 6),
            ],
            &[set(1, true, 0, 9), miss(1, 2)],
            &[set(1, true, 0, 1), delete(2, 2, 9), miss(3, 4)],
            // What failed may be applied late, but only so late.
            &[set(1, false, 0, 1), set(2, true, 2, 3), hit(1, 4, 5)],
            &[
                set(1, true, 0, 1),
                set(2, false, 2, 3),
                hit(1, 4, 5),
                hit(2, 6, 7),
            ],
        ];
        for events in good {
            assert!(rules(events).is_empty(), "{events:?}: {:?}", rules(events));
        }
    }

    #[test]
    fn bad_histories_are_refused() {
        let bad: &[(&str, &[Event])] = &[
            ("never written", &[hit(7, 0, 1)]),
            ("never written", &[hit(1, 0, 1), set(1, true, 2, 3)]),
            (
                "order",
                &[set(1, true, 0, 1), set(2, true, 2, 3), hit(1, 4, 5)],
            ),
            (
                "order",
                &[set(1, true, 0, 1), delete(2, 2, 3), hit(1, 4, 5)],
            ),
            // New, then old again, while the write is still going on.
            (
                "order",
                &[
                    set(1, true, 0, 1),
                    set(2, true, 2, 9),
                    hit(2, 3, 4),
                    hit(1, 5, 6),
                ],
            ),
            // Settled long ago.
            (
                "order",
                &[set(1, false, 0, 1), set(2, true, 7, 8), hit(1, 9, 10)],
            ),
            ("lost", &[set(1, true, 0, 1), miss(2, 3)]),
            ("lost", &[set(1, false, 0, 1), hit(1, 2, 3), miss(4, 5)]),
        ];
        for (rule, events) in bad {
            assert!(
                rules(events).contains(rule),
                "{events:?}: {:?}",
                rules(events)
            );
        }
    }

    #[test]
    fn deadlines_and_the_time_left_are_judged() {
        let write = event(
            What::Write {
                version: 1,
                ttl: 10 * SECOND,
                done: true,
            },
            0,
            1,
        );
        let read = |left: u64, start, end| {
            event(
                What::Hit {
                    version: 1,
                    left: Some(left * SECOND),
                },
                start,
                end,
            )
        };
        assert!(rules(&[write.clone(), read(6, 4, 5), miss(10, 12)]).is_empty());
        assert_eq!(rules(&[write.clone(), read(9, 4, 5)]), ["time left"]);
        assert_eq!(rules(&[write.clone(), hit(1, 4, 5)]), ["time left"]);
        assert_eq!(
            rules(&[write.clone(), read(0, 12, 13)]),
            ["served after its deadline"]
        );
        assert_eq!(rules(&[write, miss(4, 5)]), ["lost"]);
    }

    #[test]
    fn a_fault_excuses_what_the_promises_say() {
        let faults = FaultLog::new(RunTime::start(), SECOND);
        faults.accident("kill", "", 4 * SECOND, 5 * SECOND);
        let events = [
            set(1, true, 0, 1),
            set(2, true, 2, 3),
            miss(7, 7),
            hit(1, 8, 9),
        ];
        assert!(rules_with(Order::BetweenFaults, &faults, &events).is_empty());
        // The values of the span that follows are judged again.
        let events = [set(1, true, 0, 1), set(2, true, 7, 8), hit(1, 9, 10)];
        assert_eq!(
            rules_with(Order::BetweenFaults, &faults, &events),
            ["order"]
        );
        // Sent during the fault, it may be applied again until the fault has settled.
        let events = [set(1, true, 3, 5), set(2, true, 6, 6), hit(1, 8, 9)];
        assert!(rules_with(Order::ButForRepeats, &faults, &events).is_empty());
        assert_eq!(rules_with(Order::Always, &faults, &events), ["order"]);
    }
}
