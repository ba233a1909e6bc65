//! [`MemcachePoolBackend`]: the six operations.

use std::fmt;
use std::sync::Arc;

use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};

use crate::cluster::{Cluster, Server, current_runtime};
use crate::config::{Address, Settings};
use crate::protocol::{Command, check_key};
use crate::router::Router;
use crate::stats::MemcachePoolStats;
use crate::store::{Removal, Store};
use crate::{NAME, multi};

/// A cache in one or more memcached servers: the counterpart of oslo.cache's
/// `oslo_cache.memcache_pool`.
///
/// Cloning is cheap; clones share connections, the state of the servers, and statistics. Dropping
/// the last clone closes the connections.
///
/// Call its methods within a Tokio runtime with I/O and time enabled; otherwise they fail with
/// [`ErrorKind::Backend`]. Tokio reports a missing driver only by a panic, which the first call
/// catches: the panic hook prints it, and a program built with `panic = "abort"` aborts. Each
/// runtime has its own connections, so an idle runtime does not block another. They are closed
/// when it shuts down, and the next call opens new ones.
///
/// ```no_run
/// use cache_core::{CacheBackend, CachedValue};
/// use cache_memcache_pool::MemcachePoolBackend;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
/// let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
/// cache.set("greeting", CachedValue::new(b"hello".to_vec())).await?;
/// let found = cache.get("greeting").await?;
/// assert_eq!(found.map(CachedValue::into_payload), Some(b"hello".to_vec()));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemcachePoolBackend {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    /// Builds the router for a new list of servers.
    route: Box<Route>,
}

type Route = dyn Fn(&[Address]) -> Result<Router> + Send + Sync;

impl fmt::Debug for MemcachePoolBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let farm = self.inner.store.cluster.farm();
        f.debug_struct("MemcachePoolBackend")
            .field("servers", &farm.servers().collect::<Vec<_>>())
            .field("router", farm.router())
            .finish_non_exhaustive()
    }
}

impl MemcachePoolBackend {
    pub(crate) fn new(
        addresses: Vec<Address>,
        settings: Settings,
        route: impl Fn(&[Address]) -> Result<Router> + Send + Sync + 'static,
    ) -> Result<Self> {
        let router = route(&addresses)?;
        Ok(Self {
            inner: Arc::new(Inner {
                store: Store::new(Cluster::new(addresses, router, Arc::new(settings))),
                route: Box::new(route),
            }),
        })
    }

    /// Returns the state and the counters of each server.
    ///
    /// ```
    /// # use cache_memcache_pool::MemcachePoolBackend;
    /// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// assert_eq!(cache.stats().servers.len(), 1);
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn stats(&self) -> MemcachePoolStats {
        self.inner.store.cluster.stats()
    }

    /// Replaces the servers, for all clones of this backend.
    ///
    /// With consistent routing only the keys of added and removed servers move. Calls in flight
    /// finish with the servers they began with. Connections to servers that remain stay open.
    /// Servers of [`url`](crate::MemcachePoolConfig::url) have the weights that were configured for
    /// them, all others 1.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the list is invalid; then nothing changes.
    ///
    /// ```
    /// # use cache_memcache_pool::MemcachePoolBackend;
    /// let cache = MemcachePoolBackend::builder().url(["10.0.0.1", "10.0.0.2"]).build()?;
    /// cache.set_servers(["10.0.0.2", "10.0.0.3"])?;
    /// assert_eq!(cache.stats().servers[1].address, "10.0.0.3:11211");
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn set_servers<S: Into<String>>(&self, servers: impl IntoIterator<Item = S>) -> Result<()> {
        let servers: Vec<String> = servers.into_iter().map(Into::into).collect();
        let addresses = Address::parse_all(&servers, self.inner.store.cluster.settings.routing)?;
        let router = (self.inner.route)(&addresses)?;
        self.inner.store.cluster.set_servers(addresses, router);
        Ok(())
    }

    /// Looks up a name with a port, such as that of a headless service, and replaces the servers by
    /// its addresses. Call it periodically; if the addresses are unchanged, it does nothing.
    /// Returns the number of servers.
    ///
    /// It takes as long as the system's resolver. If the future is dropped, nothing changes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the lookup fails or returns no address, [`ErrorKind::Backend`]
    /// outside a Tokio runtime; then nothing changes.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// # use cache_memcache_pool::MemcachePoolBackend;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// let cache = MemcachePoolBackend::builder().build()?;
    /// cache.set_servers_by_name("memcached.default.svc:11211").await?;
    /// let followed = cache.clone();
    /// tokio::spawn(async move {
    ///     loop {
    ///         tokio::time::sleep(Duration::from_secs(10)).await;
    ///         let updated = followed.set_servers_by_name("memcached.default.svc:11211").await;
    ///         if let Err(error) = updated {
    ///             eprintln!("the servers are unchanged: {error}");
    ///         }
    ///     }
    /// });
    /// # Ok(()) }
    /// ```
    pub async fn set_servers_by_name(&self, name: &str) -> Result<usize> {
        let refused =
            |reason: String| Error::new(ErrorKind::Config, NAME, format!("{name:?}: {reason}"));
        current_runtime()?;
        let found = tokio::net::lookup_host(name).await;
        let found = found.map_err(|error| {
            refused(format!("cannot look it up: {error}; use host:port")).with_source(error)
        })?;
        let mut servers: Vec<String> = found.map(|address| address.to_string()).collect();
        servers.sort_unstable();
        servers.dedup();
        if servers.is_empty() {
            return Err(refused("the name has no address".into()));
        }
        let farm = self.inner.store.cluster.farm();
        let is_same = farm.servers().map(|server| &server.name).eq(&servers);
        drop(farm);
        if !is_same {
            self.set_servers(&servers)?;
        }
        Ok(servers.len())
    }

