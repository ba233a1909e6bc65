//! [`Events`]: reports endpoints that fail and recover.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cache_core::ServerEvent;

use crate::failure::Failure;

/// A change in the state of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Down { reason: Failure, retry_in: Duration },
    Up { after: Duration },
}

type Listener = dyn Fn(&ServerEvent) + Send + Sync;

/// The listener, if any.
#[derive(Clone, Default)]
pub(crate) struct Events(Option<Arc<Listener>>);

impl Events {
    pub(crate) fn new(listener: impl Fn(&ServerEvent) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(crate) fn tell(&self, server: String, change: Change) {
        self.send(&match change {
            Change::Down { reason, retry_in } => {
                ServerEvent::down(server, reason.into_error(), retry_in)
            }
            Change::Up { after } => ServerEvent::up(server, after),
        });
    }

    pub(crate) fn warn(&self, message: impl Into<String>) {
        self.send(&ServerEvent::warning(None, message));
    }

    /// Calls the listener. Its panics are caught, so that they do not fail the current request.
    fn send(&self, event: &ServerEvent) {
        if let Some(listener) = &self.0 {
            let _ = catch_unwind(AssertUnwindSafe(|| listener(event)));
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Some(…)"
        } else {
            "None"
        })
    }
}
