//! [`Failure`], why a rule failed, and [`Trace`], its operations until then.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a rule expected and what it got, as text.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    what: String,
    pub(crate) kind: FailureKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FailureKind {
    /// The backend breaks the rule.
    Broken,
    /// A call did not end. Calls of other rules may hang in the same way.
    Hung,
    /// The backend could not be opened.
    Unopened,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            kind: FailureKind::Broken,
        }
    }

    pub(crate) fn hung(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            kind: FailureKind::Hung,
        }
    }

    pub(crate) fn unopened(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            kind: FailureKind::Unopened,
        }
    }

    /// The same failure with another text.
    pub(crate) fn map(self, tell: impl FnOnce(&str) -> String) -> Self {
        Self {
            what: tell(&self.what),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Quotes the message of a panic.
pub(crate) fn describe_panic(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", message.unwrap_or("without a message"))
}

/// Ends the rule with a [`Failure`].
macro_rules! fail {
    ($($message:tt)*) => {
        return Err($crate::failure::Failure::new(format!($($message)*)))
    };
}

/// Ends the rule with a [`Failure`] unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            $crate::failure::fail!($($message)*);
        }
    };
}
pub(crate) use {ensure, fail};

/// The last operations of a rule with their start times and durations, and those that have not
/// ended.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    start: Instant,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug)]
struct Log {
    last: VecDeque<String>,
    dropped: usize,
    running: BTreeMap<u64, (Instant, String)>,
    next: u64,
    /// The time at which something last began or ended, or at which a wait ends.
    moved: Instant,
}

impl Log {
    fn push(&mut self, line: String) {
        const KEPT: usize = 40;
        if self.last.len() == KEPT {
            self.last.pop_front();
            self.dropped += 1;
        }
        self.last.push_back(line);
    }
}

/// A call in progress. Dropping it removes it from the trace.
pub(crate) struct Running<'t> {
    trace: &'t Trace,
    number: u64,
    began: Instant,
}

impl Trace {
    pub(crate) fn new() -> Self {
        let start = Instant::now();
        Self {
            start,
            log: Arc::new(Mutex::new(Log {
                last: VecDeque::new(),
                dropped: 0,
                running: BTreeMap::new(),
                next: 0,
                moved: start,
            })),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, what: String) -> Running<'_> {
        let began = Instant::now();
        let mut log = self.log();
        log.next += 1;
        log.moved = log.moved.max(began);
        let number = log.next;
        log.running.insert(number, (began, what));
        Running {
            trace: self,
            number,
            began,
        }
    }

    /// Records an event that is not a call.
    pub(crate) fn note(&self, what: &str) {
        let now = Instant::now();
        let mut log = self.log();
        log.moved = log.moved.max(now);
        log.push(format!("{:>9.3} ms  {what}", self.millis(now)));
    }

    /// The rule makes no call for this long, because it waits.
    pub(crate) fn pauses(&self, time: Duration) {
        let now = Instant::now();
        self.log().moved = now.checked_add(time).unwrap_or(now);
    }

    fn millis(&self, moment: Instant) -> f64 {
        moment.saturating_duration_since(self.start).as_secs_f64() * 1e3
    }

    /// Returns a message if a call has been running for longer than `limit`, or if nothing at all
    /// has happened for four times as long.
    pub(crate) fn stuck(&self, limit: Duration) -> Option<String> {
        let log = self.log();
        let oldest = log.running.values().min_by_key(|(began, _)| *began);
        match oldest {
            Some((began, what)) if began.elapsed() > limit => Some(format!(
                "{what} has not returned after {:.1?}: it blocks its thread, as in a deadlock",
                began.elapsed()
            )),
            None if log.moved.elapsed() > limit.saturating_mul(4) => Some(format!(
                "the rule made no call for {:.0?}",
                log.moved.elapsed()
            )),
            _ => None,
        }
    }
}

impl Running<'_> {
    /// Records how the call has ended.
    pub(crate) fn end(self, how: &str) {
        let began = self.trace.millis(self.began);
        let took = self.began.elapsed().as_secs_f64() * 1e3;
        let mut log = self.trace.log();
        let what = log.running.remove(&self.number);
        let what = what.map(|(_, what)| what).unwrap_or_default();
        log.push(format!("{began:>9.3} ms  {what}{how}  ({took:.3} ms)"));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut log = self.trace.log();
        log.running.remove(&self.number);
        log.moved = log.moved.max(Instant::now());
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.log();
        if log.dropped > 0 {
            writeln!(f, "    … {} earlier operations", log.dropped)?;
        }
        for line in &log.last {
            writeln!(f, "    {line}")?;
        }
        for (began, what) in log.running.values() {
            let began = self.millis(*began);
            writeln!(f, "    {began:>9.3} ms  {what}  (has not ended)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_waits_is_not_stuck() {
        let trace = Trace::new();
        trace.pauses(Duration::from_secs(600));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(trace.stuck(Duration::from_millis(1)), None);
        let trace = Trace::new();
        std::thread::sleep(Duration::from_millis(20));
        assert!(trace.stuck(Duration::from_millis(1)).is_some());
        // A call that hangs meanwhile is still seen.
        trace.pauses(Duration::from_secs(600));
        let _running = trace.begin("get".to_owned());
        std::thread::sleep(Duration::from_millis(20));
        assert!(trace.stuck(Duration::from_millis(1)).is_some());
    }
}
