//! [`Etcd3Backend`]: the six operations.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cache_core::wire::Metadata;
use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::NAME;
use crate::config::Settings;
use crate::endpoints::Health;
use crate::events::Events;
use crate::failure::Failure;
use crate::leases::{Leases, TtlClass};
use crate::limits::Limits;
use crate::read_txn::Name;
use crate::revision::{Doubts, Revision};
use crate::runtimes::{PerRuntime, Runtimes};
use crate::shared::Shared;
use crate::stats::Etcd3Stats;
use crate::write::{Mark, Put, Write};
use crate::{multi, read_coalescer, write_coalescer};

/// The longest key in bytes, including the prefix. etcd limits only the size of the request, so a
/// longer key would fail all keys that share its request.
const MAX_KEY_LEN: usize = 64 * 1024;

/// A cache in etcd 3: the counterpart of oslo.cache's `Etcd3gwCacheBackend`.
///
/// Cloning is cheap; clones share connections, leases and statistics. The [crate
/// documentation](crate) describes failover, cancellation and errors.
///
/// Call its methods within a Tokio runtime with I/O and time enabled; otherwise they fail with
/// [`ErrorKind::Backend`]. Tokio reports a missing driver only by a panic, which the first call
/// catches: the panic hook prints it, and a program built with `panic = "abort"` aborts.
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
    runtimes: Arc<Runtimes>,
}

impl Etcd3Backend {
    pub(crate) fn new(settings: Settings, events: Events) -> Self {
        let hasher = RandomState::new();
        let shared = Shared {
            call_timeout: settings.call_timeout,
            health: Arc::new(Health::new(&settings, events)),
            leases: Arc::new(Leases::new(hasher.hash_one("leases"))),
            counters: Arc::default(),
            limits: Limits::default(),
            revision: Revision::default(),
            doubts: Doubts::new(Instant::now()),
            unread: Mutex::default(),
            unwritten: Mutex::default(),
            unguarded: Mutex::default(),
            large: Mutex::default(),
            hasher,
            settings,
        };
        Self {
            runtimes: Arc::new(Runtimes::new(Arc::new(shared))),
        }
    }

    /// Returns the counters of this backend and its clones, and the state of the endpoints.
    ///
    /// ```
    /// # let cache = cache_etcd3::Etcd3Backend::builder().build()?;
    /// assert_eq!(cache.stats().endpoints.len(), 1);
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn stats(&self) -> Etcd3Stats {
        let Shared {
            counters,
            leases,
            health,
            ..
        } = &**self.runtimes.shared();
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
        self.runtimes.shared()
    }

    /// The state of the current runtime, and the deadline of a call that begins now.
    async fn begin(&self) -> Result<(Arc<PerRuntime>, Instant)> {
        let here = self.runtimes.current().await?;
        let deadline = Instant::now() + self.shared().call_timeout;
        Ok((here, deadline))
    }

    async fn begin_for(&self, key: &str) -> Result<(Arc<PerRuntime>, Instant)> {
        self.begin().await.map_err(|error| error.with_key(key))
    }

    /// The key with its prefix.
    fn name(&self, key: &str) -> Name {
        let prefix = self.shared().settings.prefix.as_bytes();
        let name = [prefix, key.as_bytes()].concat();
        Name {
            hash: self.shared().hasher.hash_one(&name),
            name,
        }
    }

    fn removal(&self, key: &str) -> Write {
        let Name { name, hash } = self.name(key);
        Write {
            name,
            hash,
            put: None,
            mark: Mark::default(),
        }
    }

