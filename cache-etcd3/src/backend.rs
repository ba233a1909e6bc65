//! [`Etcd3Backend`], the six operations.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cache_core::wire::Metadata;
use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::NAME;
use crate::config::{Etcd3Builder, Etcd3Config, Settings};
use crate::endpoints::Health;
use crate::events::Events;
use crate::failure::Failure;
use crate::leases::{Leases, TtlClass};
use crate::local::{Local, Locals};
use crate::loners::Loners;
use crate::read_coalescer::{self, Name};
use crate::revision::{Doubts, Revision};
use crate::stats::{Counters, Etcd3Stats};
use crate::txn::{Guard, Limits, Put, Write};
use crate::{multi, write_coalescer};

/// The longest key in bytes, prefix included. etcd itself counts keys towards the size of a
/// request only, and would refuse longer ones together with whatever shares the request.
const MAX_KEY_LEN: usize = 64 * 1024;

/// A cache in etcd 3: the port of `oslo.cache`'s `Etcd3gwCacheBackend`.
///
/// Cloning is cheap; clones share connections and leases. The [crate documentation](crate)
/// says what it does in which case.
///
/// Its methods are to be called within a Tokio runtime with I/O and time enabled.
///
/// ```no_run
/// use cache_core::{CacheBackend, CachedValue};
/// use cache_etcd3::Etcd3Backend;
///
/// # async fn example() -> cache_core::Result<()> {
/// let cache = Etcd3Backend::builder().host("10.0.0.1").build()?;
/// cache.set("greeting", CachedValue::new(b"hello".to_vec())).await?;
/// let found = cache.get("greeting").await?;
/// assert_eq!(found.map(CachedValue::into_payload), Some(b"hello".to_vec()));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Etcd3Backend {
    locals: Arc<Locals>,
}

/// What all calls share, whichever runtime they are made in.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) call_timeout: Duration,
    pub(crate) health: Arc<Health>,
    pub(crate) leases: Leases,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Limits,
    pub(crate) guard: Guard,
    pub(crate) revision: Revision,
    pub(crate) doubts: Doubts,
    /// Keys that the server refused of late.
    pub(crate) refused: Mutex<Loners>,
    /// Keys whose values were found to be large.
    pub(crate) large: Mutex<Loners>,
    hasher: RandomState,
}

