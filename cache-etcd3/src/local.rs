//! [`Local`]: what the requests of one Tokio runtime need.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::endpoints::Endpoints;
use crate::shared::Shared;

/// The shared state, and the connections of one runtime.
pub(crate) struct Local {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) runtime: Handle,
    /// Held by a write that etcd is likely to refuse, with the time from which the next one may be
    /// sent. To refuse one costs a cluster as much as to commit a round.
    pub(crate) refused: Mutex<Instant>,
}
