//! Takes what the clients report, counts it, and judges each round once it is over.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::event::{End, Event, Operation, Outcome, Report, What};
use super::faults::{Fault, FaultLog};
use super::judge::{Finding, judge};
use super::key::Key;
use super::load::{ROUND, patience};
use super::promises::Promises;
use super::time::{RunTime, nanos};

/// Errors that no fault of a server or of the network excuses.
const NEVER_EXCUSED: [&str; 4] = [
    "invalid key",
    "cannot decode",
    "cannot encode",
    "bad configuration",
];

/// Violations that are kept in full; the others are counted.
const KEPT: usize = 25;

/// A broken promise with all that is needed to understand it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Violation {
    pub(crate) rule: String,
    pub(crate) text: String,
    pub(crate) key: Option<String>,
    /// What happened to the key around then.
    pub(crate) history: Vec<String>,
    pub(crate) faults: Vec<String>,
}

/// Figures of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) calls: BTreeMap<String, u64>,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) written: u64,
    pub(crate) dropped: u64,
    /// By kind, those that a fault excuses.
    pub(crate) errors: BTreeMap<String, u64>,
    /// By rule.
    pub(crate) violations: BTreeMap<String, u64>,
    /// Calls that were slow with no fault about.
    pub(crate) slow: u64,
    pub(crate) slowest: Duration,
    /// Of calls while no fault was about: how many took less than 2^i microseconds.
    pub(crate) latencies: [u64; 32],
    pub(crate) keys_judged: u64,
    pub(crate) events_judged: u64,
}

impl Tally {
    pub(crate) fn total_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    pub(crate) fn total_violations(&self) -> u64 {
        self.violations.values().sum()
    }

    /// The upper bound of the time that `share` of the calls took, within a factor of two.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        let total: u64 = self.latencies.iter().sum();
        let mut sum = 0;
        for (power, count) in self.latencies.iter().enumerate() {
            sum += count;
            #[allow(clippy::cast_precision_loss)] // A figure for people.
            if sum as f64 >= share * total as f64 {
                return Duration::from_micros(1 << power);
            }
        }
        Duration::ZERO
    }
}

/// What others look at while the collector works.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) tally: Tally,
    pub(crate) violations: Vec<Violation>,
}

pub(crate) type Results = Arc<Mutex<Shared>>;

