//! Which faults there were and when.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::time::{RunTime, SECOND};

/// Something that was done to the servers, or that happened to the machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    /// To which of them.
    pub(crate) on: String,
    /// Nanoseconds of the run.
    pub(crate) begin: u64,
    /// `u64::MAX` while it lasts.
    pub(crate) end: u64,
    /// Part of the plan, rather than an accident of the machine.
    pub(crate) planned: bool,
    /// How long after its end the last call failed.
    pub(crate) recovery: u64,
}

/// The kind of what is nobody's fault: the machine had no time for this process.
pub(crate) const STALL: &str = "machine stood still";

/// The kind of what loses values and does nothing else.
pub(crate) const EVICTION: &str = "values evicted";

/// All faults of a run.
#[derive(Debug)]
pub(crate) struct FaultLog {
    pub(crate) time: RunTime,
    /// How long the effects of a fault may last.
    settle: u64,
    faults: Mutex<Vec<Fault>>,
}

impl FaultLog {
    pub(crate) fn new(time: RunTime, settle: u64) -> Self {
        Self {
            time,
            settle,
            faults: Mutex::default(),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Fault>) -> T) -> T {
        f(&mut self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Call it before the fault can have any effect.
    pub(crate) fn begin(&self, kind: &str, on: &str) {
        self.add(kind, on, self.time.now(), u64::MAX, true);
    }

    /// Call it once the fault is over. Ends the one that lasts.
    pub(crate) fn end(&self) {
        let now = self.time.now();
        self.with(|faults| {
            for fault in faults.iter_mut().filter(|fault| fault.end == u64::MAX) {
                fault.end = now;
            }
        });
    }

    /// What nobody planned and somebody noticed.
    pub(crate) fn accident(&self, kind: &str, on: &str, begin: u64, end: u64) {
        self.add(kind, on, begin, end, false);
    }

    fn add(&self, kind: &str, on: &str, begin: u64, end: u64, planned: bool) {
        let fault = Fault {
            kind: kind.to_owned(),
            on: on.to_owned(),
            begin,
            end,
            planned,
            recovery: 0,
        };
        self.with(|faults| faults.push(fault));
    }

    pub(crate) fn all(&self) -> Vec<Fault> {
        self.with(|faults| faults.clone())
    }

    /// The spans that no fault of these kinds, nor the recovery from one, touches.
    fn spans_without(&self, counts: impl Fn(&Fault) -> bool) -> Vec<(u64, u64)> {
        let mut storms: Vec<(u64, u64)> = self.with(|faults| {
            let counted = faults.iter().filter(|fault| counts(fault));
            let span = |fault: &Fault| (fault.begin, fault.end.saturating_add(self.settle));
            counted.map(span).collect()
        });
        storms.sort_unstable();
        storms.push((u64::MAX, u64::MAX));
        let mut calm = Vec::new();
        let mut from = 0;
        for (begin, end) in storms {
            if begin > from {
                calm.push((from, begin));
            }
            from = from.max(end);
        }
        calm
    }

    pub(crate) fn calm(&self) -> Vec<(u64, u64)> {
        self.spans_without(|fault| fault.kind != EVICTION)
    }

    /// The spans within which no value may be lost.
    pub(crate) fn without_losses(&self) -> Vec<(u64, u64)> {
        self.spans_without(|_| true)
    }

    /// The end, recovery included, of the last fault that touches this span.
    pub(crate) fn storm_until(&self, from: u64, to: u64) -> Option<u64> {
        self.with(|faults| {
            let storms = faults.iter().filter(|fault| fault.kind != EVICTION);
            let storms = storms.map(|fault| (fault.begin, fault.end.saturating_add(self.settle)));
            let touching = storms.filter(|(begin, until)| *begin <= to && from <= *until);
            touching.map(|(_, until)| until).max()
        })
    }

    /// Whether the machine stood still within this span.
    pub(crate) fn stalled(&self, from: u64, to: u64) -> bool {
        let is_it = |fault: &Fault| fault.kind == STALL && fault.begin <= to && from <= fault.end;
        self.with(|faults| faults.iter().any(is_it))
    }

    /// A call failed then: the fault that it may be blamed on has not been recovered from before.
    pub(crate) fn failed(&self, at: u64) {
        self.with(|faults| {
            for fault in faults
                .iter_mut()
                .filter(|fault| fault.planned && fault.end <= at)
            {
                if at - fault.end <= self.settle {
                    fault.recovery = fault.recovery.max(at - fault.end);
                }
            }
        });
    }

    /// The faults within twenty seconds of this span, a line each.
    pub(crate) fn around(&self, from: u64, to: u64) -> Vec<String> {
        let (from, to) = (
            from.saturating_sub(20 * SECOND),
            to.saturating_add(20 * SECOND),
        );
        let near = |fault: &&Fault| fault.begin <= to && from <= fault.end;
        self.with(|faults| faults.iter().filter(near).map(Fault::line).collect())
    }
}

impl Fault {
    fn line(&self) -> String {
        let planned = if self.planned { "" } else { " (not planned)" };
        let Self {
            kind, on, begin, ..
        } = self;
        let end = match self.end {
            u64::MAX => "…".to_owned(),
            end => format!("{:.3}", seconds(end)),
        };
        format!("{:.3} to {end} s: {kind} {on}{planned}", seconds(*begin))
    }
}

#[allow(clippy::cast_precision_loss)] // For people.
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / SECOND as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_is_what_lies_between_recoveries_and_faults() {
        let log = FaultLog::new(RunTime::start(), 10);
        log.accident("kill", "a", 100, 120);
        log.accident(STALL, "", 200, 205);
        log.accident(EVICTION, "", 300, 310);
        assert_eq!(log.calm(), [(0, 100), (130, 200), (215, u64::MAX)]);
        assert_eq!(log.without_losses().last(), Some(&(320, u64::MAX)));
        assert_eq!(log.storm_until(125, 140), Some(130));
        assert_eq!(log.storm_until(140, 150), None);
        assert!(log.stalled(203, 300) && !log.stalled(206, 300));
    }

    #[test]
    fn a_fault_that_lasts_leaves_no_calm_and_is_recovered_from_at_the_last_failure() {
        let log = FaultLog::new(RunTime::start(), SECOND);
        log.begin("pause", "b");
        assert_eq!(log.storm_until(SECOND, SECOND), Some(u64::MAX));
        log.end();
        let end = log.all()[0].end;
        log.failed(end + 3);
        log.failed(end + 2);
        log.failed(end + 2 * SECOND);
        assert_eq!(log.all()[0].recovery, 3);
    }
}