    /// Checks concurrently whether each server responds, over temporary connections. Returns the
    /// servers' addresses in the order of the configuration, with the outcome of each, within
    /// `socket_timeout`. It does not affect the circuit breakers.
    ///
    /// ```no_run
    /// # use cache_memcache_pool::MemcachePoolBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// for (server, answer) in cache.ping().await {
    ///     println!("{server}: {answer:?}");
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn ping(&self) -> Vec<(String, Result<()>)> {
        self.each(|server| async move { server.ping().await }).await
    }

    /// Opens a connection to each server concurrently, so that the first calls need not wait.
    /// Returns the servers' addresses in the order of the configuration, with the outcome of each,
    /// within `socket_timeout`.
    ///
    /// ```no_run
    /// # use cache_memcache_pool::MemcachePoolBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// for (server, outcome) in cache.warm_up().await {
    ///     if let Err(error) = outcome {
    ///         eprintln!("{server} is not available yet: {error}");
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn warm_up(&self) -> Vec<(String, Result<()>)> {
        self.each(|server| async move { server.warm_up().await })
            .await
    }

    /// Calls `ask` for all servers concurrently.
    async fn each<F>(&self, ask: impl Fn(Arc<Server>) -> F) -> Vec<(String, Result<()>)>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let farm = self.inner.store.cluster.farm();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            let told = farm.servers().map(|server| {
                let message = "the call was made outside a Tokio runtime; make it inside one";
                (
                    server.name.clone(),
                    Err(server.error(ErrorKind::Backend, message)),
                )
            });
            return told.collect();
        };
        let asked = farm
            .servers()
            .map(|server| (server, runtime.spawn(ask(Arc::clone(server)))));
        let asked: Vec<_> = asked.collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (server, task) in asked {
            let answer = task
                .await
                .unwrap_or_else(|error| Err(server.error(ErrorKind::Backend, &error.to_string())));
            answers.push((server.name.clone(), answer));
        }
        answers
    }

    /// Closes the backend, for all its clones: new calls fail immediately, calls in flight finish,
    /// then the connections are closed. Returns when that is done, except that connections of other
    /// runtimes are closed when those next run, and those of replaced servers soon after. Closing
    /// again only waits for the calls in flight. The closed backend has
    /// no servers: [`stats`](Self::stats) and [`ping`](Self::ping) return none, and
    /// [`set_servers`](Self::set_servers) does nothing.
    ///
    /// If the future is dropped, the backend is closed nevertheless. Dropping the last clone closes
    /// the connections without waiting.
    ///
    /// ```no_run
    /// # use cache_core::CacheBackend;
    /// # use cache_memcache_pool::MemcachePoolBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// cache.close().await;
    /// assert!(cache.get("key").await.is_err());
    /// # Ok(()) }
    /// ```
    pub async fn close(&self) {
        self.inner.store.cluster.close().await;
    }
}

#[deny(clippy::missing_trait_methods)]
impl CacheBackend for MemcachePoolBackend {
    type Value = Vec<u8>;

    fn get(&self, key: &str) -> impl Future<Output = Result<Option<CachedValue<Vec<u8>>>>> + Send {
        self.inner.store.get(key)
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        let store = &self.inner.store;
        check_key(key, store.cluster.settings.dialect)?;
        let prepared = store.prepare(&value);
        store
            .write(&prepared.command(key, value.payload()))
            .await
            .and_then(|()| match prepared.removal {
                Some(Removal::TooLarge(len)) => Err(store.too_large(len)),
                Some(Removal::Expired) | None => Ok(()),
            })
            .map_err(|error| error.with_key(key))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let store = &self.inner.store;
        check_key(key, store.cluster.settings.dialect)?;
        store
            .write(&Command::Delete(key))
            .await
            .map_err(|error| error.with_key(key))
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<Vec<u8>>>>> {
        multi::get(&self.inner.store, keys).await
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<Vec<u8>>)>) -> Result<()> {
        multi::set(&self.inner.store, &entries).await
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        multi::delete(&self.inner.store, keys).await
    }
}
