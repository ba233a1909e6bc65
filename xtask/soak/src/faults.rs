//! Which faults there were and when.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::time::nanos;

/// Something that was done to the servers, or that happened to the machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    /// To whom.
    pub(crate) on: String,
    /// Nanoseconds of the run.
    pub(crate) begin: u64,
    /// `None` while it lasts.
    pub(crate) end: Option<u64>,
    /// Part of the plan, rather than an accident of the machine.
    pub(crate) planned: bool,
    /// How long after its end the last call failed.
    pub(crate) recovery: Option<u64>,
}

impl Fault {
    fn until(&self, settle: u64) -> u64 {
        self.end.map_or(u64::MAX, |end| end.saturating_add(settle))
    }
}

/// The kind of what is no fault of anybody: the machine had no time for this process.
pub(crate) const STALL: &str = "machine stood still";

/// The kind of what loses values and does nothing else.
pub(crate) const EVICTION: &str = "values evicted";

/// All faults of a run, in the order of their beginnings but for those found later.
#[derive(Debug)]
pub(crate) struct FaultLog {
    /// How long the effects of a fault may last.
    settle: u64,
    faults: Mutex<Vec<Fault>>,
}

impl FaultLog {
    pub(crate) fn new(settle: Duration) -> Self {
        Self {
            settle: nanos(settle),
            faults: Mutex::default(),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Fault>) -> T) -> T {
        f(&mut self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Call it before the fault can have any effect.
    pub(crate) fn begin(&self, at: u64, kind: &str, on: &str) {
        self.add(kind, on, at, None, true);
    }

    /// Call it once the fault is over. Ends the planned fault that lasts.
    pub(crate) fn end(&self, at: u64) {
        self.with(|faults| {
            for fault in faults.iter_mut().filter(|fault| fault.end.is_none()) {
                fault.end = Some(at);
            }
        });
    }

    /// What nobody planned and somebody noticed. Near one of the same kind it prolongs that one.
    pub(crate) fn accident(&self, kind: &str, on: &str, begin: u64, end: u64) {
        let same = self.with(|faults| {
            let same = faults.iter_mut().rev().take(8).find(|fault| {
                !fault.planned
                    && fault.kind == kind
                    && fault.begin <= end.saturating_add(self.settle)
                    && begin <= fault.until(self.settle)
            });
            same.map(|fault| {
                fault.begin = fault.begin.min(begin);
                fault.end = fault.end.max(Some(end));
            })
            .is_some()
        });
        if !same {
            self.add(kind, on, begin, Some(end), false);
        }
    }

    fn add(&self, kind: &str, on: &str, begin: u64, end: Option<u64>, planned: bool) {
        let fault = Fault {
            kind: kind.to_owned(),
            on: on.to_owned(),
            begin,
            end,
            planned,
            recovery: None,
        };
        self.with(|faults| faults.push(fault));
    }

    pub(crate) fn all(&self) -> Vec<Fault> {
        self.with(|faults| faults.clone())
    }

    /// Whether no fault, nor the time it takes to recover from one, touches this span.
    pub(crate) fn is_calm(&self, from: u64, to: u64) -> bool {
        self.with(|faults| {
            !faults.iter().any(|fault| {
                fault.kind != EVICTION && fault.begin <= to && from <= fault.until(self.settle)
            })
        })
    }

    /// Whether the machine stood still within this span.
    pub(crate) fn stalled(&self, from: u64, to: u64) -> bool {
        self.with(|faults| {
            faults.iter().any(|fault| {
                fault.kind == STALL && fault.begin <= to && fault.end.is_none_or(|end| from <= end)
            })
        })
    }

    /// A call failed then: the fault that it may be blamed on has not been recovered from before.
    pub(crate) fn failed(&self, at: u64) {
        self.with(|faults| {
            for fault in faults.iter_mut().filter(|fault| fault.planned) {
                if let Some(end) = fault.end
                    && end <= at
                    && at <= end.saturating_add(self.settle)
                {
                    fault.recovery = fault.recovery.max(Some(at - end));
                }
            }
        });
    }

    /// The spans that no fault touches.
    pub(crate) fn calm(&self) -> Vec<(u64, u64)> {
        self.spans_without(|fault| fault.kind != EVICTION)
    }

    /// The spans within which no value may be lost.
    pub(crate) fn without_losses(&self) -> Vec<(u64, u64)> {
        self.spans_without(|_| true)
    }

    fn spans_without(&self, counts: impl Fn(&Fault) -> bool) -> Vec<(u64, u64)> {
        let mut storms: Vec<(u64, u64)> = self.with(|faults| {
            faults
                .iter()
                .filter(|fault| counts(fault))
                .map(|fault| (fault.begin, fault.until(self.settle)))
                .collect()
        });
        storms.sort_unstable();
        let mut calm = Vec::new();
        let mut from = 0;
        for (begin, end) in storms {
            if begin > from {
                calm.push((from, begin));
            }
            from = from.max(end);
        }
        if from < u64::MAX {
            calm.push((from, u64::MAX));
        }
        calm
    }

    /// The end of the last fault, recovery included, that touches this span.
    pub(crate) fn storm_until(&self, from: u64, to: u64) -> Option<u64> {
        self.with(|faults| {
            faults
                .iter()
                .filter(|fault| fault.kind != EVICTION)
                .filter(|fault| fault.begin <= to && from <= fault.until(self.settle))
                .map(|fault| fault.until(self.settle))
                .max()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> FaultLog {
        let log = FaultLog::new(Duration::from_nanos(10));
        log.begin(100, "kill", "a");
        log.end(120);
        log.accident("stall", "machine", 200, 205);
        log.accident("stall", "machine", 210, 220);
        log
    }

    #[test]
    fn calm_is_what_lies_between_recoveries_and_faults() {
        assert_eq!(log().calm(), [(0, 100), (130, 200), (230, u64::MAX)]);
        assert!(log().is_calm(0, 99) && log().is_calm(131, 199));
        assert!(!log().is_calm(0, 100) && !log().is_calm(125, 126));
        assert_eq!(log().storm_until(125, 140), Some(130));
        assert_eq!(log().storm_until(140, 150), None);
    }

    #[test]
    fn a_fault_that_lasts_leaves_no_calm() {
        let log = FaultLog::new(Duration::ZERO);
        log.begin(5, "pause", "b");
        assert_eq!(log.calm(), [(0, 5)]);
        assert!(!log.is_calm(1_000_000, 1_000_001));
    }

    #[test]
    fn recovery_is_the_last_failure_after_the_end() {
        let log = log();
        log.failed(110);
        log.failed(123);
        log.failed(121);
        log.failed(140);
        assert_eq!(log.all()[0].recovery, Some(3));
        assert_eq!(log.all().len(), 2);
    }
}
