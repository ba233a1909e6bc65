//! [`MissOnError`], for services that can continue without the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};

use crate::{CacheBackend, CachedValue, Error, ErrorKind, Result};

/// Turns errors into misses where a service can continue without the cache, and counts them.
/// dogpile.cache does the same, but silently.
///
/// | operation | errors that are swallowed |
/// |---|---|
/// | reads | [transient](Error::is_transient) ones, and stored values that cannot be read: [`Decode`](ErrorKind::Decode), [`ValueTooLarge`](ErrorKind::ValueTooLarge) |
/// | writes | transient ones |
///
/// Other errors, such as an invalid key, are returned. If a write to several keys fails for several
/// reasons and one of them is transient, the error is transient, so it is swallowed as a whole. If
/// the error of a `set` or `delete` is swallowed, the key may still have its old value; if that is
/// unacceptable, call the backend itself.
///
/// Clones share their counts with each other and with the handle that
/// [`swallowed`](Self::swallowed) returns.
///
/// ```
/// use cache_core::{CacheBackend, CacheBackendExt, CachedValue, Error, ErrorKind, Result};
///
/// struct Down;
///
/// impl CacheBackend for Down {
///     type Value = String;
///     async fn get(&self, _: &str) -> Result<Option<CachedValue<String>>> {
///         Err(Error::new(ErrorKind::Unavailable, "down", "connection refused"))
///     }
///     // …
/// #   async fn set(&self, _: &str, _: CachedValue<String>) -> Result<()> { Ok(()) }
/// #   async fn delete(&self, _: &str) -> Result<()> { Ok(()) }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cache = Down.miss_on_error();
/// let swallowed = cache.swallowed();
/// let cache = cache.into_dyn();
/// assert!(cache.get("key").await?.is_none());
/// assert_eq!(swallowed.count(ErrorKind::Unavailable), 1);
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct MissOnError<B> {
    backend: B,
    swallowed: SwallowedErrors,
}

impl<B> MissOnError<B> {
    /// Wraps `backend`, with all counts at zero.
    pub fn new(backend: B) -> Self {
        Self {
            backend,
            swallowed: SwallowedErrors::default(),
        }
    }

    /// Returns a handle to the counts of this wrapper and its clones, which remains usable when
    /// the wrapper is hidden behind another type.
    pub fn swallowed(&self) -> SwallowedErrors {
        self.swallowed.clone()
    }

    fn read<T>(&self, found: Result<Option<T>>) -> Result<Option<T>> {
        found.or_else(|error| {
            let unreadable = matches!(error.kind(), ErrorKind::Decode | ErrorKind::ValueTooLarge);
            self.swallow_if(unreadable || error.is_transient(), error)?;
            Ok(None)
        })
    }

    fn write(&self, done: Result<()>) -> Result<()> {
        done.or_else(|error| self.swallow_if(error.is_transient(), error))
    }

    fn swallow_if(&self, swallow: bool, error: Error) -> Result<()> {
        if !swallow {
            return Err(error);
        }
        self.swallowed.add(error.kind());
        Ok(())
    }
}

crate::wrapper::access!(MissOnError<B>);

/// The number of errors that a [`MissOnError`] has swallowed.
///
/// ```
/// use cache_core::{ErrorKind, MissOnError};
///
/// let swallowed = MissOnError::new(()).swallowed();
/// assert_eq!(swallowed.count(ErrorKind::Timeout), 0);
/// assert_eq!(swallowed.total(), 0);
/// ```
///
/// It serializes as a map from the [`Display`](std::fmt::Display) form of each kind to its count,
/// such as `{"timed out": 3}`, without kinds whose count is zero.
#[derive(Clone, Debug, Default)]
pub struct SwallowedErrors(Arc<[AtomicU64; ErrorKind::ALL.len()]>);

impl SwallowedErrors {
    /// Returns the number of swallowed errors of this kind since the wrapper was created. In a
    /// `get_multi` each key counts; a write that failed for some of its keys counts once, as
    /// [`Partial`](ErrorKind::Partial).
    pub fn count(&self, kind: ErrorKind) -> u64 {
        let count = self.0.get(kind as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Returns the number of swallowed errors of all kinds.
    pub fn total(&self) -> u64 {
        let counts = self.0.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn add(&self, kind: ErrorKind) {
        if let Some(count) = self.0.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Serialize for SwallowedErrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = ErrorKind::ALL
            .iter()
            .map(|kind| (kind.to_string(), self.count(*kind)));
        serializer.collect_map(counts.filter(|(_, count)| *count > 0))
    }
}

#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for MissOnError<B> {
    type Value = B::Value;

    const IMMEDIATE: bool = B::IMMEDIATE;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<B::Value>>> {
        self.read(self.backend.get(key).await)
    }

    async fn set(&self, key: &str, value: CachedValue<B::Value>) -> Result<()> {
        self.write(self.backend.set(key, value).await)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.write(self.backend.delete(key).await)
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<B::Value>>>> {
        let found = self.backend.get_multi(keys).await;
        found.into_iter().map(|found| self.read(found)).collect()
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<B::Value>)>) -> Result<()> {
        self.write(self.backend.set_multi(entries).await)
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        self.write(self.backend.delete_multi(keys).await)
    }
}
