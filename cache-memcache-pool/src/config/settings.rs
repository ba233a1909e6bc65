//! What the parts of the backend need of its configuration, read once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::Result;

use crate::config::{MemcachePoolConfig, bad_config};
use crate::stats::ServerEvent;

/// Called when a server dies or returns.
pub(crate) type OnServerEvent = dyn Fn(&ServerEvent) + Send + Sync;

/// Longer than anybody waits, and well within what the clock can count.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

pub(crate) struct Settings {
    pub(crate) pool_maxsize: usize,
    pub(crate) pool_unused_timeout: Duration,
    pub(crate) pool_connection_get_timeout: Duration,
    pub(crate) dead_retry: Duration,
    pub(crate) socket_timeout: Duration,
    pub(crate) flush_on_reconnect: bool,
    pub(crate) max_value: usize,
    /// `username password`, as the server wants it.
    pub(crate) credentials: Option<String>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::tls::Tls>,
    pub(crate) on_event: Option<Arc<OnServerEvent>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

impl Settings {
    pub(crate) fn new(
        config: &MemcachePoolConfig,
        on_event: Option<Arc<OnServerEvent>>,
    ) -> Result<Self> {
        if config.tls_enabled && cfg!(not(feature = "tls")) {
            return Err(bad_config(
                "tls_enabled is true, and the crate was built without its feature `tls`",
            ));
        }
        let credentials = match (&config.username, &config.password) {
            (Some(username), Some(password)) => Some(format!("{username} {password}")),
            _ => None,
        };
        Ok(Self {
            pool_maxsize: config.pool_maxsize,
            pool_unused_timeout: config.pool_unused_timeout.min(LONGEST),
            pool_connection_get_timeout: config.pool_connection_get_timeout.min(LONGEST),
            dead_retry: config.dead_retry,
            socket_timeout: config.socket_timeout.min(LONGEST),
            flush_on_reconnect: config.pool_flush_on_reconnect,
            max_value: config.server_max_value_length,
            credentials,
            #[cfg(feature = "tls")]
            tls: crate::tls::Tls::new(config)?,
            on_event,
        })
    }
}
