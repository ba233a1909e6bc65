//! [`MemcachePoolBackend`], the six operations.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::wire::Metadata;
use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};

use crate::answer::{Answer, Expect, Reply};
use crate::command::{Command, Outgoing, check_key};
use crate::connection::Exchange;
use crate::journey::Journey;
use crate::route::{Choose, Router};
use crate::server::Server;
use crate::settings::{OnServerEvent, Settings};
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
    pub(crate) servers: Vec<Arc<Server>>,
    pub(crate) router: Router,
    pub(crate) failover: bool,
    default_ttl: Duration,
    max_value: usize,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for server in &self.servers {
            server.shut_down();
        }
    }
}

impl fmt::Debug for MemcachePoolBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachePoolBackend")
            .field("servers", &self.inner.servers)
            .field("router", &self.inner.router)
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
        MemcachePoolBuilder::from_config(config).build()
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
        config: &MemcachePoolConfig,
        choose: Option<Arc<Choose>>,
        on_event: Option<Arc<OnServerEvent>>,
    ) -> Result<Self> {
        let addresses = config.check()?;
        let settings = Arc::new(Settings::new(config, on_event)?);
        let servers: Vec<Arc<Server>> = addresses
            .into_iter()
            .map(|address| Arc::new(Server::new(address, Arc::clone(&settings))))
            .collect();
        let names: Vec<String> = servers.iter().map(|server| server.name.clone()).collect();
        Ok(Self {
            inner: Arc::new(Inner {
                servers,
                router: choose.map_or_else(|| Router::new(config.routing, &names), Router::Own),
                failover: config.failover,
                default_ttl: config.memcached_expire_time,
                max_value: config.server_max_value_length,
            }),
        })
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
        MemcachePoolStats {
            servers: self
                .inner
                .servers
                .iter()
                .map(|server| server.stats())
                .collect(),
        }
    }
}

/// A value made ready to be sent.
pub(crate) struct Prepared {
    /// Metadata and the bar behind it.
    head: Vec<u8>,
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
                payload,
                expires: self.expires,
            },
        }
    }
}

impl Inner {
    pub(crate) fn prepare(&self, value: &CachedValue<Vec<u8>>) -> Prepared {
        const HEAD: usize = 80;
        let mut head = Vec::with_capacity(HEAD);
        let lifetime = value.ttl().or_default(self.default_ttl);
        let (metadata, expires) = match lifetime {
            None => {
                let cached_at = value.cached_at();
                let deadline = None;
                (
                    Metadata {
                        cached_at,
                        deadline,
                    },
                    0,
                )
            }
            Some(lifetime) => {
                let now = SystemTime::now();
                let metadata = Metadata::of(value, self.default_ttl, now);
                (
                    metadata,
                    memcached_expiry(metadata.deadline.map(|_| lifetime), now),
                )
            }
        };
        metadata.write_json(&mut head);
        head.push(b'|');
        let len = head.len() + value.payload().len();
        let removal = if lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
            Some(Removal::Expired)
        } else if len > self.max_value {
            Some(Removal::TooLarge(len))
        } else {
            None
        };
        Prepared {
            head,
            expires,
            removal,
        }
    }

    pub(crate) fn too_large(&self, len: usize) -> Error {
        Error::new(
            ErrorKind::ValueTooLarge,
            NAME,
            format!(
                "{len} bytes with metadata, and server_max_value_length is {}; store less, or \
                 raise it and memcached's -I; what was stored before was removed",
                self.max_value
            ),
        )
    }

    /// Sends one command, to one server after the other if need be.
    async fn call(&self, command: &Command<'_>) -> Result<Reply> {
        let exchange = Exchange {
            encode: |out: &mut Outgoing| {
                let tag = command.encode(out)?;
                Ok(Expect::One { tag })
            },
            weight: 1 + command.size() / multi::WEIGHT_BYTES,
        };
        let mut journey = Journey::default();
        loop {
            journey.sets_out()?;
            let Some((_, server)) = journey.choose(self, command.key()) else {
                if journey.probed().await {
                    continue;
                }
                return Err(journey.nobody(self));
            };
            let waiter = journey.submit(server, &exchange).await?;
            if let Some(Answer::One(reply)) = journey.answer(server, waiter, 1).await? {
                return Ok(said_by(server, reply));
            }
        }
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
            Reply::Found(_) | Reply::Missing => Err(senseless()),
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

/// The value of a read, unless it is expired.
pub(crate) fn found(
    reply: Reply,
    now: &mut Option<SystemTime>,
) -> Result<Option<CachedValue<Vec<u8>>>> {
    match reply {
        Reply::Missing => Ok(None),
        Reply::Failed(reason) => Err(refused(&reason)),
        Reply::Done => Err(senseless()),
        Reply::Found(stored) => {
            let stored = stored?;
            // Only what expires needs the clock.
            let now = match stored.metadata.deadline {
                None => UNIX_EPOCH,
                Some(_) => *now.get_or_insert_with(SystemTime::now),
            };
            Ok(stored.metadata.attach(stored.payload, now))
        }
    }
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

    const IMMEDIATE: bool = false;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        check_key(key)?;
        let reply = self.inner.call(&Command::Get(key)).await;
        reply
            .and_then(|reply| found(reply, &mut None))
            .map_err(|error| error.with_key(key))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        check_key(key)?;
        let prepared = self.inner.prepare(&value);
        let command = prepared.command(key, value.payload());
        let mut written = self.inner.write(&command).await;
        if let (Ok(()), Some(Removal::TooLarge(len))) = (&written, &prepared.removal) {
            written = Err(self.inner.too_large(*len));
        }
        written.map_err(|error| error.with_key(key))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        let written = self.inner.write(&Command::Delete(key)).await;
        written.map_err(|error| error.with_key(key))
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<Vec<u8>>>>> {
        let valid: Vec<&str> = keys
            .iter()
            .copied()
            .filter(|key| check_key(key).is_ok())
            .collect();
        let mut found = multi::get(&self.inner, &valid).await.map(Vec::into_iter);
        let answer = |key: &&str| {
            check_key(key)?;
            match &mut found {
                Ok(found) => Ok(found.next().flatten()),
                Err(error) => Err(error.clone().with_key(*key)),
            }
        };
        keys.iter().map(answer).collect()
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<Vec<u8>>)>) -> Result<()> {
        for (key, _) in &entries {
            check_key(key)?;
        }
        multi::set(&self.inner, &entries).await
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        for key in keys {
            check_key(key)?;
        }
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