impl Etcd3Backend {
    /// Arguments one by one.
    ///
    /// ```
    /// let cache = cache_etcd3::Etcd3Backend::builder().host("10.0.0.1").build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn builder() -> Etcd3Builder {
        Etcd3Builder::default()
    }

    /// Checks the configuration and builds the backend. No server is asked for anything: the
    /// first call connects.
    ///
    /// The error is an [`ErrorKind::Config`] that names the field.
    pub fn from_config(config: Etcd3Config) -> Result<Self> {
        let settings = Settings::new(config)?;
        let hasher = RandomState::new();
        let shared = Shared {
            call_timeout: settings.call_timeout,
            health: Arc::new(Health::new(&settings, Events)),
            leases: Leases::new(hasher.hash_one("leases")),
            counters: Arc::default(),
            limits: Limits::default(),
            guard: Guard::new(settings.refuse_late_writes),
            revision: Revision::default(),
            doubts: Doubts::new(Instant::now()),
            refused: Mutex::default(),
            large: Mutex::default(),
            hasher,
            settings,
        };
        Ok(Self {
            locals: Arc::new(Locals::new(Arc::new(shared))),
        })
    }

    /// What this backend and its clones have done so far, and how the endpoints are.
    pub fn stats(&self) -> Etcd3Stats {
        let Shared {
            counters,
            leases,
            health,
            ..
        } = &**self.locals.shared();
        let (grants, lost_leases) = leases.counts();
        Etcd3Stats {
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            leases: leases.living(),
            grants,
            lost_leases,
            transactions: counters.transactions.get(),
            retries: counters.retries.get(),
            failovers: counters.failovers.get(),
            timeouts: counters.timeouts.get(),
            endpoints: health.stats(),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.locals.shared()
    }

    /// Where a call is made, and when it ends. An error where nothing can be waited for.
    async fn begin(&self) -> Result<(Arc<Local>, Instant)> {
        let local = self.locals.current().await?;
        let deadline = Instant::now() + local.shared.call_timeout;
        Ok((local, deadline))
    }

    /// What the server calls `key`.
    fn name(&self, key: &str) -> Name {
        let prefix = self.shared().settings.prefix.as_bytes();
        let name = [prefix, key.as_bytes()].concat();
        Name {
            hash: self.shared().hasher.hash_one(&name),
            name,
        }
    }

    /// The write of a delete. If a set of this key may arrive late, nothing is not enough to keep
    /// it out: what has expired is.
    fn removal(&self, key: &str) -> Write {
        let Name { name, hash } = self.name(key);
        let shared = self.shared();
        let is_in_doubt = shared.guard.is_on() && shared.doubts.has(Instant::now(), hash);
        let put = is_in_doubt.then(|| tombstone(shared)).flatten();
        Write { name, hash, put }
    }

    fn write(&self, key: &str, value: &CachedValue<Vec<u8>>, now: SystemTime) -> Result<Write> {
        let settings = &self.shared().settings;
        let lifetime = value.lifetime(settings.ttl);
        if lifetime == Some(Duration::ZERO) {
            // Expired at once: what the key had goes, too.
            return Ok(self.removal(key));
        }
        let metadata = Metadata::of(value, settings.ttl, now);
        let stored = settings.format.encode(&metadata, value.payload());
        let Name { name, hash } = self.name(key);
        let put = Some(Put {
            stored: stored.map_err(|error| error.with_key(key))?,
            class: lifetime.and_then(TtlClass::of),
        });
        Ok(Write { name, hash, put })
    }

    /// Whether a value is known to be too large before it is sent.
    fn is_too_large(&self, key: &str, value: &CachedValue<Vec<u8>>) -> bool {
        let settings = &self.shared().settings;
        let name = settings.prefix.len() + key.len();
        value.payload().len() + name > settings.max_request_bytes
    }

    fn too_large(&self, key: &str, value: &CachedValue<Vec<u8>>) -> Error {
        let message = format!(
            "the value has {} bytes, and a request at most {}; store less, or raise the server's \
             --max-request-bytes and `max_request_bytes`",
            value.payload().len(),
            self.shared().settings.max_request_bytes
        );
        Error::new(ErrorKind::ValueTooLarge, NAME, message).with_key(key)
    }

    /// Writes the keys, each of which occurs once.
    async fn write_all(&self, keys: &[&str], writes: Vec<Write>) -> Result<()> {
        let total = writes.len();
        let (local, deadline) = self.begin().await?;
        let failed = multi::write(&local, writes, deadline).await;
        let mut cause: Option<Error> = None;
        let mut names = Vec::with_capacity(failed.len());
        for (at, failure) in failed {
            names.extend(keys.get(at).copied());
            // Whoever asks whether to repeat the call wants to know of the transient one.
            if !cause.as_ref().is_some_and(Error::is_transient) {
                let error = failure.into_error();
                if cause.is_none() || error.is_transient() {
                    cause = Some(error);
                }
            }
        }
        match cause {
            None => Ok(()),
            Some(cause) => Err(Error::partial(cause, names, total)),
        }
    }

    async fn write_one(&self, key: &str, write: Write) -> Result<()> {
        let (local, deadline) = self.begin().await?;
        let written = write_coalescer::write(&local, write, deadline).await;
        written.map_err(|failure| failure.into_error().with_key(key))
    }

    /// What `get` says of what is stored: nothing if it is expired.
    fn found(
        &self,
        key: &str,
        stored: Result<Option<Vec<u8>>, Failure>,
        now: SystemTime,
    ) -> Result<Option<CachedValue<Vec<u8>>>> {
        let Some(stored) = stored.map_err(|failure| failure.into_error().with_key(key))? else {
            return Ok(None);
        };
        let decoded = self.shared().settings.format.decode(stored);
        let (metadata, payload) = decoded.map_err(|error| error.with_key(key))?;
        Ok(metadata.attach(payload, now))
    }

    fn count_reads(&self, hits: usize, total: usize) {
        let counters = &self.shared().counters;
        counters.hits.add(hits);
        counters.misses.add(total - hits);
    }
}

