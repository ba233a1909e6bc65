//! Records calls and faults, and decides whether a backend kept its promises.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use cache_conformance::checker::{Action, Operation, Shrunk, is_linearizable};
use cache_core::{Error, ErrorKind};
use hdrhistogram::Histogram;
use tokio::time::Instant;

/// How long a set of keys is used before its histories are judged.
pub(crate) const ROUND: Duration = Duration::from_secs(10);

/// The maximum number of violations printed per rule; further ones are only counted.
const PRINTED: u64 = 20;

/// The fault recorded when the machine stalls this process.
pub(crate) const STALL: &str = "machine stalled";

/// Errors that no server or network fault excuses.
const NEVER_EXCUSED: [ErrorKind; 4] = [
    ErrorKind::InvalidKey,
    ErrorKind::Decode,
    ErrorKind::Encode,
    ErrorKind::Config,
];

/// The time since the start of the run, on a monotonic clock.
pub(crate) fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// When each key behaves as an atomic register whose values expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linearizable {
    Always,
    /// A fault may lose values or bring back older ones, because keys move to other servers and
    /// back.
    BetweenFaults,
}

#[derive(Clone, Debug)]
pub(crate) struct Promises {
    pub(crate) linearizable: Linearizable,
    /// The maximum duration of a call.
    pub(crate) bound: Duration,
    /// After a fault, all calls succeed again within this time.
    pub(crate) settle: Duration,
    /// The lifetime of values without their own TTL.
    pub(crate) default_ttl: Duration,
    /// The largest payload in bytes.
    pub(crate) largest: usize,
}

impl Promises {
    /// A call that takes longer without a fault is attributed to a stalled machine, and may have
    /// been retried.
    fn slow(&self) -> Duration {
        self.bound / 5
    }

    /// How long to wait for a call: long enough to distinguish a late result from none.
    pub(crate) fn patience(&self) -> Duration {
        self.bound * 2 + Duration::from_secs(5)
    }
}

/// A key, identified by its store, its round, and its index in the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) space: usize,
    pub(crate) round: u64,
    pub(crate) index: usize,
}

/// A fault injected into the servers, or a stall of the machine.
#[derive(Clone, Copy, Debug)]
struct Fault {
    name: &'static str,
    begin: Duration,
    /// `Duration::MAX` while the fault lasts.
    end: Duration,
}

/// The counts of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: BTreeMap<String, u64>,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) dropped: u64,
    pub(crate) judged: usize,
    /// Failed calls, by error kind.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Violations, by rule.
    pub(crate) violations: BTreeMap<&'static str, u64>,
    pub(crate) slowest: Duration,
}

#[derive(Debug)]
struct Record {
    tally: Tally,
    /// Latencies of calls without a fault, in microseconds.
    latencies: Histogram<u64>,
    faults: Vec<Fault>,
    histories: BTreeMap<u64, HashMap<Key, Vec<Operation>>>,
    /// The first round not judged yet.
    judged: u64,
}

#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) promises: Promises,
    /// The space with bounded capacity, whose entries may be evicted at any time.
    bounded: Option<usize>,
    record: Mutex<Record>,
}

