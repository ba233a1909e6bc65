//! [`Etcd3Backend`], the six operations.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cache_core::wire::Metadata;
use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};

use crate::NAME;
use crate::batch::{self, Put, Write};
use crate::config::{Etcd3Builder, Etcd3Config};
use crate::endpoint::Connected;
use crate::failover::Failover;
use crate::failure::Failure;
use crate::format::Format;
use crate::leases::{Leases, Ticket, TtlClass};
use crate::queue::{self, Queue};
use crate::runtime::Runtimes;
use crate::settings::Settings;
use crate::stats::{Counters, EndpointStats, Etcd3Stats};

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
    shared: Arc<Shared>,
}

/// What clones and the tasks of multi operations share.
pub(crate) struct Shared {
    prefix: String,
    ttl: Duration,
    call_timeout: Duration,
    pub(crate) serializable: bool,
    format: Format,
    failover: Failover,
    pub(crate) leases: Leases,
    pub(crate) queue: Queue,
    pub(crate) counters: Counters,
    runtimes: Runtimes,
}

impl Shared {
    /// [`Failover::call`].
    pub(crate) async fn call<T, F>(
        &self,
        deadline: Instant,
        request: impl FnMut(Arc<Connected>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.failover.call(deadline, &self.counters, request).await
    }

    /// [`Leases::ticket`].
    pub(crate) async fn ticket(
        &self,
        class: TtlClass,
        key: &str,
        deadline: Instant,
    ) -> Result<Ticket, Failure> {
        let ticket = self
            .leases
            .ticket(class, key, deadline, &self.failover, &self.counters);
        ticket.await
    }
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
        Ok(Self {
            shared: Arc::new(Shared {
                failover: Failover::new(&settings),
                prefix: settings.prefix,
                ttl: settings.ttl,
                call_timeout: settings.call_timeout,
                serializable: settings.serializable,
                format: settings.format,
                leases: Leases::default(),
                queue: Queue::default(),
                counters: Counters::default(),
                runtimes: Runtimes::default(),
            }),
        })
    }

    /// What this backend and its clones have done so far, and how the endpoints are.
    pub fn stats(&self) -> Etcd3Stats {
        let Shared {
            counters,
            leases,
            failover,
            ..
        } = &*self.shared;
        let now = Instant::now();
        let endpoints = failover.endpoints().iter().map(|endpoint| {
            let quarantine = endpoint.quarantine();
            EndpointStats {
                address: endpoint.url.clone(),
                connects: endpoint.connects(),
                dead_for: quarantine
                    .as_ref()
                    .map(|quarantine| quarantine.until.saturating_duration_since(now)),
                failure: quarantine.map(|quarantine| quarantine.failure.message),
            }
        });
        Etcd3Stats {
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            leases: leases.living() as u64,
            grants: counters.grants.get(),
            lost_leases: counters.lost_leases.get(),
            transactions: counters.transactions.get(),
            retries: counters.retries.get(),
            failovers: counters.failovers.get(),
            timeouts: counters.timeouts.get(),
            endpoints: endpoints.collect(),
        }
    }

    /// When a call that begins now ends. An error where nothing can be waited for.
    async fn deadline(&self) -> Result<Instant> {
        self.shared.runtimes.check().await?;
        Ok(Instant::now() + self.shared.call_timeout)
    }

    /// What the server calls `key`.
    fn name(&self, key: &str) -> Vec<u8> {
        [self.shared.prefix.as_bytes(), key.as_bytes()].concat()
    }

    fn write(&self, key: &str, value: &CachedValue<Vec<u8>>, now: SystemTime) -> Result<Write> {
        let lifetime = value.ttl().or_default(self.shared.ttl);
        let put = if lifetime == Some(Duration::ZERO) {
            // Expired at once: what the key had goes, too.
            None
        } else {
            let metadata = Metadata::of(value, self.shared.ttl, now);
            let stored = self.shared.format.encode(&metadata, value.payload());
            Some(Put {
                stored: stored.map_err(|error| error.with_key(key))?,
                class: lifetime.and_then(TtlClass::of),
            })
        };
        Ok(Write {
            key: key.to_owned(),
            name: self.name(key),
            put,
        })
    }

    /// Writes the keys, each of which occurs once.
    async fn write_all(&self, writes: Vec<Write>) -> Result<()> {
        let total = writes.len();
        let failed = batch::write_all(&self.shared, writes, self.deadline().await?).await;
        let mut cause: Option<Error> = None;
        let mut keys = Vec::with_capacity(failed.len());
        for (key, failure) in failed {
            keys.push(key);
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
            Some(cause) => Err(Error::partial(cause, keys, total)),
        }
    }

    async fn write_one(&self, key: &str, write: Write) -> Result<()> {
        let written = queue::write(&self.shared, write, self.deadline().await?).await;
        written.map_err(|failure| failure.into_error().with_key(key))
    }

