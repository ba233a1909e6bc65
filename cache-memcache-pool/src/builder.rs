//! [`MemcachePoolBuilder`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_core::{Result, ServerEvent};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::backend::MemcachePoolBackend;
use crate::config::{
    Address, Hooks, MemcachePoolConfig, Protocol, PythonClient, Settings, Transport, bad_config,
};
use crate::protocol::StoredFormat;
use crate::router::{Choose, Router, Routing, ServerSpec, kept};

/// Builds a [`MemcachePoolBackend`]. Each method sets the field of [`MemcachePoolConfig`] with the
/// same name.
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
    hooks: Hooks,
}

impl MemcachePoolBackend {
    /// Builds a backend from a configuration, as [`MemcachePoolBuilder::build`] does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](cache_core::ErrorKind::Config) names the invalid field.
    ///
    /// ```
    /// # use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolConfig};
    /// let cache = MemcachePoolBackend::from_config(MemcachePoolConfig::default())?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn from_config(config: MemcachePoolConfig) -> Result<Self> {
        MemcachePoolBuilder::from(config).build()
    }

    /// Returns a builder with the default configuration.
    ///
    /// ```
    /// # use cache_memcache_pool::MemcachePoolBackend;
    /// let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn builder() -> MemcachePoolBuilder {
        MemcachePoolBuilder::default()
    }
}

impl From<MemcachePoolConfig> for MemcachePoolBuilder {
    /// Starts from a configuration, to which code may add a listener or a connector.
    fn from(config: MemcachePoolConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }
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
        #[doc = concat!("Sets [`MemcachePoolConfig::", stringify!($name), "`].")]
        pub fn $name(mut self, $name: $type) -> Self {
            self.config.$name = $name;
            self
        }
    )*};
}

