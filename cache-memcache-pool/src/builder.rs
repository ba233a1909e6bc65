//! [`MemcachePoolBuilder`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cache_core::Result;

use crate::cluster::router::Choose;
use crate::settings::OnServerEvent;
use crate::{MemcachePoolBackend, MemcachePoolConfig, Routing, ServerEvent};

/// Builds a [`MemcachePoolBackend`], each argument under its name in [`MemcachePoolConfig`],
/// where they are described.
///
/// ```
/// use std::time::Duration;
/// use cache_memcache_pool::MemcachePoolBackend;
///
/// let cache = MemcachePoolBackend::builder()
///     .url(["10.0.0.1:11211", "10.0.0.2:11211"])
///     .socket_timeout(Duration::from_millis(500))
///     .pool_flush_on_reconnect(true)
///     .build()?;
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Default)]
#[must_use = "nothing is built until `build` is called"]
pub struct MemcachePoolBuilder {
    config: MemcachePoolConfig,
    choose: Option<Arc<Choose>>,
    on_event: Option<Arc<OnServerEvent>>,
}

impl fmt::Debug for MemcachePoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachePoolBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty,)*) => {$(
        #[doc = concat!("See [`", stringify!($name), "`](MemcachePoolConfig::", stringify!($name), ").")]
        pub fn $name(mut self, $name: $type) -> Self {
            self.config.$name = $name;
            self
        }
    )*};
}

impl MemcachePoolBuilder {
    /// The servers. See [`url`](MemcachePoolConfig::url).
    pub fn url<S: Into<String>>(mut self, servers: impl IntoIterator<Item = S>) -> Self {
        self.config.url = servers.into_iter().map(Into::into).collect();
        self
    }

    setters! {
        pool_maxsize: usize,
        pool_unused_timeout: Duration,
        pool_connection_get_timeout: Duration,
        dead_retry: Duration,
        socket_timeout: Duration,
        pool_flush_on_reconnect: bool,
        server_max_value_length: usize,
        memcached_expire_time: Duration,
        tls_enabled: bool,
        tls_verify: bool,
        routing: Routing,
        failover: bool,
    }

    /// See [`username`](MemcachePoolConfig::username).
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.config.username = Some(username.into());
        self
    }

    /// See [`password`](MemcachePoolConfig::password).
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.config.password = Some(password.into());
        self
    }

    /// See [`tls_cafile`](MemcachePoolConfig::tls_cafile).
    pub fn tls_cafile(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.tls_cafile = Some(file.into());
        self
    }

    /// See [`tls_certfile`](MemcachePoolConfig::tls_certfile).
    pub fn tls_certfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.tls_certfile = Some(file.into());
        self
    }

    /// See [`tls_keyfile`](MemcachePoolConfig::tls_keyfile).
    pub fn tls_keyfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.tls_keyfile = Some(file.into());
        self
    }

    /// Chooses servers in a way of your own, in place of [`routing`](Self::routing).
    ///
    /// `choose` is given the key and a test, and returns the position in `url` of a server that
    /// passes it: the server is up, and not one that the call has tried before. `None` means
    /// that there is no server for this key. It is called for each key of each operation and
    /// has to choose alike each time.
    ///
    /// ```
    /// use cache_memcache_pool::MemcachePoolBackend;
    ///
    /// // Sessions on a server of their own, which nothing replaces.
    /// let cache = MemcachePoolBackend::builder()
    ///     .url(["10.0.0.1:11211", "10.0.0.2:11211"])
    ///     .routing_with(|key, is_up| {
    ///         let server = usize::from(key.starts_with("session:"));
    ///         is_up(server).then_some(server)
    ///     })
    ///     .build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn routing_with(
        mut self,
        choose: impl Fn(&str, &dyn Fn(usize) -> bool) -> Option<usize> + Send + Sync + 'static,
    ) -> Self {
        self.choose = Some(Arc::new(choose));
        self
    }

    /// Calls `callback` when a server dies or returns, for logs and metrics. It runs in the
    /// task that noticed and has to return soon.
    pub fn on_server_event(
        mut self,
        callback: impl Fn(&ServerEvent) + Send + Sync + 'static,
    ) -> Self {
        self.on_event = Some(Arc::new(callback));
        self
    }

    /// The backend. No server is contacted yet.
    ///
    /// An [`ErrorKind::Config`](cache_core::ErrorKind::Config) names the field that makes no
    /// sense.
    pub fn build(self) -> Result<MemcachePoolBackend> {
        MemcachePoolBackend::new(&self.config, self.choose, self.on_event)
    }

    pub(crate) fn from_config(config: MemcachePoolConfig) -> Self {
        Self {
            config,
            choose: None,
            on_event: None,
        }
    }
}
