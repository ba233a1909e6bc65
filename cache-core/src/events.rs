//! [`ServerEvent`], what a backend with servers reports besides the results of calls.

use std::time::Duration;

use crate::Error;

/// What happened to a server: the argument of the `on_server_event` callback of backends that
/// have servers.
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
    /// The server is left alone until it answers a probe.
    #[non_exhaustive]
    Down {
        /// Its address, as in the configuration.
        server: String,
        /// What it did.
        reason: Error,
        /// When it is probed for the first time, counted from now.
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
    /// Something in the configuration or in a server's behaviour deserves attention; calls
    /// continue.
    #[non_exhaustive]
    Warning {
        /// The server concerned, if it is one.
        server: Option<String>,
        /// What it is about.
        message: String,
    },
}

impl ServerEvent {
    /// For backends: `server` is left alone for `retry_in` at least, because of `reason`.
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

    /// For backends: `server` is in use again, `after` this long.
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

    /// For backends: `message` deserves attention.
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
