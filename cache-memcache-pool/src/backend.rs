//! [`MemcachePoolBackend`], the six operations.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};

use crate::cluster::{Cluster, Server};
use crate::config::{Address, Settings};
use crate::protocol::{Command, check_key};
use crate::router::Router;
use crate::stats::MemcachePoolStats;
use crate::store::{Removal, Store};
use crate::{NAME, multi};

/// A cache kept by one or more memcached servers.
///
/// Clones share everything: connections, what is known of the servers, counts. The last one to
/// be dropped closes the connections. All calls have to be made within a tokio runtime with
/// I/O and time enabled: without, they fail with [`ErrorKind::Backend`]. tokio has no way to ask
/// for either, so that the first call in such a runtime meets tokio's panic and catches it; the
/// panic hook prints it, and a program built with `panic = "abort"` ends. Each runtime has connections of its own, so that one which is not run
/// holds up nobody in another; when it ends, they do, and the next call opens new ones.
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
    /// Makes the router for other servers.
    route: Box<Route>,
}

type Route = dyn Fn(&[Address]) -> Router + Send + Sync;

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
        route: impl Fn(&[Address]) -> Router + Send + Sync + 'static,
    ) -> Self {
        let router = route(&addresses);
        Self {
            inner: Arc::new(Inner {
                store: Store::new(Cluster::new(addresses, router, Arc::new(settings))),
                route: Box::new(route),
            }),
        }
    }

    /// What the backend knows of its servers and has done so far.
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

    /// Exchanges the servers, for all clones of this backend.
    ///
    /// Only keys of servers that came or went move, unless the routing says otherwise. Calls
    /// that are under way end with the servers that they began with; connections to servers that
    /// are still there stay. An [`ErrorKind::Config`] says what is wrong with the list, and then
    /// nothing changes.
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
        let router = (self.inner.route)(&addresses);
        self.inner.store.cluster.set_servers(addresses, router);
        Ok(())
    }

    /// Looks up a name with a port, such as that of a headless service, and takes each of its
    /// addresses for a server, in place of those that there were. Call it at an interval; when
    /// nothing has changed it does nothing. How many servers there are.
    ///
    /// An [`ErrorKind::Config`] when the name has no address or cannot be looked up; nothing
    /// changes then. It takes as long as the system's resolver does.
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
    ///         if let Err(error) = followed.set_servers_by_name("memcached.default.svc:11211").await {
    ///             eprintln!("the servers stay as they are: {error}");
    ///         }
    ///     }
    /// });
    /// # Ok(()) }
    /// ```
    pub async fn set_servers_by_name(&self, name: &str) -> Result<usize> {
        let refused =
            |reason: String| Error::new(ErrorKind::Config, NAME, format!("{name:?}: {reason}"));
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

    /// Asks each server for a sign of life, all at once, over a connection that is closed again.
    /// The servers' addresses, in the order of the configuration, and what came of it, each
    /// within `socket_timeout`. It neither counts against a server nor puts one back into use.
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

    /// Opens a connection to each server, all at once, so that the first calls need not. The
    /// servers' addresses, in the order of the configuration, and what came of it, each within
    /// `socket_timeout`.
    ///
    /// ```no_run
    /// # use cache_memcache_pool::MemcachePoolBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// for (server, error) in cache.warm_up().await {
    ///     error.inspect_err(|error| eprintln!("{server} is not there yet: {error}")).ok();
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn warm_up(&self) -> Vec<(String, Result<()>)> {
        self.each(|server| async move { server.warm_up().await })
            .await
    }

    /// Does something with each server at once.
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

    /// Closes the backend, for all its clones: further calls fail at once, those under way come
    /// to their end, then the connections are closed. It returns when that is done, and does
    /// nothing when it has been done before.
    ///
    /// Dropping the last clone closes the connections too, without waiting for anything.
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
        const LOOK_AGAIN: Duration = Duration::from_millis(5);
        let farm = self.inner.store.cluster.close();
        // Every call that is under way has a share in it.
        while Arc::strong_count(&farm) > 1 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl CacheBackend for MemcachePoolBackend {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        let store = &self.inner.store;
        check_key(key, store.cluster.settings.dialect)?;
        store
            .call(&Command::Get(key))
            .await
            .and_then(|reply| store.found(reply, &mut None))
            .map_err(|error| error.with_key(key))
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
