//! [`DictBackend`], the backend.

use std::fmt;
use std::sync::Arc;

use cache_core::{CacheBackend, CachedValue, Result};

use crate::clock::Time;
use crate::config::{DictBuilder, DictConfig};
#[cfg(test)]
use crate::hash::KeyHasher;
use crate::sharded_map::ShardedMap;
use crate::stats::DictStats;

/// An in-process cache of values of any type: the counterpart of oslo.cache's
/// `DictCacheBackend`.
///
/// Cloning it is cheap, and each clone reaches the same entries. Methods that end in `_sync`
/// do the same as those of [`CacheBackend`], for callers that are not async. All operations are
/// finished when they are first polled: they wait for nothing but locks of single shards, which
/// are held for microseconds. An operation never fails, and any key is kept, the empty one too.
///
/// `V::clone` runs while such a lock is held, so it must not use the same cache; wrap what is
/// expensive to clone in an [`Arc`]. Replaced, expired and deleted values are dropped when no
/// lock is held. A `clone` or `drop` that panics lets the caller's operation panic and leaves
/// the cache as it is.
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
    /// A backend with this configuration.
    ///
    /// ```
    /// # use cache_dict::{DictBackend, DictConfig};
    /// let cache: DictBackend<String> = DictBackend::from_config(DictConfig::default())?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn from_config(config: DictConfig) -> Result<Self> {
        DictBuilder::from(config).build()
    }

    /// Begins to make a backend; by default nothing expires and nothing is evicted.
    pub fn builder() -> DictBuilder<V> {
        DictBuilder::default()
    }

    pub(crate) fn new(config: DictConfig, time: Time) -> Self {
        Self(Arc::new(ShardedMap::new(config, time)))
    }

    /// What is cached under `key`, or `None`.
    pub fn get_sync(&self, key: &str) -> Result<Option<CachedValue<V>>> {
        Ok(self.0.get(key))
    }

    /// Caches `value` under `key`, in place of what was there.
    pub fn set_sync(&self, key: &str, value: CachedValue<V>) -> Result<()> {
        self.0.set(key, value);
        Ok(())
    }

    /// Removes what is cached under `key`, if anything is.
    pub fn delete_sync(&self, key: &str) -> Result<()> {
        self.0.delete(key);
        Ok(())
    }

    /// What is cached under each of `keys`, position by position.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// # use cache_dict::DictBackend;
    /// let cache = DictBackend::builder().build()?;
    /// cache.set_multi_sync(vec![("a", CachedValue::new(1)), ("b", CachedValue::new(2))])?;
    /// cache.delete_multi_sync(&["a"])?;
    /// let found = cache.get_multi_sync(&["a", "b"])?;
    /// assert!(found[0].is_none() && found[1].is_some());
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn get_multi_sync(&self, keys: &[&str]) -> Result<Vec<Option<CachedValue<V>>>> {
        Ok(self.0.get_multi(keys).collect())
    }

    /// Caches each value under its key; the last one where a key is repeated.
    ///
    /// Not all are set at one moment: a reader may see some before the others.
    pub fn set_multi_sync(&self, entries: Vec<(&str, CachedValue<V>)>) -> Result<()> {
        self.0.set_multi(entries);
        Ok(())
    }

    /// Removes what is cached under each of `keys`.
    pub fn delete_multi_sync(&self, keys: &[&str]) -> Result<()> {
        self.0.delete_multi(keys);
        Ok(())
    }

    /// How many entries are held. Those that have expired count until they are removed, which
    /// writes do shortly after, and the read that finds one; [`purge`](Self::purge) removes all
    /// at once.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no entry is held; see [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes all entries. What others write at the same time may remain.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// # use cache_dict::DictBackend;
    /// let cache = DictBackend::builder().build()?;
    /// cache.set_sync("key", CachedValue::new(1))?;
    /// cache.clear();
    /// assert!(cache.is_empty());
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn clear(&self) {
        self.0.clear();
    }

    /// Removes all entries that have expired, as the original does at each set.
    ///
    /// Calling it is never necessary: writes remove what has expired, a bounded number each, and
    /// reads what they find expired. It frees memory when nothing is written for long.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cache_core::CachedValue;
    /// # use cache_dict::{DictBackend, ManualClock};
    /// let clock = ManualClock::new();
    /// let cache = DictBackend::builder().clock(clock.clone()).build()?;
    /// cache.set_sync("key", CachedValue::new(1).with_ttl(Duration::from_secs(60)))?;
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(cache.len(), 1);
    /// cache.purge();
    /// assert_eq!(cache.len(), 0);
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn purge(&self) {
        self.0.purge();
    }

    /// How many entries are held, and how many were removed, since the backend was made.
    pub fn stats(&self) -> DictStats {
        self.0.stats()
    }
}

#[cfg(test)]
impl<V: Clone + Send + Sync + 'static> DictBackend<V> {
    /// A backend in which keys collide: only these bits of their hashes are used.
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
        self.get_sync(key)
    }

    async fn set(&self, key: &str, value: CachedValue<V>) -> Result<()> {
        self.set_sync(key, value)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.delete_sync(key)
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<V>>>> {
        self.0.get_multi(keys).map(Ok).collect()
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<V>)>) -> Result<()> {
        self.set_multi_sync(entries)
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        self.delete_multi_sync(keys)
    }
}
