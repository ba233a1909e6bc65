//! [`MemcachePoolBackend`], the six operations.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::wire::Metadata;
use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result, Ttl};

use crate::cluster::{Call, Cluster, MARK, Router, Server};
use crate::config::{Address, Settings, StoredFormat};
use crate::connection::Exchange;
use crate::protocol::{
    COMPRESSED, Command, Expected, Outgoing, Reply, Response, check_key, compress, encode_many,
    encode_one,
};
use crate::{MemcachePoolBuilder, MemcachePoolConfig, MemcachePoolStats, NAME, multi};

/// A cache kept by one or more memcached servers.
///
/// Clones share everything: connections, what is known of the servers, counts. The last one to
/// be dropped closes the connections. All calls have to be made within a tokio runtime with
/// I/O and time enabled. Each runtime has connections of its own, so that one which is not run
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
    pub(crate) cluster: Cluster,
    /// Makes the router for other servers.
    route: Box<Route>,
}

type Route = dyn Fn(&[Address]) -> Router + Send + Sync;

impl fmt::Debug for MemcachePoolBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let farm = self.inner.cluster.farm();
        f.debug_struct("MemcachePoolBackend")
            .field("servers", &farm.servers().collect::<Vec<_>>())
            .field("router", farm.router())
            .finish_non_exhaustive()
    }
}

