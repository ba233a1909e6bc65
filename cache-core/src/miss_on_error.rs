//! [`MissOnError`], for services that would rather compute a value again than fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{CacheBackend, CachedValue, Error, ErrorKind, Result};

/// Turns transient errors of reads into misses and those of writes into success, and counts
/// them: what dogpile.cache's memcached backends do, without the silence.
///
/// Only errors that are [transient](Error::is_transient) are swallowed; a bad key or a value
/// that cannot be decoded is still an error. Mind that a `delete` or `set` that was swallowed
/// leaves the old value in place: where that is not harmless, call the backend itself.
///
/// Clones share their counts.
///
/// ```
/// use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, MissOnError, Result};
///
/// struct Down;
///
/// impl CacheBackend for Down {
///     type Value = String;
///     async fn get(&self, _: &str) -> Result<Option<CachedValue<String>>> {
///         Err(Error::new(ErrorKind::Unavailable, "down", "no server"))
///     }
///     // …
/// #   async fn set(&self, _: &str, _: CachedValue<String>) -> Result<()> { Ok(()) }
/// #   async fn delete(&self, _: &str) -> Result<()> { Ok(()) }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cache = MissOnError::new(Down);
/// assert!(cache.get("key").await?.is_none());
/// assert_eq!(cache.swallowed(ErrorKind::Unavailable), 1);
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct MissOnError<B> {
    backend: B,
    counts: Arc<Counts>,
}

/// One for each kind that [`ErrorKind::is_transient`] names.
#[derive(Debug, Default)]
struct Counts {
    timeout: AtomicU64,
    unavailable: AtomicU64,
    pool_exhausted: AtomicU64,
    protocol: AtomicU64,
    partial: AtomicU64,
}

impl Counts {
    fn of(&self, kind: ErrorKind) -> Option<&AtomicU64> {
        match kind {
            ErrorKind::Timeout => Some(&self.timeout),
            ErrorKind::Unavailable => Some(&self.unavailable),
            ErrorKind::PoolExhausted => Some(&self.pool_exhausted),
            ErrorKind::Protocol => Some(&self.protocol),
            ErrorKind::Partial => Some(&self.partial),
            _ => None,
        }
    }
}

impl<B> MissOnError<B> {
    /// Swallows the transient errors of `backend`.
    pub fn new(backend: B) -> Self {
        Self {
            backend,
            counts: Arc::default(),
        }
    }

    /// How many errors of this kind were swallowed since the start.
    pub fn swallowed(&self, kind: ErrorKind) -> u64 {
        self.counts
            .of(kind)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// `result`, or what `instead` makes where its error is a transient one.
    fn or_swallow<T>(&self, result: Result<T>, instead: impl FnOnce() -> T) -> Result<T> {
        result.or_else(|error: Error| match self.counts.of(error.kind()) {
            Some(count) if error.is_transient() => {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(instead())
            }
            _ => Err(error),
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for MissOnError<B> {
    type Value = B::Value;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<B::Value>>> {
        let found = self.backend.get(key).await;
        self.or_swallow(found, || None)
    }

    async fn set(&self, key: &str, value: CachedValue<B::Value>) -> Result<()> {
        let done = self.backend.set(key, value).await;
        self.or_swallow(done, || ())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let done = self.backend.delete(key).await;
        self.or_swallow(done, || ())
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<CachedValue<B::Value>>>> {
        let found = self.backend.get_multi(keys).await;
        self.or_swallow(found, || keys.iter().map(|_| None).collect())
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<B::Value>)>) -> Result<()> {
        let done = self.backend.set_multi(entries).await;
        self.or_swallow(done, || ())
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        let done = self.backend.delete_multi(keys).await;
        self.or_swallow(done, || ())
    }

    fn check_key(&self, key: &str) -> Result<()> {
        self.backend.check_key(key)
    }
}