/// Locks the results.
pub(crate) fn look<T>(results: &Results, f: impl FnOnce(&mut Shared) -> T) -> T {
    f(&mut results.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) struct Collector {
    pub(crate) time: RunTime,
    pub(crate) promises: Promises,
    pub(crate) faults: Arc<FaultLog>,
    pub(crate) results: Results,
    /// Shows a violation the moment it is found.
    pub(crate) show: fn(&Violation),
    rounds: BTreeMap<u32, HashMap<Key, Vec<Event>>>,
    /// Rounds before this one were judged.
    judged: u32,
}

impl Collector {
    pub(crate) fn new(
        time: RunTime,
        promises: Promises,
        faults: Arc<FaultLog>,
        results: Results,
        show: fn(&Violation),
    ) -> Self {
        Self {
            time,
            promises,
            faults,
            results,
            show,
            rounds: BTreeMap::new(),
            judged: 0,
        }
    }

    /// Works until all senders are gone, then judges what is left.
    pub(crate) fn run(mut self, from: &Receiver<Report>) {
        loop {
            match from.recv_timeout(Duration::from_millis(200)) {
                Ok(report) => self.take(report),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.judge_rounds(false);
        }
        self.judge_rounds(true);
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Wrong {
                rule,
                key,
                at,
                text,
            } => self.broken(&rule, &text, key, &[], (at, at)),
            Report::Call {
                operation,
                client,
                start,
                end,
                how,
                events,
            } => {
                self.take_call(operation, client, (start, end), &how);
                let round = events.first().map(|event| event.key.round);
                if round.is_some_and(|round| round < self.judged) {
                    let text = format!("a {operation} came to its end after its round was judged");
                    self.broken("bound", &text, None, &[], (start, end));
                    return;
                }
                look(&self.results, |shared| {
                    for event in &events {
                        match event.what {
                            What::Hit { .. } => shared.tally.hits += 1,
                            What::Miss => shared.tally.misses += 1,
                            What::Write { size, .. } => {
                                shared.tally.written += u64::try_from(size).unwrap_or(0);
                            }
                            What::Delete(_) => {}
                        }
                    }
                });
                for event in events {
                    let round = self.rounds.entry(event.key.round).or_default();
                    round.entry(event.key).or_default().push(event);
                }
            }
        }
    }

    fn take_call(&mut self, operation: Operation, client: u32, span: (u64, u64), how: &End) {
        let (start, end) = span;
        let took = Duration::from_nanos(end.saturating_sub(start));
        let is_calm = self.faults.is_calm(start, end);
        let is_slow = took > self.promises.slow && is_calm;
        look(&self.results, |shared| {
            let tally = &mut shared.tally;
            *tally.calls.entry(operation.to_string()).or_default() += 1;
            tally.slowest = tally.slowest.max(took);
            tally.slow += u64::from(is_slow);
            if is_calm {
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                let power = usize::try_from(64 - micros.leading_zeros()).unwrap_or(0);
                if let Some(count) = tally.latencies.get_mut(power) {
                    *count += 1;
                }
            }
            match how {
                End::Dropped => tally.dropped += 1,
                End::Failed { kind, .. } => *tally.errors.entry(kind.clone()).or_default() += 1,
                End::Answered | End::Never => {}
            }
        });
        if is_slow {
            self.faults
                .accident("slow call", &operation.to_string(), start, end);
        }
        let who = format!("a {operation} of client {client}");
        match how {
            End::Never => {
                let text = format!("{who} had not ended after {took:?}");
                self.broken("bound", &text, None, &[], span);
                return;
            }
            End::Failed {
                kind,
                transient,
                text,
            } => {
                self.faults.failed(end);
                if NEVER_EXCUSED.contains(&kind.as_str()) {
                    self.broken("error", &format!("{who}: {text}"), None, &[], span);
                } else if is_calm {
                    let rule = if *transient { "service" } else { "error" };
                    let text = format!("{who} failed with no fault about: {text}");
                    self.broken(rule, &text, None, &[], span);
                }
            }
            End::Answered | End::Dropped => {}
        }
        if took > self.promises.bound && !self.faults.stalled(start, end) {
            let bound = self.promises.bound;
            let text = format!("{who} took {took:?}; no call may take more than {bound:?}");
            self.broken("bound", &text, None, &[], span);
        }
    }

    fn judge_rounds(&mut self, all: bool) {
        let after = patience(&self.promises) + Duration::from_secs(3);
        let over = self.time.now().saturating_sub(nanos(after)) / nanos(ROUND);
        let over = if all {
            u32::MAX
        } else {
            u32::try_from(over).unwrap_or(u32::MAX)
        };
        if over <= self.judged {
            return;
        }
        self.judged = over;
        let later = self.rounds.split_off(&over);
        for (_, keys) in std::mem::replace(&mut self.rounds, later) {
            for (key, mut events) in keys {
                events.sort_by_key(|event| event.start.at);
                look(&self.results, |shared| {
                    shared.tally.keys_judged += 1;
                    shared.tally.events_judged += u64::try_from(events.len()).unwrap_or(0);
                });
                for finding in judge(&events, &self.promises, &self.faults) {
                    self.found(key, &events, &finding);
                }
            }
        }
    }

    fn found(&mut self, key: Key, events: &[Event], finding: &Finding) {
        let proof = || finding.proof.iter().filter_map(|at| events.get(*at));
        let from = proof().map(|event| event.start.at).min().unwrap_or(0);
        let to = proof().map(|event| event.end.at).max().unwrap_or(0);
        // What proves it, and what happened in between, with a little before and after.
        let first = finding
            .proof
            .iter()
            .min()
            .copied()
            .unwrap_or(0)
            .saturating_sub(4);
        let last = finding.proof.iter().max().copied().unwrap_or(0) + 4;
        let mut history = Vec::new();
        let mut skipped = 0;
        for (at, event) in events.iter().enumerate().take(last + 1).skip(first) {
            let is_proof = finding.proof.contains(&at);
            let is_near = finding.proof.iter().any(|proof| proof.abs_diff(at) <= 6);
            let changes = matches!(event.what, What::Write { .. } | What::Delete(_));
            if is_proof || is_near || changes {
                if skipped > 0 {
                    history.push(format!("         … {skipped} reads"));
                    skipped = 0;
                }
                history.push(line(event, is_proof));
            } else {
                skipped += 1;
            }
        }
        history.truncate(120);
        self.broken(finding.rule, &finding.text, Some(key), &history, (from, to));
    }

    fn broken(
        &mut self,
        rule: &str,
        text: &str,
        key: Option<Key>,
        history: &[String],
        span: (u64, u64),
    ) {
        const AROUND: u64 = 20_000_000_000;
        let (from, to) = (span.0.saturating_sub(AROUND), span.1 + AROUND);
        let faults = self.faults.all();
        let around = faults
            .iter()
            .filter(|fault| fault.begin <= to && fault.end.is_none_or(|end| end >= from));
        let violation = Violation {
            rule: rule.to_owned(),
            text: format!("{:.3} s: {text}", seconds(span.0)),
            key: key.map(|key| key.to_string()),
            history: history.to_vec(),
            faults: around.map(fault_line).collect(),
        };
        let is_kept = look(&self.results, |shared| {
            *shared.tally.violations.entry(rule.to_owned()).or_default() += 1;
            let is_kept = shared.violations.len() < KEPT;
            if is_kept {
                shared.violations.push(violation.clone());
            }
            is_kept
        });
        if is_kept {
            (self.show)(&violation);
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "VIOLATION of `{}` at {}", self.rule, self.text)?;
        if let Some(key) = &self.key {
            writeln!(f, "  {key}; times in seconds, the proof is marked »")?;
        }
        for line in &self.history {
            writeln!(f, "  {line}")?;
        }
        for line in &self.faults {
            writeln!(f, "  fault {line}")?;
        }
        if self.faults.is_empty() {
            writeln!(f, "  no fault within 20 s")?;
        }
        Ok(())
    }
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

fn line(event: &Event, is_proof: bool) -> String {
    let mark = if is_proof { "»" } else { " " };
    let mut text = format!(
        "{mark} {:>12.6} to {:>12.6}  client {:<6}",
        seconds(event.start.at),
        seconds(event.end.at),
        event.client
    );
    let unknown = |outcome| match outcome {
        Outcome::Done => "",
        Outcome::Unknown => ", outcome unknown",
    };
    let _ = match &event.what {
        What::Write {
            version,
            ttl,
            size,
            outcome,
        } => {
            let ttl = if *ttl == u64::MAX {
                "no TTL".to_owned()
            } else {
                format!("TTL {:.3} s", seconds(*ttl))
            };
            write!(
                text,
                "set {version}, {ttl}, {size} bytes{}",
                unknown(*outcome)
            )
        }
        What::Delete(outcome) => write!(text, "delete{}", unknown(*outcome)),
        What::Hit { version, left } => match left {
            Some(left) => write!(text, "found {version}, {:.3} s left", seconds(*left)),
            None => write!(text, "found {version}"),
        },
        What::Miss => write!(text, "missed"),
    };
    text
}

fn fault_line(fault: &Fault) -> String {
    let end = fault
        .end
        .map_or_else(|| "…".to_owned(), |end| format!("{:.3}", seconds(end)));
    let planned = if fault.planned { "" } else { " (not planned)" };
    format!(
        "{:.3} to {end}: {} {}{planned}",
        seconds(fault.begin),
        fault.kind,
        fault.on
    )
}