impl MemcachePoolBackend {
    /// The backend with this configuration. No server is contacted yet.
    ///
    /// An [`ErrorKind::Config`] names the field that makes no sense.
    ///
    /// ```
    /// # use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolConfig};
    /// let cache = MemcachePoolBackend::from_config(MemcachePoolConfig::default())?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn from_config(config: MemcachePoolConfig) -> Result<Self> {
        MemcachePoolBuilder::from(config).build()
    }

    /// To set arguments one by one.
    ///
    /// ```
    /// # use cache_memcache_pool::MemcachePoolBackend;
    /// let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn builder() -> MemcachePoolBuilder {
        MemcachePoolBuilder::default()
    }

    pub(crate) fn new(
        addresses: Vec<Address>,
        settings: Settings,
        route: impl Fn(&[Address]) -> Router + Send + Sync + 'static,
    ) -> Self {
        let router = route(&addresses);
        Self {
            inner: Arc::new(Inner {
                cluster: Cluster::new(addresses, router, Arc::new(settings)),
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
        self.inner.cluster.stats()
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
        let addresses = Address::parse_all(&servers, self.inner.cluster.settings.routing)?;
        let router = (self.inner.route)(&addresses);
        self.inner.cluster.set_servers(addresses, router);
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
            |reason: String| Error::new(ErrorKind::Config, NAME, format!("{name}: {reason}"));
        let found = tokio::net::lookup_host(name).await;
        let found = found.map_err(|error| {
            refused(format!("cannot be looked up: {error}; write host:port")).with_source(error)
        })?;
        let mut servers: Vec<String> = found.map(|address| address.to_string()).collect();
        servers.sort_unstable();
        servers.dedup();
        if servers.is_empty() {
            return Err(refused("has no address".into()));
        }
        let farm = self.inner.cluster.farm();
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
        let farm = self.inner.cluster.farm();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            let told = farm.servers().map(|server| {
                let message = "it was called outside of a tokio runtime";
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
        let farm = self.inner.cluster.close();
        // Every call that is under way has a share in it.
        while Arc::strong_count(&farm) > 1 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// A value made ready to be sent.
pub(crate) struct Prepared {
    /// Metadata and the bar behind it.
    head: Vec<u8>,
    /// Metadata and payload together, in place of both.
    compressed: Option<Vec<u8>>,
    /// The client flags.
    flags: u32,
    /// As memcached counts.
    expires: u32,
    /// It is not to be stored: what is there is to be removed.
    pub(crate) removal: Option<Removal>,
}

pub(crate) enum Removal {
    /// It is expired already.
    Expired,
    /// It has so many bytes.
    TooLarge(usize),
}

impl Prepared {
    /// The command that makes `payload` the value of `key`.
    pub(crate) fn command<'a>(&'a self, key: &'a str, payload: &'a [u8]) -> Command<'a> {
        match self.removal {
            Some(_) => Command::Delete(key),
            None => Command::Set {
                key,
                head: &self.head,
                payload: self.compressed.as_deref().unwrap_or(payload),
                expires: self.expires,
                flags: self.flags,
            },
        }
    }
}

impl Inner {
    pub(crate) fn prepare(&self, value: &CachedValue<Vec<u8>>) -> Prepared {
        const HEAD: usize = 80;
        let mut head = Vec::with_capacity(HEAD);
        let settings = &self.cluster.settings;
        let lifetime = value.ttl().or_default(settings.default_ttl);
        // Only what expires needs the clock.
        let now = lifetime.map_or(UNIX_EPOCH, |_| settings.now());
        let metadata = Metadata::of(value, settings.default_ttl, now);
        let expires = memcached_expiry(lifetime.filter(|_| metadata.deadline.is_some()), now);
        if settings.stored_format == StoredFormat::Envelope {
            metadata.write_json(&mut head);
            head.push(b'|');
        }
        let len = head.len() + value.payload().len();
        let removal = if lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
            Some(Removal::Expired)
        } else if len > settings.max_value {
            Some(Removal::TooLarge(len))
        } else {
            None
        };
        let (mut flags, mut compressed) = (settings.client_flags, None);
        if removal.is_none() && settings.min_compress_len.is_some_and(|min| len >= min) {
            compressed = compress(&head, value.payload());
        }
        if compressed.is_some() {
            flags |= COMPRESSED;
            head.clear();
        }
        Prepared {
            head,
            compressed,
            flags,
            expires,
            removal,
        }
    }

    pub(crate) fn too_large_to_read(&self, len: usize) -> Error {
        let message = format!(
            "the value there has {len} bytes as stored, and server_max_value_length is \
             {}; raise it to read this value",
            self.cluster.settings.max_value
        );
        Error::new(ErrorKind::ValueTooLarge, NAME, message)
    }

    pub(crate) fn too_large(&self, len: usize) -> Error {
        Error::new(
            ErrorKind::ValueTooLarge,
            NAME,
            format!(
                "{len} bytes as stored, and server_max_value_length is {}; store less, or \
                 raise it and memcached's -I; what was stored before was removed",
                self.cluster.settings.max_value
            ),
        )
    }

    /// Sends one command, to one server after the other if need be.
    async fn call(&self, command: &Command<'_>) -> Result<Reply> {
        let is_marked = self.is_marked(command);
        let exchange = Exchange {
            encode: |out: &mut Outgoing| {
                if is_marked {
                    let both = |n| if n == 0 { Command::Get(MARK) } else { *command };
                    encode_many(2, both, false, out)
                } else {
                    encode_one(command, out)
                }
            },
            weight: 1 + command.size() / multi::WEIGHT_BYTES,
        };
        let farm = self.cluster.farm();
        let mut call = Call::new(&self.cluster, &farm);
        let (index, server, response) = send(&mut call, command.key(), &exchange).await?;
        match response {
            Response::One(reply) => Ok(said_by(server, reply)),
            Response::Many(replies) => {
                let mut replies = replies.into_iter();
                if is_marked {
                    let mark = replies.next().ok_or_else(senseless)?;
                    call.note_mark(index, &mark);
                }
                let reply = replies.next().ok_or_else(senseless)?;
                let reply = said_by(server, reply);
                Ok(if is_marked {
                    call.believe(index, command.key(), reply)
                } else {
                    reply
                })
            }
            Response::SomeFailed => Err(senseless()),
        }
    }

    /// Whether the mark of the server's last return is read with this command.
    pub(crate) fn is_marked(&self, command: &Command<'_>) -> bool {
        self.cluster.settings.expire_on_reconnect && matches!(command, Command::Get(_))
    }

    async fn write(&self, command: &Command<'_>) -> Result<()> {
        match self.call(command).await? {
            Reply::Done => Ok(()),
            Reply::Failed(reason) => {
                let error = refused(&reason);
                if error.kind() == ErrorKind::ValueTooLarge {
                    // memcached has removed the old value; not every version is known to.
                    self.call(&Command::Delete(command.key())).await?;
                }
                Err(error)
            }
            Reply::Found(_) | Reply::TooLarge(_) | Reply::Missing | Reply::Meta(_) => {
                Err(senseless())
            }
        }
    }

    /// The value of a read, unless it is expired. `now` is the time, once it is known.
    pub(crate) fn found(
        &self,
        reply: Reply,
        now: &mut Option<SystemTime>,
    ) -> Result<Option<CachedValue<Vec<u8>>>> {
        match reply {
            Reply::Missing => Ok(None),
            Reply::Failed(reason) => Err(refused(&reason)),
            Reply::Done | Reply::Meta(_) => Err(senseless()),
            Reply::TooLarge(len) => Err(self.too_large_to_read(len)),
            Reply::Found(stored) => {
                let stored = stored?;
                let mut now = || *now.get_or_insert_with(|| self.cluster.settings.now());
                Ok(match stored.metadata {
                    // Only what expires needs the clock.
                    Some(metadata) => {
                        let now = metadata.deadline.map_or(UNIX_EPOCH, |_| now());
                        metadata.attach(stored.payload, now)
                    }
                    // It may have been written at any time before.
                    None => {
                        let value = CachedValue::new(stored.payload).with_cached_at(now());
                        Some(value.with_ttl(Ttl::Never))
                    }
                })
            }
        }
    }
}

/// Sends a request for one key, to one server after the other if need be. Which server responded,
/// and what.
pub(crate) async fn send<'a, F>(
    call: &mut Call<'a>,
    key: &str,
    exchange: &Exchange<F>,
) -> Result<(usize, &'a Arc<Server>, Response)>
where
    F: Fn(&mut Outgoing) -> Result<Expected>,
{
    let farm = call.farm;
    let mut from = None;
    loop {
        call.begin_round()?;
        let Some(index) = call.choose(key) else {
            if call.probed().await {
                continue;
            }
            return Err(call.nobody());
        };
        if let Some(from) = from.replace(index).filter(|&from| from != index) {
            call.failed_over(from, 1);
        }
        let Some(server) = farm.server(index) else {
            return Err(call.nobody());
        };
        let Some(waiter) = call.submit(server, exchange).await? else {
            continue;
        };
        if let Some(response) = call.response(server, waiter).await? {
            return Ok((index, server, response));
        }
    }
}

/// A reply, with the name of the server if that did not do as it was told.
pub(crate) fn said_by(server: &Server, reply: Reply) -> Reply {
    match reply {
        Reply::Failed(reason) => Reply::Failed(format!("{} refused: {reason}", server.name)),
        other => other,
    }
}

/// The error for what memcached did not want, in the words of [`said_by`].
pub(crate) fn refused(reason: &str) -> Error {
    if reason.contains("too large") {
        let message = format!("{reason}; store less, or raise memcached's -I");
        return Error::new(ErrorKind::ValueTooLarge, NAME, message);
    }
    Error::new(ErrorKind::Backend, NAME, reason)
}

/// The error for an answer to another question.
pub(crate) fn senseless() -> Error {
    Error::new(
        ErrorKind::Protocol,
        NAME,
        "the server answered something else than was asked",
    )
}

/// When memcached is to drop a value that lives for `lifetime`: no earlier, since what is
/// exact is the deadline that travels with the value.
fn memcached_expiry(lifetime: Option<Duration>, now: SystemTime) -> u32 {
    /// Beyond, memcached takes the number for a time since the epoch.
    const RELATIVE: u64 = 30 * 24 * 3600;
    /// memcached reads a signed number of 32 bits.
    const LAST: u64 = i32::MAX as u64;
    const NEVER: u32 = 0;
    let Some(lifetime) = lifetime else {
        return NEVER;
    };
    // Rounded up, and two more: a second of memcached's clock may be all but over when the value
    // arrives, and the clock, which is read about once a second, then passes over a whole one
    // now and then.
    let seconds = lifetime
        .as_secs()
        .saturating_add(u64::from(lifetime.subsec_nanos() > 0))
        .saturating_add(2);
    let seconds = match seconds {
        0..=RELATIVE => seconds,
        _ => now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
            .saturating_add(seconds),
    };
    match u32::try_from(seconds) {
        Ok(seconds) if u64::from(seconds) <= LAST => seconds,
        _ => NEVER,
    }
}

#[deny(clippy::missing_trait_methods)]
impl CacheBackend for MemcachePoolBackend {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        let inner = &*self.inner;
        check_key(key, inner.cluster.settings.dialect)?;
        inner
            .call(&Command::Get(key))
            .await
            .and_then(|reply| inner.found(reply, &mut None))
            .map_err(|error| error.with_key(key))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        let inner = &*self.inner;
        check_key(key, inner.cluster.settings.dialect)?;
        let prepared = inner.prepare(&value);
        inner
            .write(&prepared.command(key, value.payload()))
            .await
            .and_then(|()| match prepared.removal {
                Some(Removal::TooLarge(len)) => Err(inner.too_large(len)),
                Some(Removal::Expired) | None => Ok(()),
            })
            .map_err(|error| error.with_key(key))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let inner = &*self.inner;
        check_key(key, inner.cluster.settings.dialect)?;
        inner
            .write(&Command::Delete(key))
            .await
            .map_err(|error| error.with_key(key))
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<Vec<u8>>>>> {
        multi::get(&self.inner, keys).await
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<Vec<u8>>)>) -> Result<()> {
        multi::set(&self.inner, &entries).await
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        multi::delete(&self.inner, keys).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memcached_keeps_a_value_for_as_long_as_it_lives() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let expiry = |lifetime| memcached_expiry(Some(lifetime), now);
        assert_eq!(memcached_expiry(None, now), 0);
        assert_eq!(expiry(Duration::from_millis(1)), 3);
        assert_eq!(expiry(Duration::from_millis(900)), 3);
        assert_eq!(expiry(Duration::from_secs(1)), 3);
        assert_eq!(expiry(Duration::from_millis(1001)), 4);
        let month = 30 * 24 * 3600;
        assert_eq!(expiry(Duration::from_secs(month - 2)), 2_592_000);
        assert_eq!(expiry(Duration::from_secs(month - 1)), 1_702_592_001);
        assert_eq!(expiry(Duration::from_secs(400_000_000)), 2_100_000_002);
        // Beyond what memcached can count it never expires; the metadata says when.
        assert_eq!(expiry(Duration::from_secs(500_000_000)), 0);
        assert_eq!(expiry(Duration::MAX), 0);
    }
}
