//! [`Etcd3Builder`].

use std::path::PathBuf;
use std::time::Duration;

use cache_core::{Result, ServerEvent};

use crate::backend::Etcd3Backend;
use crate::config::{Consistency, Etcd3Config, Settings, StoredFormat};
use crate::events::Events;

/// Builds an [`Etcd3Backend`]. Each method sets the field of [`Etcd3Config`] with the same name.
///
/// ```
/// use std::time::Duration;
/// use cache_etcd3::Etcd3Backend;
///
/// let cache = Etcd3Backend::builder()
///     .endpoints(["10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"])
///     .ttl(Duration::from_secs(600))
///     .prefix("sessions/")
///     .build()?;
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is built until `build` is called"]
pub struct Etcd3Builder {
    config: Etcd3Config,
    events: Events,
}

impl Etcd3Backend {
    /// Returns a builder with the default configuration.
    ///
    /// ```
    /// let cache = cache_etcd3::Etcd3Backend::builder().host("10.0.0.1").build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn builder() -> Etcd3Builder {
        Etcd3Builder::default()
    }

    /// Builds a backend from a configuration, as [`Etcd3Builder::build`] does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](cache_core::ErrorKind::Config) names the invalid field.
    ///
    /// ```
    /// use cache_etcd3::{Etcd3Backend, Etcd3Config};
    ///
    /// let cache = Etcd3Backend::from_config(Etcd3Config::default())?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn from_config(config: Etcd3Config) -> Result<Self> {
        Etcd3Builder::from(config).build()
    }
}

/// Starts from a configuration, to which code may add a listener.
///
/// ```
/// use cache_etcd3::{Etcd3Builder, Etcd3Config};
///
/// let config = Etcd3Config::default(); // Read from a file.
/// let cache = Etcd3Builder::from(config)
///     .on_server_event(|event| eprintln!("{event:?}"))
///     .build()?;
/// # Ok::<(), cache_core::Error>(())
/// ```
impl From<Etcd3Config> for Etcd3Builder {
    fn from(config: Etcd3Config) -> Self {
        Self {
            config,
            events: Events::default(),
        }
    }
}

macro_rules! setters {
    ($($name:ident($($argument:tt)*) => $value:expr;)*) => {
        impl Etcd3Builder {
            $(
                #[doc = concat!("Sets [`Etcd3Config::", stringify!($name), "`].")]
                pub fn $name(mut self, $($argument)*) -> Self {
                    self.config.$name = $value;
                    self
                }
            )*
        }
    };
}

setters! {
    host(host: impl Into<String>) => host.into();
    port(port: u16) => port;
    timeout(timeout: Duration) => timeout;
    ttl(ttl: Duration) => Some(ttl);
    call_timeout(call_timeout: Duration) => Some(call_timeout);
    prefix(prefix: impl Into<String>) => prefix.into();
    username(username: impl Into<String>) => Some(username.into());
    password(password: impl Into<String>) => Some(password.into());
    tls_enabled(tls_enabled: bool) => tls_enabled;
    tls_cafile(tls_cafile: impl Into<PathBuf>) => Some(tls_cafile.into());
    tls_certfile(tls_certfile: impl Into<PathBuf>) => Some(tls_certfile.into());
    tls_keyfile(tls_keyfile: impl Into<PathBuf>) => Some(tls_keyfile.into());
    consistency(consistency: Consistency) => consistency;
    stored_format(stored_format: StoredFormat) => stored_format;
    max_request_bytes(max_request_bytes: usize) => max_request_bytes;
    refuse_late_writes(refuse_late_writes: bool) => refuse_late_writes;
}

impl Etcd3Builder {
    /// Sets [`Etcd3Config::endpoints`].
    pub fn endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.config.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// Calls `listener` when an endpoint goes out of use or returns, and for warnings, for logs
    /// and metrics. It runs in the task that noticed: it must return quickly and must not wait
    /// for the cache. Its panics are caught. Default: none.
    ///
    /// ```
    /// use cache_core::ServerEvent;
    /// use cache_etcd3::Etcd3Backend;
    ///
    /// let cache = Etcd3Backend::builder()
    ///     .on_server_event(|event| match event {
    ///         ServerEvent::Down { server, reason, .. } => eprintln!("{server}: {reason}"),
    ///         other => eprintln!("{other:?}"),
    ///     })
    ///     .build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn on_server_event(
        mut self,
        listener: impl Fn(&ServerEvent) + Send + Sync + 'static,
    ) -> Self {
        self.events = Events::new(listener);
        self
    }

    /// Checks the configuration and builds the backend. It does not connect; the first call does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](cache_core::ErrorKind::Config) names the invalid field.
    ///
    /// ```
    /// use cache_core::ErrorKind;
    /// use cache_etcd3::Etcd3Backend;
    ///
    /// let error = Etcd3Backend::builder().port(0).build().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// ```
    pub fn build(self) -> Result<Etcd3Backend> {
        let settings = Settings::new(self.config)?;
        for warning in &settings.warnings {
            self.events.warn(warning);
        }
        Ok(Etcd3Backend::new(settings, self.events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let builder = Etcd3Builder::default().username("user").password("secret");
        let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(
            shown.contains("user") && !shown.contains("secret"),
            "{shown}"
        );
        let error = Etcd3Builder::default()
            .password("secret")
            .build()
            .unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
