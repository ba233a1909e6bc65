//! In-process caches, with a capacity large enough to avoid evictions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use cache_conformance::Suite;
use cached::{Cached, ExpiringCache};
use cachet_memory::InMemoryCache;
use cachet_tier::{CacheEntry, CacheTier};

use crate::adapter::{self, Cache, Call, Store};
use crate::entry::Entry;

/// The capacity in entries, more than the suite stores at once.
const CAPACITY: usize = 1 << 20;

/// A cache and its operations.
struct Calls<C> {
    cache: C,
    get: fn(&C, &str) -> Option<Entry>,
    set: fn(&C, String, Entry),
    delete: fn(&C, &str),
}

impl<C: Send + Sync + 'static> Cache for Arc<Calls<C>> {
    async fn call(&self, call: Call) -> Result<Option<Entry>> {
        match call {
            Call::Get(key) => return Ok((self.get)(&self.cache, &key)),
            Call::Set(key, entry) => (self.set)(&self.cache, key, entry),
            Call::Delete(key) => (self.delete)(&self.cache, &key),
        }
        Ok(None)
    }
}

fn suite<C: Send + Sync + 'static>(open: fn() -> Calls<C>) -> Suite {
    adapter::suite(&Store::in_process(), move |_| async move {
        Ok(Arc::new(open()))
    })
}

/// moka's expiry policy: each entry has its own lifetime.
struct Lifetime;

impl moka::Expiry<String, Entry> for Lifetime {
    fn expire_after_create(&self, _: &String, entry: &Entry, _: Instant) -> Option<Duration> {
        entry.left()
    }

    fn expire_after_update(
        &self,
        _: &String,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        entry.left()
    }
}

pub fn moka() -> Suite {
    suite(|| Calls {
        cache: moka::sync::Cache::builder().expire_after(Lifetime).build(),
        get: |cache, key| cache.get(key),
        set: |cache, key, entry| cache.insert(key, entry),
        delete: |cache, key| cache.invalidate(key),
    })
}

impl cached::Expires for Entry {
    fn is_expired(&self) -> bool {
        !self.is_alive()
    }
}

pub fn cached() -> Suite {
    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
    suite(|| Calls {
        cache: Mutex::new(ExpiringCache::builder().build().expect("no options")),
        get: |cache, key| lock(cache).cache_get(key).cloned(),
        set: |cache, key, entry| drop(lock(cache).cache_set(key, entry)),
        delete: |cache, key| drop(lock(cache).cache_remove(key)),
    })
}

/// stretto buffers writes, so wait until they are visible. A TTL of zero means forever.
pub fn stretto() -> Suite {
    suite(|| Calls {
        cache: stretto::Cache::new(CAPACITY, 1 << 20).expect("a capacity"),
        get: |cache: &stretto::Cache<_, Entry>, key| Some(cache.get(key)?.value().clone()),
        set: |cache, key, entry| {
            let ttl = entry.ttl().unwrap_or_default();
            cache.insert_with_ttl(key, entry, 1, ttl);
            cache.wait().expect("it is open");
        },
        delete: |cache, key| {
            cache.remove(&key.to_owned());
            cache.wait().expect("it is open");
        },
    })
}

impl Cache for InMemoryCache<String, Entry> {
    async fn call(&self, call: Call) -> Result<Option<Entry>> {
        match call {
            Call::Get(key) => return Ok(self.get(&key).await?.map(CacheEntry::into_value)),
            Call::Set(key, entry) => {
                let left = entry.left();
                let mut entry = CacheEntry::new(entry);
                left.inspect(|left| entry.set_ttl(*left));
                self.insert(key, entry).await?;
            }
            Call::Delete(key) => self.invalidate(&key).await?,
        }
        Ok(None)
    }
}

pub fn cachet() -> Suite {
    adapter::suite(&Store::in_process(), |_| async { Ok(InMemoryCache::new()) })
}

// The following caches do not support expiry, or only a common TTL for all values.

pub fn papaya() -> Suite {
    suite(|| Calls {
        cache: papaya::HashMap::new(),
        get: |cache, key| cache.pin().get(key).cloned().filter(Entry::is_alive),
        set: |cache, key, entry| _ = cache.pin().insert(key, entry),
        delete: |cache, key| _ = cache.pin().remove(key),
    })
}

pub fn quick_cache() -> Suite {
    suite(|| Calls {
        cache: quick_cache::sync::Cache::new(CAPACITY),
        get: |cache, key| cache.get(key).filter(Entry::is_alive),
        set: |cache, key, entry| cache.insert(key, entry),
        delete: |cache, key| drop(cache.remove(key)),
    })
}

pub fn mini_moka() -> Suite {
    suite(|| Calls {
        cache: mini_moka::sync::Cache::builder().build(),
        get: |cache, key| cache.get(&key.to_owned()).filter(Entry::is_alive),
        set: |cache, key, entry| cache.insert(key, entry),
        delete: |cache, key| cache.invalidate(&key.to_owned()),
    })
}

pub fn foyer() -> Suite {
    suite(|| Calls {
        cache: foyer_memory::CacheBuilder::new(CAPACITY).build(),
        get: |cache: &foyer_memory::Cache<_, Entry>, key| {
            let found = cache.get(key).map(|found| found.value().clone());
            found.filter(Entry::is_alive)
        },
        set: |cache, key, entry| drop(cache.insert(key, entry)),
        delete: |cache, key| drop(cache.remove(key)),
    })
}
