//! [`Shared`], what all calls share, whichever runtime they are made in.

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

/// What all calls share, whichever runtime they are made in.
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
    /// Keys that the server refused of late.
    pub(crate) refused: Mutex<Loners>,
    /// Keys whose values were found to be large.
    pub(crate) large: Mutex<Loners>,
    pub(crate) hasher: RandomState,
}