    /// What to write for `value`, and the error that the call returns nevertheless: a value that
    /// is too large deletes its key.
    fn write(&self, key: &str, value: &CachedValue<Vec<u8>>, now: SystemTime) -> Result<Planned> {
        self.check_key(key)?;
        let settings = &self.shared().settings;
        let lifetime = value.ttl().or_default(settings.ttl);
        if lifetime == Some(Duration::ZERO) {
            // Already expired: delete the old value.
            return Ok((self.removal(key), None));
        }
        let bytes = value.payload().len() + settings.prefix.len() + key.len();
        if bytes > settings.max_request_bytes {
            let message = format!(
                "the value has {bytes} bytes with its key: the limit is {} \
                 (`max_request_bytes`); store less, or raise it and the server's \
                 --max-request-bytes",
                settings.max_request_bytes
            );
            let error = Error::new(ErrorKind::ValueTooLarge, NAME, message).with_key(key);
            return Ok((self.removal(key), Some(error)));
        }
        let metadata = Metadata::of(value, settings.ttl, now);
        let stored = settings.format.encode(&metadata, value.payload());
        let Name { name, hash } = self.name(key);
        let put = Some(Put {
            stored: stored.map_err(|error| error.with_key(key))?,
            class: lifetime.and_then(TtlClass::of),
        });
        let mark = Mark::default();
        let write = Write {
            name,
            hash,
            put,
            mark,
        };
        Ok((write, None))
    }

    async fn write_one(&self, key: &str, write: Write) -> Result<()> {
        let (here, deadline) = self.begin_for(key).await?;
        let written = write_coalescer::write(&here.writes, write, deadline).await;
        self.count_timeout(written.as_ref().err());
        written.map_err(|failure| failure.into_error().with_key(key))
    }

    /// Writes the valid ones of several distinct keys.
    async fn write_all(&self, writes: Vec<(&str, Result<Planned>)>) -> Result<()> {
        let total = writes.len();
        let mut failed = Failed::default();
        let mut keys = Vec::with_capacity(total);
        let mut valid = Vec::with_capacity(total);
        for (key, write) in writes {
            match write {
                Ok((write, error)) => {
                    keys.push((key, error));
                    valid.push(write);
                }
                Err(error) => failed.add(key, error),
            }
        }
        if !valid.is_empty() {
            let mut failures: HashMap<usize, Error> = match self.begin().await {
                Ok((here, deadline)) => {
                    let failures = multi::write(&here.local, valid, deadline).await;
                    self.count_timeout(failures.iter().map(|(_, failure)| failure));
                    let failures = failures.into_iter();
                    failures.map(|(at, it)| (at, it.into_error())).collect()
                }
                Err(error) => (0..keys.len()).map(|at| (at, error.clone())).collect(),
            };
            for (at, (key, error)) in keys.into_iter().enumerate() {
                // If the old value of one that is too large remains, retrying may help.
                if let Some(error) = failures.remove(&at).or(error) {
                    failed.add(key, error);
                }
            }
        }
        failed.into_result(total)
    }

    /// Decodes a stored value; `None` if it has expired.
    fn found(
        &self,
        key: &str,
        stored: Result<Option<Vec<u8>>, Failure>,
        now: SystemTime,
    ) -> Result<Option<CachedValue<Vec<u8>>>> {
        let Some(stored) = stored.map_err(|failure| failure.into_error().with_key(key))? else {
            return Ok(None);
        };
        let decoded = self.shared().settings.format.decode(stored, now);
        let (metadata, payload) = decoded.map_err(|error| error.with_key(key))?;
        Ok(metadata.attach(payload, now))
    }

    fn check_key(&self, key: &str) -> Result<()> {
        let refuse =
            |message: String| Err(Error::new(ErrorKind::InvalidKey, NAME, message).with_key(key));
        if key.is_empty() {
            return refuse("the key is empty; use at least one character".into());
        }
        let length = self.shared().settings.prefix.len() + key.len();
        if length > MAX_KEY_LEN {
            return refuse(format!(
                "the key has {length} bytes with its prefix: the limit is {MAX_KEY_LEN}; shorten \
                 it, or hash keys with `sha1_keys()`"
            ));
        }
        Ok(())
    }

    fn count_reads(&self, hits: usize, total: usize) {
        let counters = &self.shared().counters;
        counters.hits.add(hits);
        counters.misses.add(total - hits);
    }

