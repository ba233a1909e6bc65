//! Histories: the operations of concurrent callers on one key, with their times and results.

mod linear;
mod recorder;
mod shrink;

use std::fmt;
use std::time::Duration;

pub use linear::is_linearizable;
pub(crate) use recorder::{Recorder, seen};
pub use shrink::Shrunk;

/// What an operation did to the key, or read from it. Values are numbers, each written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wrote this value; the span is present if it expires.
    Set(u64, Option<Span>),
    /// Removed the value.
    Delete,
    /// Read this value, or a miss.
    Read(Option<u64>),
}

/// When a value expires: it is present before `sure`, and absent from `over` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The value is present before this time.
    pub sure: Duration,
    /// The value is absent from this time on.
    pub over: Duration,
}

/// One operation: its task, its action, and the moments between which it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The task that called it.
    pub task: usize,
    /// What it did or read.
    pub action: Action,
    /// The start, by a counter or clock that all operations share.
    pub called: u64,
    /// The end, by the same counter. A cancelled operation has none, and may take effect at any
    /// time or not at all.
    pub answered: Option<u64>,
    /// The start, by the clock by which values expire.
    pub began: Duration,
    /// The end, by the clock by which values expire.
    pub ended: Duration,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        write!(f, "{:>4} to ", self.called)?;
        match self.answered {
            Some(answered) => write!(f, "{answered:<4}")?,
            None => write!(f, "…   ")?,
        }
        write!(
            f,
            " ({:.3} to {:.3} ms)  task {}  ",
            millis(self.began),
            millis(self.ended),
            self.task
        )?;
        match self.action {
            Action::Set(value, None) => write!(f, "set {value}")?,
            Action::Set(value, Some(span)) => write!(
                f,
                "set {value}, which lives until {:.3} ms and at most until {:.3} ms",
                millis(span.sure),
                millis(span.over)
            )?,
            Action::Delete => write!(f, "delete")?,
            Action::Read(Some(value)) => write!(f, "get returned {value}")?,
            Action::Read(None) => write!(f, "get returned a miss")?,
        }
        if self.answered.is_none() {
            write!(f, ", cancelled")?;
        }
        Ok(())
    }
}
