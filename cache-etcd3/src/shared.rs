//! [`Shared`]: the state that calls in all runtimes share.

use std::hash::RandomState;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Settings;
use crate::endpoints::Health;
use crate::leases::Leases;
use crate::limits::Limits;
use crate::loners::Loners;
use crate::revision::{Doubts, Revision};
use crate::stats::Counters;
use crate::sync::lock;

/// The state that calls in all runtimes share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) call_timeout: Duration,
    pub(crate) health: Arc<Health>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Limits,
    pub(crate) revision: Revision,
    pub(crate) doubts: Doubts,
    /// Keys that the server refused to read recently.
    pub(crate) unread: Mutex<Loners>,
    /// The same for writes.
    pub(crate) unwritten: Mutex<Loners>,
    /// Keys that the user may write, but not compare.
    pub(crate) unguarded: Mutex<Loners>,
    /// Keys with large values.
    pub(crate) large: Mutex<Loners>,
    pub(crate) hasher: RandomState,
}

impl Shared {
    /// Whether writes of this key carry a revision, so that a late one is refused.
    pub(crate) fn is_guarded(&self, now: Instant, name: &[u8]) -> bool {
        self.settings.refuse_late_writes && !lock(&self.unguarded).has(now, name)
    }
}