    /// Counts a call with these failures if it ran out of time.
    fn count_timeout<'a>(&self, failures: impl IntoIterator<Item = &'a Failure>) {
        let mut failures = failures.into_iter();
        if failures.any(|failure| failure.is_out_of_time) {
            self.shared().counters.timeouts.add(1);
        }
    }
}

/// What to write, and the error that the call returns nevertheless.
type Planned = (Write, Option<Error>);

/// The keys of a call that failed, and why.
#[derive(Default)]
struct Failed<'a> {
    keys: Vec<&'a str>,
    cause: Option<Error>,
}

impl<'a> Failed<'a> {
    /// A transient cause takes precedence, since it tells the caller to retry.
    fn add(&mut self, key: &'a str, error: Error) {
        self.keys.push(key);
        let is_transient = self.cause.as_ref().is_some_and(Error::is_transient);
        if self.cause.is_none() || (!is_transient && error.is_transient()) {
            self.cause = Some(error);
        }
    }

    fn into_result(self, total: usize) -> Result<()> {
        match self.cause {
            None => Ok(()),
            Some(cause) => Err(Error::partial(cause, self.keys, total)),
        }
    }
}

impl CacheBackend for Etcd3Backend {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        self.check_key(key)?;
        let (here, deadline) = self.begin_for(key).await?;
        let stored = read_coalescer::read(&here.reads, self.name(key), deadline).await;
        self.count_timeout(stored.as_ref().err());
        let found = self.found(key, stored, SystemTime::now())?;
        self.count_reads(usize::from(found.is_some()), 1);
        Ok(found)
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        let (write, error) = self.write(key, &value, SystemTime::now())?;
        drop(value);
        self.write_one(key, write).await?;
        error.map_or(Ok(()), Err)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.check_key(key)?;
        self.write_one(key, self.removal(key)).await
    }

    /// Each transaction of up to 128 keys is a consistent snapshot; several transactions of one
    /// call may see different states.
    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<Vec<u8>>>>> {
        let checked: Vec<Result<()>> = keys.iter().map(|key| self.check_key(key)).collect();
        let valid = || keys.iter().zip(&checked).filter(|(_, check)| check.is_ok());
        let names: Vec<Name> = valid().map(|(key, _)| self.name(key)).collect();
        let mut stored = if names.is_empty() {
            Ok(Vec::new().into_iter())
        } else {
            match self.begin().await {
                Ok((here, deadline)) => {
                    let stored = multi::read(&here.local, names, deadline).await;
                    self.count_timeout(stored.iter().filter_map(|it| it.as_ref().err()));
                    Ok(stored.into_iter())
                }
                Err(error) => Err(error),
            }
        };
        let now = SystemTime::now();
        let answer = |(key, check): (&&str, Result<()>)| {
            check?;
            match &mut stored {
                Ok(stored) => self.found(key, stored.next().unwrap_or(Ok(None)), now),
                Err(error) => Err(error.clone().with_key(*key)),
            }
        };
        let found: Vec<_> = keys.iter().zip(checked).map(answer).collect();
        let answered = || found.iter().filter_map(|found| found.as_ref().ok());
        self.count_reads(answered().flatten().count(), answered().count());
        found
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<Vec<u8>>)>) -> Result<()> {
        // A transaction may put a key only once: the last value wins.
        let last: HashMap<&str, usize> = entries
            .iter()
            .enumerate()
            .map(|(position, (key, _))| (*key, position))
            .collect();
        let now = SystemTime::now();
        let mut writes = Vec::with_capacity(last.len());
        for (position, (key, value)) in entries.into_iter().enumerate() {
            if last.get(key) == Some(&position) {
                writes.push((key, self.write(key, &value, now)));
            }
        }
        self.write_all(writes).await
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        let mut writes = Vec::with_capacity(keys.len());
        let mut seen = HashSet::with_capacity(keys.len());
        for key in keys {
            if seen.insert(*key) {
                let checked = self.check_key(key);
                writes.push((*key, checked.map(|()| (self.removal(key), None))));
            }
        }
        self.write_all(writes).await
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
