//! [`Shared`]: the state that calls in all runtimes share.

use std::hash::RandomState;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::Settings;
use crate::endpoints::Health;
use crate::leases::Leases;
use crate::limits::Limits;
use crate::loners::Loners;
use crate::revision::{Doubts, Guard, Revision};
use crate::stats::Counters;

/// The state that calls in all runtimes share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) call_timeout: Duration,
    pub(crate) health: Arc<Health>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Limits,
    pub(crate) guard: Guard,
    pub(crate) revision: Revision,
    pub(crate) doubts: Doubts,
    /// Keys that the server refused recently.
    pub(crate) refused: Mutex<Loners>,
    /// Keys with large values.
    pub(crate) large: Mutex<Loners>,
    pub(crate) hasher: RandomState,
}