impl MemcachePoolBuilder {
    /// Sets [`MemcachePoolConfig::url`], the servers.
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
        pool_expire_on_reconnect: bool,
        server_max_value_length: usize,
        memcached_expire_time: Duration,
        tls_enabled: bool,
        tls_verify: bool,
        routing: Routing,
        failover: bool,
        protocol: Protocol,
        stored_format: StoredFormat,
        python_client: PythonClient,
        min_compress_len: usize,
    }

    /// Sets [`MemcachePoolConfig::weights`].
    pub fn weights(mut self, weights: impl IntoIterator<Item = u32>) -> Self {
        self.config.weights = weights.into_iter().collect();
        self
    }

    /// Sets [`MemcachePoolConfig::username`].
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.config.username = Some(username.into());
        self
    }

    /// Sets [`MemcachePoolConfig::password`].
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.config.password = Some(password.into());
        self
    }

    /// Sets [`MemcachePoolConfig::tls_cafile`].
    pub fn tls_cafile(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.tls_cafile = Some(file.into());
        self
    }

    /// Sets [`MemcachePoolConfig::tls_server_name`].
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Self {
        self.config.tls_server_name = Some(name.into());
        self
    }

    /// Sets [`MemcachePoolConfig::tls_certfile`].
    pub fn tls_certfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.tls_certfile = Some(file.into());
        self
    }

    /// Sets [`MemcachePoolConfig::tls_keyfile`].
    pub fn tls_keyfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.tls_keyfile = Some(file.into());
        self
    }

    /// Routes keys by a function, instead of [`routing`](Self::routing).
    ///
    /// `choose` takes the key, and a predicate that is true for the positions in `url` of servers
    /// that are up. It returns the position of a server for which the predicate is true, or `None`
    /// if this key has no server. It is called for each key of each operation and must be
    /// deterministic.
    ///
    /// ```
    /// use cache_memcache_pool::MemcachePoolBackend;
    ///
    /// // Sessions have a dedicated server, without failover.
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

    /// Calls `listener` when a server goes down or returns, and for warnings, for logs and
    /// metrics. It runs in the task that noticed: it must return quickly and must not wait for the
    /// cache. Its panics are caught. Default: none.
    ///
    /// ```
    /// use cache_core::ServerEvent;
    /// use cache_memcache_pool::MemcachePoolBackend;
    ///
    /// let cache = MemcachePoolBackend::builder()
    ///     .on_server_event(|event| match event {
    ///         ServerEvent::Down { server, reason, .. } => eprintln!("{server} is down: {reason}"),
    ///         ServerEvent::Up { server, after, .. } => eprintln!("{server} is back after {after:?}"),
    ///         _ => {}
    ///     })
    ///     .build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn on_server_event(
        mut self,
        listener: impl Fn(&ServerEvent) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_event = Some(Arc::new(listener));
        self
    }

    /// Connects to servers by a function: through a tunnel or a proxy, or to a server in a test.
    /// `connect` takes the address as in [`ServerStats::address`](crate::ServerStats::address). It
    /// is responsible for TLS; the `tls_…` fields have no effect.
    ///
    /// A connection is polled by a task of its own and, for a request to an idle server, by the
    /// caller's. A panic ends the connection, not the call, which is retried on another one.
    ///
    /// ```
    /// use cache_memcache_pool::MemcachePoolBackend;
    /// use tokio::net::TcpStream;
    ///
    /// let cache = MemcachePoolBackend::builder()
    ///     .url(["cache.internal:11211"])
    ///     .connect_with(|_address| TcpStream::connect("127.0.0.1:21211"))
    ///     .build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn connect_with<S, F>(mut self, connect: impl Fn(&str) -> F + Send + Sync + 'static) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        F: Future<Output = std::io::Result<S>> + Send + 'static,
    {
        self.hooks.connector = Some(Arc::new(move |address: &str| {
            let connecting = connect(address);
            Box::pin(async move {
                let stream: Box<dyn Transport> = Box::new(connecting.await?);
                Ok(stream)
            })
        }));
        self
    }

    /// Sets the wall clock by which values expire, for tests. Default: the system's.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use cache_memcache_pool::MemcachePoolBackend;
    ///
    /// let cache = MemcachePoolBackend::builder()
    ///     .clock(|| UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    ///     .build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.hooks.clock = Some(Arc::new(now));
        self
    }

    /// Seeds the jitter of the waits before servers that are down are tried again, for
    /// reproducible tests. Default: random.
    ///
    /// ```
    /// # use cache_memcache_pool::MemcachePoolBackend;
    /// let cache = MemcachePoolBackend::builder().jitter_seed(42).build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.hooks.jitter_seed = Some(seed);
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
    /// use cache_memcache_pool::MemcachePoolBackend;
    ///
    /// let error = MemcachePoolBackend::builder().url(["host:0"]).build().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// ```
    pub fn build(self) -> Result<MemcachePoolBackend> {
        let Self {
            config,
            choose,
            hooks,
        } = self;
        let addresses = config.check()?;
        let settings = Settings::new(&config, &hooks)?;
        let routing = config.routing;
        let names: Vec<String> = addresses.iter().map(Address::to_string).collect();
        let weights = config.weights;
        let route = move |servers: &[Address]| {
            if let Some(choose) = &choose {
                return Ok(Router::own(Arc::clone(choose)));
            }
            let servers: Vec<String> = servers.iter().map(Address::to_string).collect();
            // A server that is listed several times has a weight for each of its entries.
            let kept = kept(names.iter().map(String::as_str), &servers);
            let weight_of = |kept: Option<usize>| weights.get(kept?).copied();
            let specs = servers
                .into_iter()
                .zip(kept)
                .map(|(name, kept)| ServerSpec {
                    name,
                    weight: weight_of(kept).unwrap_or(1),
                });
            let specs: Vec<ServerSpec> = specs.collect();
            if specs.iter().all(|server| server.weight == 0) {
                return Err(bad_config(
                    "`weights` of these servers are all 0; at least one must be positive",
                ));
            }
            Ok(Router::new(routing, &specs))
        };
        MemcachePoolBackend::new(addresses, settings, route)
    }
}
