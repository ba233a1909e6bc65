//! Histories: what concurrent callers did to one key, when, and what they saw.

mod linear;
mod recorder;
mod shrink;

use std::fmt;
use std::time::Duration;

pub use linear::is_linearizable;
pub(crate) use recorder::{Recorder, seen};
pub use shrink::Shrunk;

/// What an operation did to the key, or saw of it. Values are numbers, each written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// With the life of the value, if it has a deadline.
    Set(u64, Option<Span>),
    /// Removes the value.
    Delete,
    /// Saw this value, or a miss.
    Read(Option<u64>),
}

/// When a value expires: it is there before `sure`, and gone from `over` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The value is there before.
    pub sure: Duration,
    /// The value is gone from then on.
    pub over: Duration,
}

/// One operation: who did what, and between which moments it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who did it.
    pub task: usize,
    /// What it did or saw.
    pub action: Action,
    /// A moment by a counter or clock that all operations share.
    pub called: u64,
    /// As `called`. What was given up is never answered, and may take effect at any time or not
    /// at all.
    pub answered: Option<u64>,
    /// The call, by the clock that values expire by.
    pub began: Duration,
    /// The answer, by the clock that values expire by.
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
                "set {value}, to live until {:.3} ms and no longer than {:.3} ms",
                millis(span.sure),
                millis(span.over)
            )?,
            Action::Delete => write!(f, "delete")?,
            Action::Read(Some(value)) => write!(f, "get saw {value}")?,
            Action::Read(None) => write!(f, "get saw a miss")?,
        }
        if self.answered.is_none() {
            write!(f, ", given up")?;
        }
        Ok(())
    }
}