/// What stands for a key that was deleted while a set of it may arrive late: an empty value that
/// expired long ago, for a minute.
fn tombstone(shared: &Shared) -> Option<Put> {
    const REMEMBERED: Duration = Duration::from_secs(60);
    let metadata = Metadata {
        cached_at: SystemTime::UNIX_EPOCH,
        deadline: Some(SystemTime::UNIX_EPOCH),
    };
    let stored = shared.settings.format.encode(&metadata, b"null").ok()?;
    Some(Put {
        stored,
        class: TtlClass::of(REMEMBERED),
    })
}

impl CacheBackend for Etcd3Backend {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        self.check_key(key)?;
        let (local, deadline) = self.begin().await?;
        let stored = read_coalescer::read(&local, self.name(key), deadline).await;
        let found = self.found(key, stored, SystemTime::now())?;
        self.count_reads(usize::from(found.is_some()), 1);
        Ok(found)
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        self.check_key(key)?;
        if self.is_too_large(key, &value) {
            let error = self.too_large(key, &value);
            drop(value);
            self.write_one(key, self.removal(key)).await?;
            return Err(error);
        }
        let write = self.write(key, &value, SystemTime::now())?;
        drop(value);
        self.write_one(key, write).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.check_key(key)?;
        self.write_one(key, self.removal(key)).await
    }

    /// Each transaction sees one state of the keys in it; two transactions of one call may see
    /// different ones.
    async fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<CachedValue<Vec<u8>>>>> {
        let mut names = Vec::with_capacity(keys.len());
        for key in keys {
            self.check_key(key)?;
            names.push(self.name(key));
        }
        let (local, deadline) = self.begin().await?;
        let stored = multi::read(&local, names, deadline).await;
        let now = SystemTime::now();
        let found = keys.iter().zip(stored);
        let found: Result<Vec<_>> = found
            .map(|(key, stored)| self.found(key, stored, now))
            .collect();
        let found = found?;
        self.count_reads(found.iter().flatten().count(), keys.len());
        Ok(found)
    }

    /// A value that cannot be stored in the chosen format refuses the whole call before
    /// anything is sent.
    async fn set_multi(&self, entries: Vec<(&str, CachedValue<Vec<u8>>)>) -> Result<()> {
        for (key, _) in &entries {
            self.check_key(key)?;
        }
        // A transaction may put a key only once: the last value wins.
        let last: HashMap<&str, usize> = entries
            .iter()
            .enumerate()
            .map(|(position, (key, _))| (*key, position))
            .collect();
        let now = SystemTime::now();
        let mut writes = Vec::with_capacity(last.len());
        let mut keys = Vec::with_capacity(last.len());
        for (position, (key, value)) in entries.iter().enumerate() {
            if last.get(key) == Some(&position) {
                writes.push(self.write(key, value, now)?);
                keys.push(*key);
            }
        }
        drop(entries);
        self.write_all(&keys, writes).await
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        let mut writes = Vec::with_capacity(keys.len());
        let mut names = Vec::with_capacity(keys.len());
        let mut seen = std::collections::HashSet::with_capacity(keys.len());
        for key in keys {
            self.check_key(key)?;
            if seen.insert(*key) {
                writes.push(self.removal(key));
                names.push(*key);
            }
        }
        self.write_all(&names, writes).await
    }

    fn check_key(&self, key: &str) -> Result<()> {
        let refuse =
            |message: String| Err(Error::new(ErrorKind::InvalidKey, NAME, message).with_key(key));
        if key.is_empty() {
            return refuse("the key is empty; a key has at least one character".into());
        }
        let length = self.shared().settings.prefix.len() + key.len();
        if length > MAX_KEY_LEN {
            return refuse(format!(
                "the key has {length} bytes with its prefix; at most {MAX_KEY_LEN} are kept"
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for Etcd3Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.shared().settings;
        f.debug_struct("Etcd3Backend")
            .field("endpoints", &settings.endpoints)
            .field("prefix", &settings.prefix)
            .field("ttl", &settings.ttl)
            .field("call_timeout", &settings.call_timeout)
            .finish_non_exhaustive()
    }
}