impl Judge {
    pub(crate) fn new(promises: Promises, bounded: Option<usize>) -> anyhow::Result<Self> {
        Ok(Self {
            promises,
            bounded,
            record: Mutex::new(Record {
                tally: Tally::default(),
                latencies: Histogram::new(3)?,
                faults: Vec::new(),
                histories: BTreeMap::new(),
                judged: 0,
            }),
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Record) -> T) -> T {
        f(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn tally(&self) -> Tally {
        self.with(|record| record.tally.clone())
    }

    /// The latency that this share of the calls without a fault did not exceed.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        Duration::from_micros(self.with(|record| record.latencies.value_at_quantile(share)))
    }

    /// How often each fault occurred.
    pub(crate) fn faults(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for fault in self.with(|record| record.faults.clone()) {
            *counts.entry(fault.name).or_default() += 1;
        }
        counts
    }

    /// Must be called before the fault can have any effect.
    pub(crate) fn fault_begins(&self, name: &'static str) {
        self.fault(name, now(), Duration::MAX);
    }

    /// Must be called after the fault is over.
    pub(crate) fn fault_ends(&self) {
        let end = now();
        self.with(|record| {
            let lasting = record.faults.iter_mut();
            for fault in lasting.filter(|fault| fault.end == Duration::MAX) {
                fault.end = end;
            }
        });
    }

    pub(crate) fn fault(&self, name: &'static str, begin: Duration, end: Duration) {
        self.with(|record| record.faults.push(Fault { name, begin, end }));
    }

    /// Records a completed call, with its error if it failed.
    pub(crate) fn call(&self, name: &str, begin: Duration, error: Option<&Error>) {
        let end = now();
        let took = end.saturating_sub(begin);
        let is_calm = !self.is_disturbed(begin, end);
        let is_slow = took > self.promises.slow();
        if is_calm && is_slow {
            self.fault("slow call", begin, end);
        }
        self.with(|record| {
            let tally = &mut record.tally;
            *tally.calls.entry(name.to_owned()).or_default() += 1;
            tally.slowest = tally.slowest.max(took);
            if is_calm {
                let _ = record.latencies.record(micros(took));
            }
            if let Some(error) = error {
                let kind = format!("{:?}", error.kind());
                *tally.errors.entry(kind).or_default() += 1;
            }
        });
        if took > self.promises.bound && !self.is_stalled(begin, end) {
            let text = format!("{name} took {took:?} of at most {:?}", self.promises.bound);
            self.wrong("bound", &text);
        }
        if let Some(error) = error
            && (NEVER_EXCUSED.contains(&error.kind()) || is_calm && !is_slow)
        {
            self.wrong("error", &format!("{name} failed without a fault: {error}"));
        }
    }

    /// Records a call that was dropped before it completed.
    pub(crate) fn dropped(&self) {
        self.with(|record| record.tally.dropped += 1);
    }

    /// Records the effect of a call on a key, or what it read.
    pub(crate) fn operation(&self, key: Key, operation: Operation) {
        self.with(|record| {
            match operation.action {
                Action::Read(Some(_)) => record.tally.hits += 1,
                Action::Read(None) => record.tally.misses += 1,
                Action::Set(..) | Action::Delete => {}
            }
            if key.round >= record.judged {
                let round = record.histories.entry(key.round).or_default();
                round.entry(key).or_default().push(operation);
            }
        });
    }

    /// Reports a broken promise.
    pub(crate) fn wrong(&self, rule: &'static str, what: &str) {
        let (now, faults) = (now(), self.with(|record| record.faults.clone()));
        let mut text = format!("VIOLATION ({rule}) at {:.3} s: {what}\n", now.as_secs_f64());
        for Fault { name, begin, end } in faults.iter().rev().take(4).rev() {
            let (begin, end) = (begin.as_secs_f64(), end.min(&now).as_secs_f64());
            let _ = writeln!(text, "  fault from {begin:.3} to {end:.3} s: {name}");
        }
        self.with(|record| {
            let count = record.tally.violations.entry(rule).or_default();
            *count += 1;
            if *count <= PRINTED {
                print!("{text}");
            }
        });
    }

    /// Whether a fault, or the recovery from one, overlaps this span.
    fn is_disturbed(&self, from: Duration, to: Duration) -> bool {
        let settle = self.promises.settle;
        let touches = |fault: &Fault| fault.begin <= to && from <= fault.end.saturating_add(settle);
        self.with(|record| record.faults.iter().any(touches))
    }

    fn is_stalled(&self, from: Duration, to: Duration) -> bool {
        let is_stall =
            |fault: &Fault| fault.name == STALL && fault.begin <= to && from <= fault.end;
        self.with(|record| record.faults.iter().any(is_stall))
    }

    /// The spans between the recovery from a fault and the next fault, in microseconds.
    fn calm(faults: &[Fault], settle: Duration) -> Vec<(u64, u64)> {
        let mut faults = faults.to_vec();
        faults.sort_unstable_by_key(|fault| fault.begin);
        let mut spans = Vec::new();
        let mut from = 0;
        for fault in faults {
            if micros(fault.begin) > from {
                spans.push((from, micros(fault.begin)));
            }
            from = from.max(micros(fault.end.saturating_add(settle)));
        }
        spans.push((from, u64::MAX));
        spans
    }

    /// Judges the rounds without calls in flight, or, at the end of the run, all rounds.
    pub(crate) fn judge_rounds(&self, all: bool) {
        let grace = self.promises.patience() + Duration::from_secs(3);
        let over = now().saturating_sub(grace).as_secs() / ROUND.as_secs();
        let over = if all { u64::MAX } else { over };
        let (rounds, faults) = self.with(|record| {
            record.judged = record.judged.max(over);
            let later = record.histories.split_off(&over);
            let rounds = std::mem::replace(&mut record.histories, later);
            (rounds, record.faults.clone())
        });
        for (key, mut history) in rounds.into_values().flatten() {
            history.sort_by_key(|operation| operation.called);
            self.with(|record| record.tally.judged += history.len());
            if self.bounded == Some(key.space) {
                history.retain(|operation| operation.action != Action::Read(None));
            }
            let parts = match self.promises.linearizable {
                Linearizable::Always => vec![history],
                Linearizable::BetweenFaults => {
                    let late = micros(self.promises.patience() + self.promises.settle);
                    let calm = Self::calm(&faults, self.promises.settle).into_iter();
                    calm.map(|span| within(&history, span, late)).collect()
                }
            };
            for part in parts.iter().filter(|part| !is_linearizable(part)) {
                // The search time doubles with each call that was given up.
                let given_up = part.iter().filter(|call| call.answered.is_none()).count();
                let shrunk = match given_up {
                    0..=8 => Shrunk::of(part).operations,
                    _ => part.clone(),
                };
                let lines: Vec<String> = shrunk.iter().map(Operation::to_string).collect();
                let text = format!(
                    "no order of the calls explains the values read for {key:?}; the conflicting \
                     calls, with times in microseconds since the start:\n    {}",
                    lines.join("\n    ")
                );
                self.wrong("history", &text);
            }
        }
    }
}

/// The part of a history between two faults that can be judged. It starts with the first
/// acknowledged write, because the key's value is unknown before that. Each key is written by a
/// single client, sequentially; a write that the client gave up may still take effect up to `late`
/// after its start.
fn within(history: &[Operation], (from, to): (u64, u64), late: u64) -> Vec<Operation> {
    let is_write = |operation: &Operation| !matches!(operation.action, Action::Read(_));
    let is_within = |operation: &Operation| {
        operation.called >= from && operation.answered.is_some_and(|answered| answered <= to)
    };
    let first = history
        .iter()
        .find(|operation| is_write(operation) && is_within(operation));
    let Some(first) = first else {
        return Vec::new();
    };
    let counts = |operation: &&Operation| {
        if is_write(operation) {
            let is_pending = operation.answered.is_none() && operation.called + late >= from;
            operation.called <= to && (operation.called >= first.called || is_pending)
        } else {
            is_within(operation) && Some(operation.called) > first.answered
        }
    };
    let cut = |operation: &Operation| Operation {
        answered: operation.answered.filter(|answered| *answered <= to),
        ..*operation
    };
    history.iter().filter(counts).map(cut).collect()
}