    /// What `get` says of what is stored: nothing if it is expired.
    fn found(
        &self,
        key: &str,
        stored: Vec<u8>,
        now: SystemTime,
    ) -> Result<Option<CachedValue<Vec<u8>>>> {
        let decoded = self.shared.format.decode(stored);
        let (metadata, payload) = decoded.map_err(|error| error.with_key(key))?;
        Ok(metadata.attach(payload, now))
    }

    fn count_reads(&self, hits: usize, total: usize) {
        self.shared.counters.hits.add(hits);
        self.shared.counters.misses.add(total - hits);
    }

    /// Each transaction sees one state of the keys in it; two transactions of one call may see
    /// different ones.
    async fn get_valid(&self, keys: &[&str]) -> Result<Vec<Option<CachedValue<Vec<u8>>>>> {
        let mut names = Vec::with_capacity(keys.len());
        for key in keys {
            names.push(self.name(key));
        }
        let stored = match batch::read_all(&self.shared, names, self.deadline().await?).await {
            Ok(stored) => stored,
            Err((positions, failure)) => {
                let concerned = keys.get(positions).unwrap_or_default();
                return Err(failure.into_error().with_keys(concerned.iter().copied()));
            }
        };
        let now = SystemTime::now();
        let mut found = Vec::with_capacity(keys.len());
        let mut undecodable: Vec<&str> = Vec::new();
        let mut cause = None;
        for (key, stored) in keys.iter().zip(stored) {
            match stored
                .map(|stored| self.found(key, stored, now))
                .transpose()
            {
                Ok(value) => found.push(value.flatten()),
                Err(error) => {
                    undecodable.push(key);
                    cause = cause.or(Some(error));
                }
            }
        }
        if let Some(cause) = cause {
            return Err(cause.with_keys(undecodable));
        }
        self.count_reads(found.iter().flatten().count(), keys.len());
        Ok(found)
    }

    fn check_key(&self, key: &str) -> Result<()> {
        let refuse =
            |message: String| Err(Error::new(ErrorKind::InvalidKey, NAME, message).with_key(key));
        if key.is_empty() {
            return refuse("the key is empty; a key has at least one character".into());
        }
        let length = self.shared.prefix.len() + key.len();
        if length > MAX_KEY_LEN {
            return refuse(format!(
                "the key has {length} bytes with its prefix; at most {MAX_KEY_LEN} are kept"
            ));
        }
        Ok(())
    }
}

impl CacheBackend for Etcd3Backend {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        self.check_key(key)?;
        let stored = batch::read_one(&self.shared, &self.name(key), self.deadline().await?).await;
        let stored = stored.map_err(|failure| failure.into_error().with_key(key))?;
        let found = match stored {
            None => None,
            Some(stored) => self.found(key, stored, SystemTime::now())?,
        };
        self.count_reads(usize::from(found.is_some()), 1);
        Ok(found)
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        self.check_key(key)?;
        let write = self.write(key, &value, SystemTime::now())?;
        drop(value);
        self.write_one(key, write).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.check_key(key)?;
        let write = Write {
            key: key.to_owned(),
            name: self.name(key),
            put: None,
        };
        self.write_one(key, write).await
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<Vec<u8>>>>> {
        let is_valid = |key: &&str| self.check_key(key).is_ok();
        let valid: Vec<&str> = keys.iter().copied().filter(is_valid).collect();
        let mut found = self.get_valid(&valid).await.map(Vec::into_iter);
        let answer = |key: &&str| {
            self.check_key(key)?;
            match &mut found {
                Ok(found) => Ok(found.next().flatten()),
                Err(error) => Err(error.clone().with_key(*key)),
            }
        };
        keys.iter().map(answer).collect()
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
        for (position, (key, value)) in entries.iter().enumerate() {
            if last.get(key) == Some(&position) {
                writes.push(self.write(key, value, now)?);
            }
        }
        drop(entries);
        self.write_all(writes).await
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        let mut writes = Vec::with_capacity(keys.len());
        let mut seen = std::collections::HashSet::with_capacity(keys.len());
        for key in keys {
            self.check_key(key)?;
            if seen.insert(*key) {
                writes.push(Write {
                    key: (*key).to_owned(),
                    name: self.name(key),
                    put: None,
                });
            }
        }
        self.write_all(writes).await
    }
}

impl fmt::Debug for Etcd3Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared {
            prefix,
            ttl,
            call_timeout,
            failover,
            ..
        } = &*self.shared;
        let endpoints = failover.endpoints().iter().map(|endpoint| &endpoint.url);
        f.debug_struct("Etcd3Backend")
            .field("endpoints", &endpoints.collect::<Vec<_>>())
            .field("prefix", prefix)
            .field("ttl", ttl)
            .field("call_timeout", call_timeout)
            .finish_non_exhaustive()
    }
}
