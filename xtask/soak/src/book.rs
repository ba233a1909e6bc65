//! [`Book`], which takes down what came of each call, and judges each round once it is over.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{Error, ErrorKind};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::faults::{FaultLog, seconds};
use crate::judge::{Event, What, judge, shown};
use crate::load::ROUND;
use crate::payload::Key;
use crate::store::Promises;
use crate::time::{SECOND, nanos};

/// Errors that no fault of a server or of the network excuses.
const NEVER_EXCUSED: [ErrorKind; 4] = [
    ErrorKind::InvalidKey,
    ErrorKind::Decode,
    ErrorKind::Encode,
    ErrorKind::Config,
];

/// Violations that are kept in full; the others are counted.
const KEPT: usize = 25;

/// How a call came to its end.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Answered,
    /// Its future was dropped, on purpose.
    Dropped,
    Failed(Error),
    /// It did not come to an end.
    Never,
}

/// A call and all that it says of keys.
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    pub(crate) client: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) how: End,
    pub(crate) events: Vec<(Key, Event)>,
}

/// A broken promise with all that is needed to understand it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) text: String,
    pub(crate) key: Option<String>,
    /// What happened to the key around then.
    pub(crate) history: Vec<String>,
    pub(crate) faults: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "VIOLATION ({}): {}", self.rule, self.text)?;
        let lines = self.key.iter().chain(&self.history).chain(&self.faults);
        lines
            .into_iter()
            .try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Figures of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) calls: BTreeMap<&'static str, u64>,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) dropped: u64,
    /// By kind, those that a fault excuses.
    pub(crate) errors: BTreeMap<String, u64>,
    /// By rule.
    pub(crate) violations: BTreeMap<&'static str, u64>,
    /// Calls that were slow with no fault about.
    pub(crate) slow: u64,
    pub(crate) slowest: Duration,
    pub(crate) events_judged: usize,
}

pub(crate) struct Book {
    pub(crate) promises: Promises,
    pub(crate) faults: Arc<FaultLog>,
    pages: Mutex<Pages>,
}

struct Pages {
    rounds: BTreeMap<u32, HashMap<Key, Vec<Event>>>,
    /// Rounds before this one were judged.
    judged: u32,
    tally: Tally,
    violations: Vec<Violation>,
    /// In microseconds, of calls while no fault was about.
    latencies: Histogram<u64>,
}

impl Book {
    pub(crate) fn new(promises: Promises, faults: Arc<FaultLog>) -> anyhow::Result<Self> {
        Ok(Self {
            promises,
            faults,
            pages: Mutex::new(Pages {
                rounds: BTreeMap::new(),
                judged: 0,
                tally: Tally::default(),
                violations: Vec::new(),
                latencies: Histogram::new(3)?,
            }),
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Pages) -> T) -> T {
        f(&mut self.pages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn tally(&self) -> Tally {
        self.with(|pages| pages.tally.clone())
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.with(|pages| pages.violations.clone())
    }

    /// The time within which this share of the calls ended, while no fault was about.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        Duration::from_micros(self.with(|pages| pages.latencies.value_at_quantile(share)))
    }

    /// Takes a call down.
    pub(crate) fn call(&self, call: Call) {
        let Call {
            operation,
            client,
            start,
            end,
            how,
            events,
        } = call;
        let took = Duration::from_nanos(end - start);
        let is_calm = self.faults.storm_until(start, end).is_none();
        let is_slow = is_calm && took > self.promises.slow;
        let is_late = self.with(|pages| {
            let tally = &mut pages.tally;
            *tally.calls.entry(operation).or_default() += 1;
            tally.slowest = tally.slowest.max(took);
            tally.slow += u64::from(is_slow);
            match &how {
                End::Dropped => tally.dropped += 1,
                End::Failed(error) => {
                    *tally.errors.entry(error.kind().to_string()).or_default() += 1;
                }
                End::Answered | End::Never => {}
            }
            if is_calm {
                pages.latencies.saturating_record(nanos(took) / 1000);
            }
            let mut is_late = false;
            for (key, event) in events {
                pages.tally.hits += u64::from(matches!(event.what, What::Hit { .. }));
                pages.tally.misses += u64::from(matches!(event.what, What::Miss));
                is_late |= key.round < pages.judged;
                let round = pages.rounds.entry(key.round).or_default();
                round.entry(key).or_default().push(event);
            }
            is_late
        });
        if is_slow {
            self.faults.accident("slow call", operation, start, end);
        }
        let what = format!("a {operation} of client {client}");
        match &how {
            End::Never => self.wrong("bound", format!("{what} had not ended after {took:?}")),
            _ if is_late => self.wrong("bound", format!("{what} ended after its round was judged")),
            _ if took > self.promises.bound && !self.faults.stalled(start, end) => {
                let bound = self.promises.bound;
                self.wrong(
                    "bound",
                    format!("{what} took {took:?}, and may take {bound:?}"),
                );
            }
            End::Failed(error) => {
                self.faults.failed(end);
                if NEVER_EXCUSED.contains(&error.kind()) || (is_calm && !is_slow) {
                    self.wrong(
                        "error",
                        format!("{what} failed, and no fault excuses it: {error}"),
                    );
                }
            }
            End::Answered | End::Dropped => {}
        }
    }

    /// Something that is wrong whatever else happened.
    pub(crate) fn wrong(&self, rule: &'static str, text: impl fmt::Display) {
        let now = self.faults.time.now();
        self.broken(rule, &text.to_string(), None, Vec::new(), (now, now));
    }

    fn broken(
        &self,
        rule: &'static str,
        text: &str,
        key: Option<Key>,
        history: Vec<String>,
        (from, to): (u64, u64),
    ) {
        let violation = Violation {
            rule,
            text: format!("{:.3} s: {text}", seconds(from)),
            key: key.map(|key| key.to_string()),
            history,
            faults: self.faults.around(from, to),
        };
        self.with(|pages| {
            *pages.tally.violations.entry(rule).or_default() += 1;
            if pages.violations.len() < KEPT {
                println!("{violation}");
                pages.violations.push(violation);
            }
        });
    }

    /// Judges the rounds that have been over for so long that no call of theirs is still under
    /// way; at the end of the run, all.
    pub(crate) fn judge(&self, all: bool) {
        let quiet = nanos(self.promises.patience()) + 3 * SECOND;
        let over = self.faults.time.now().saturating_sub(quiet) / nanos(ROUND);
        let over = if all {
            u32::MAX
        } else {
            u32::try_from(over).unwrap_or(u32::MAX)
        };
        let rounds = self.with(|pages| {
            pages.judged = pages.judged.max(over);
            let later = pages.rounds.split_off(&over);
            std::mem::replace(&mut pages.rounds, later)
        });
        for (key, mut events) in rounds.into_values().flatten() {
            events.sort_by_key(|event| event.start.at);
            self.with(|pages| pages.tally.events_judged += events.len());
            let is_evicting = self.promises.evicting == Some(key.space);
            for finding in judge(&events, is_evicting, &self.promises, &self.faults) {
                let history = shown(&events, &finding.proof);
                let proof = || finding.proof.iter().filter_map(|at| events.get(*at));
                let from = proof().map(|event| event.start.at).min().unwrap_or(0);
                let to = proof().map(|event| event.end.at).max().unwrap_or(0);
                self.broken(finding.rule, &finding.text, Some(key), history, (from, to));
            }
        }
    }
}
