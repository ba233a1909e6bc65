//! [`Local`]: what the requests of one Tokio runtime need.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::endpoints::Endpoints;
use crate::shared::Shared;

/// The shared state, and the connections of one runtime.
pub(crate) struct Local {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) runtime: Handle,
}
