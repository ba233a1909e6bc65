//! The time that a backend has to recover from a fault.

use std::time::{Duration, Instant};

use crate::cache::Found;
use crate::context::{Context, Outcome, Value};
use crate::failure::fail;

/// From the moment of the first attempt of a call.
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

    /// The answer, or after a pause `None` for another attempt, or a failure once the time is
    /// over.
    pub(super) async fn settle<T>(&self, answer: cache_core::Result<T>) -> Outcome<Option<T>> {
        const PAUSE: Duration = Duration::from_millis(50);
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if self.began.elapsed() > self.limit => fail!(
                "{:?} after the fault was gone, the declared recovery: expected success, got the \
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

/// Repeats a call until it succeeds. It has the declared time, however often others failed
/// before.
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
