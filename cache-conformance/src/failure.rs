//! [`Failure`], what a rule found wrong, and [`Trace`], what it did until then.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a rule expected and what it got, in words.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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

/// The last operations of a rule, with the times at which they began and how long they took.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    start: Instant,
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    last: VecDeque<String>,
    dropped: usize,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            lines: Arc::default(),
        }
    }

    pub(crate) fn note(&self, began: Instant, took: Duration, what: &str) {
        const KEPT: usize = 40;
        let since = began.saturating_duration_since(self.start);
        let line = format!(
            "{:>9.3} ms  {what}  ({:.3} ms)",
            since.as_secs_f64() * 1e3,
            took.as_secs_f64() * 1e3
        );
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.last.len() == KEPT {
            lines.last.pop_front();
            lines.dropped += 1;
        }
        lines.last.push_back(line);
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.dropped > 0 {
            writeln!(f, "    … {} earlier operations", lines.dropped)?;
        }
        for line in &lines.last {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}
