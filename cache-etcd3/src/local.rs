//! [`Local`], what requests of one tokio runtime need.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::endpoints::Endpoints;
use crate::shared::Shared;

/// What all calls share, and the connections of one runtime.
pub(crate) struct Local {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) runtime: Handle,
}
