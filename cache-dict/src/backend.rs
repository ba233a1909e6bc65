//! [`DictBackend`], the backend.

use std::fmt;
use std::sync::Arc;

use cache_core::{CacheBackend, CachedValue, Result};

use crate::clock::Time;
use crate::config::DictConfig;
#[cfg(test)]
use crate::hash::KeyHasher;
use crate::sharded_map::ShardedMap;
use crate::stats::DictStats;

/// An in-process cache of values of any type: the counterpart of oslo.cache's
/// `DictCacheBackend`.
///
/// A clone is a cheap handle to the same entries. The methods that end in `_sync` are those of
/// [`CacheBackend`] for callers that are not async. Every future completes at its first poll, so
/// there is nothing to cancel. No operation fails, and every key is valid, including the empty
/// one.
///
/// An operation holds the lock of one shard at a time, usually for well below a microsecond; a
/// shard that grows is locked for longer ([What it costs](crate#what-it-costs)). `V::clone` runs
/// under such a lock, so it must not use the same cache; wrap payloads that are expensive to clone,
/// or larger than about a kilobyte, in an [`Arc`]. Replaced, expired and deleted payloads are
/// dropped after the lock is released.
///
/// # Panics
///
/// If `clone` or `drop` of a payload panics, the operation panics and the cache remains
/// consistent.
///
/// ```
/// use std::time::Duration;
/// use cache_core::{CacheBackend, CachedValue};
/// use cache_dict::DictBackend;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cache = DictBackend::builder()
///     .expiration_time(Duration::from_secs(60))
///     .build()?;
/// cache.set("key", CachedValue::new(vec![1, 2, 3])).await?;
/// let found = cache.get("key").await?.expect("it was set a moment ago");
/// assert_eq!(*found.payload(), [1, 2, 3]);
/// assert!(found.ttl().duration() <= Some(Duration::from_secs(60)));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct DictBackend<V>(Arc<ShardedMap<V>>);

impl<V: Clone + Send + Sync + 'static> DictBackend<V> {
    pub(crate) fn new(config: DictConfig, time: Time) -> Self {
        Self(Arc::new(ShardedMap::new(config, time)))
    }

    /// Returns the value cached under `key`, or `None` if there is none or it has expired.
    ///
    /// It is [`CacheBackend::get`] without the `Result`: an operation in process cannot fail.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// # use cache_dict::DictBackend;
    /// let cache = DictBackend::builder().build()?;
    /// cache.set_sync("key", CachedValue::new(1));
    /// assert_eq!(cache.get_sync("key").map(CachedValue::into_payload), Some(1));
    /// cache.delete_sync("key");
    /// assert_eq!(cache.get_sync("key"), None);
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn get_sync(&self, key: &str) -> Option<CachedValue<V>> {
        self.0.get(key)
    }

    /// Caches `value` under `key`, replacing any value there.
    pub fn set_sync(&self, key: &str, value: CachedValue<V>) {
        self.0.set(key, value);
    }

    /// Removes the value cached under `key`, if there is one.
    pub fn delete_sync(&self, key: &str) {
        self.0.delete(key);
    }

    /// Returns the values cached under `keys`, in the order of `keys`.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// # use cache_dict::DictBackend;
    /// let cache = DictBackend::builder().build()?;
    /// cache.set_multi_sync(vec![("a", CachedValue::new(1)), ("b", CachedValue::new(2))]);
    /// cache.delete_multi_sync(&["a"]);
    /// let found = cache.get_multi_sync(&["a", "b"]);
    /// assert!(found[0].is_none() && found[1].is_some());
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn get_multi_sync(&self, keys: &[&str]) -> Vec<Option<CachedValue<V>>> {
        self.0.get_multi(keys, |found| found)
    }

    /// Caches each value under its key. If a key occurs more than once, its last value wins.
    ///
    /// The call is not atomic: a reader may see some of the new values before the others.
    pub fn set_multi_sync(&self, entries: Vec<(&str, CachedValue<V>)>) {
        self.0.set_multi(entries);
    }

    /// Removes the values cached under `keys`.
    pub fn delete_multi_sync(&self, keys: &[&str]) {
        self.0.delete_multi(keys);
    }

    /// Returns the number of entries, including expired ones that no operation has removed yet;
    /// [`purge`](Self::purge) removes them all. Shards are counted one after another, so the number
    /// is not that of one moment if other threads write meanwhile.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no entries, expired or not; see [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes all entries. Entries written concurrently may remain.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// # use cache_dict::DictBackend;
    /// let cache = DictBackend::builder().build()?;
    /// cache.set_sync("key", CachedValue::new(1));
    /// cache.clear();
    /// assert!(cache.is_empty());
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn clear(&self) {
        self.0.clear();
    }

    /// Removes all expired entries, as oslo.cache does on every set.
    ///
    /// Calling it is optional, because each write removes a bounded number of expired entries. It
    /// frees memory while nothing is written, and before [`len`](Self::len) is reported.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cache_core::CachedValue;
    /// # use cache_dict::{DictBackend, ManualClock};
    /// let clock = ManualClock::new();
    /// let cache = DictBackend::builder().clock(clock.clone()).build()?;
    /// cache.set_sync("key", CachedValue::new(1).with_ttl(Duration::from_secs(60)));
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(cache.len(), 1);
    /// cache.purge();
    /// assert_eq!(cache.len(), 0);
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn purge(&self) {
        self.0.purge();
    }

    /// Returns the number of entries, and how many have expired or were evicted since the backend
    /// was built.
    pub fn stats(&self) -> DictStats {
        self.0.stats()
    }
}

#[cfg(test)]
impl<V: Clone + Send + Sync + 'static> DictBackend<V> {
    /// A backend in which keys collide, because only these bits of their hashes are used.
    pub(crate) fn with_weak_hash(config: DictConfig, time: Time, mask: u64) -> Self {
        let hasher = KeyHasher::new().masked(mask);
        Self(Arc::new(ShardedMap::with_hasher(config, time, hasher)))
    }

    pub(crate) fn map(&self) -> &ShardedMap<V> {
        &self.0
    }
}

impl<V> Clone for DictBackend<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for DictBackend<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DictBackend")
            .field("config", self.0.config())
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<V: Clone + Send + Sync + 'static> CacheBackend for DictBackend<V> {
    type Value = V;

    const IMMEDIATE: bool = true;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<V>>> {
        Ok(self.get_sync(key))
    }

    async fn set(&self, key: &str, value: CachedValue<V>) -> Result<()> {
        self.set_sync(key, value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.delete_sync(key);
        Ok(())
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<V>>>> {
        self.0.get_multi(keys, Ok)
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<V>)>) -> Result<()> {
        self.set_multi_sync(entries);
        Ok(())
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        self.delete_multi_sync(keys);
        Ok(())
    }
}
