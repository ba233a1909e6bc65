//! [`ServerEvent`], which backends with servers report besides the results of calls.

use std::time::Duration;

use crate::Error;

/// A change of a server's state, or a warning: the argument of the `on_server_event` callback of
/// backends with servers.
///
/// ```
/// use cache_core::ServerEvent;
///
/// fn log(event: &ServerEvent) {
///     match event {
///         ServerEvent::Down { server, reason, .. } => eprintln!("{server} is down: {reason}"),
///         ServerEvent::Up { server, after, .. } => eprintln!("{server} is up after {after:?}"),
///         ServerEvent::Warning { message, .. } => eprintln!("warning: {message}"),
///         _ => {}
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The server failed, and is not used until it responds to a probe.
    #[non_exhaustive]
    Down {
        /// Its address, as in the configuration.
        server: String,
        /// How it failed.
        reason: Error,
        /// The time until the first probe.
        retry_in: Duration,
    },
    /// The server is in use again.
    #[non_exhaustive]
    Up {
        /// Its address, as in the configuration.
        server: String,
        /// How long it was down.
        after: Duration,
    },
    /// Something in the configuration or in the behavior of a server deserves attention. Calls
    /// are not affected.
    #[non_exhaustive]
    Warning {
        /// The address of the server, if the warning concerns a single one.
        server: Option<String>,
        /// What deserves attention, and what to do.
        message: String,
    },
}

impl ServerEvent {
    /// Creates [`Down`](Self::Down), for authors of backends.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_core::{Error, ErrorKind, ServerEvent};
    ///
    /// let reason = Error::new(ErrorKind::Unavailable, "my-backend", "connection refused");
    /// let event = ServerEvent::down("10.0.0.1:11211", reason, Duration::from_millis(100));
    /// assert!(matches!(event, ServerEvent::Down { server, .. } if server == "10.0.0.1:11211"));
    /// ```
    pub fn down(server: impl Into<String>, reason: Error, retry_in: Duration) -> Self {
        Self::Down {
            server: server.into(),
            reason,
            retry_in,
        }
    }

    /// Creates [`Up`](Self::Up), for authors of backends.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_core::ServerEvent;
    ///
    /// let event = ServerEvent::up("10.0.0.1:11211", Duration::from_secs(3));
    /// assert!(matches!(event, ServerEvent::Up { after, .. } if after.as_secs() == 3));
    /// ```
    pub fn up(server: impl Into<String>, after: Duration) -> Self {
        Self::Up {
            server: server.into(),
            after,
        }
    }

    /// Creates [`Warning`](Self::Warning), for authors of backends.
    ///
    /// ```
    /// use cache_core::ServerEvent;
    ///
    /// let event = ServerEvent::warning(None, "tls_cafile is ignored without tls_enabled");
    /// assert!(matches!(event, ServerEvent::Warning { server: None, .. }));
    /// ```
    pub fn warning(server: Option<&str>, message: impl Into<String>) -> Self {
        Self::Warning {
            server: server.map(str::to_owned),
            message: message.into(),
        }
    }
}
