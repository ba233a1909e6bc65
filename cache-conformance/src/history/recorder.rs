//! [`Recorder`], which writes a history down while it happens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Action, Operation, Shrunk, Span, is_linearizable};
use crate::context::{Context, Outcome};
use crate::failure::{Failure, fail};

/// Records operations on one key. Clones share the history.
#[derive(Clone)]
pub(crate) struct Recorder {
    start: Instant,
    counter: Arc<AtomicU64>,
    history: Arc<Mutex<Vec<Operation>>>,
}

impl Recorder {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            start: context.now(),
            counter: Arc::default(),
            history: Arc::default(),
        }
    }

    fn since_start(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.start)
    }

    /// Runs an operation, which returns `None` if it was cancelled; then `intended` may take effect
    /// at any time. `span` returns the lifetime of a value that was set between two moments.
    pub(crate) async fn record(
        &self,
        context: &Context,
        task: usize,
        operation: impl Future<Output = Outcome<Option<Action>>>,
        intended: Option<Action>,
        span: impl Fn(Instant, Instant) -> Option<(Instant, Instant)>,
    ) -> Outcome {
        let called = self.counter.fetch_add(1, Ordering::SeqCst);
        let began = context.now();
        let action = operation.await?;
        let ended = context.now();
        let answered = self.counter.fetch_add(1, Ordering::SeqCst);
        let Some(action_done) = action.or(intended) else {
            // A cancelled read has no result.
            return Ok(());
        };
        let span = span(began, ended).map(|(sure, over)| Span {
            sure: self.since_start(sure),
            over: self.since_start(over),
        });
        let action_done = match action_done {
            Action::Set(value, _) => Action::Set(value, span),
            other => other,
        };
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.push(Operation {
            task,
            action: action_done,
            called,
            answered: action.is_some().then_some(answered),
            began: self.since_start(began),
            ended: self.since_start(ended),
        });
        Ok(())
    }

    /// Fails unless the history is linearizable.
    pub(crate) fn judge(&self) -> Outcome {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if is_linearizable(&history) {
            return Ok(());
        }
        let shrunk = Shrunk::of(&history);
        let pair = match shrunk.pair() {
            Some((one, other)) => {
                format!("these two contradict each other:\n    {one}\n    {other}\n  ")
            }
            None => String::new(),
        };
        let shown: Vec<String> = shrunk.operations.iter().map(Operation::to_string).collect();
        Err(Failure::new(format!(
            "no order of {} operations on one key explains the results of its reads; {pair}shrunk \
             to {} operations (with start and end by a common counter):\n    {}",
            history.len(),
            shown.len(),
            shown.join("\n    ")
        )))
    }
}

/// The result of a read: the number that was written.
pub(crate) fn seen(payload: Option<&[u8]>) -> Outcome<Action> {
    let Some(payload) = payload else {
        return Ok(Action::Read(None));
    };
    match std::str::from_utf8(payload)
        .ok()
        .and_then(|text| text.parse().ok())
    {
        Some(number) => Ok(Action::Read(Some(number))),
        None => fail!(
            "get: expected one of the numbers that were set, got \"{}\"",
            payload.escape_ascii()
        ),
    }
}
