//! The time in which a backend must recover from a fault.

use std::time::{Duration, Instant};

use crate::cache::Found;
use crate::context::{Context, Outcome, Value};
use crate::failure::fail;

/// Begins with the first attempt of a call.
pub(super) struct Recovery {
    limit: Duration,
    began: Instant,
}

impl Recovery {
    pub(super) fn begins(context: &Context) -> Self {
        Self {
            limit: context.capabilities().recovery,
            began: Instant::now(),
        }
    }

    /// Returns the result, or `None` after a pause for another attempt, or a failure once the time
    /// is over.
    pub(super) async fn settle<T>(&self, answer: cache_core::Result<T>) -> Outcome<Option<T>> {
        const PAUSE: Duration = Duration::from_millis(50);
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if self.began.elapsed() > self.limit => fail!(
                "{:?} after the fault ended, which is the declared recovery: expected success, got the \
                 error \"{error}\"",
                self.limit
            ),
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                Ok(None)
            }
        }
    }
}

/// Repeats a call until it succeeds. Each call has the full recovery time.
macro_rules! within_recovery {
    ($context:expr, $call:expr) => {{
        let recovery = $crate::rules::recovery::Recovery::begins($context);
        loop {
            let answer = $call;
            if let Some(answer) = recovery.settle(answer).await? {
                break answer;
            }
        }
    }};
}
pub(super) use within_recovery;

/// All answers of a `get_multi`, or the first error.
pub(super) fn all(answers: Vec<Found>) -> cache_core::Result<Vec<Option<Value>>> {
    answers.into_iter().collect()
}
