//! cachet's tier in memory, with its own expiry.

use cache_core::CachedValue;
use cachet_memory::InMemoryCache;
use cachet_tier::{CacheEntry, CacheTier};

use super::Map;
use crate::entry::Entry;

impl Map for InMemoryCache<String, Entry> {
    fn open() -> Self {
        Self::new()
    }

    async fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        let found = CacheTier::get(self, &key.to_owned()).await;
        let found = found.expect("memory does not fail")?;
        Some(found.into_value().trusted())
    }

    async fn insert(&self, key: &str, entry: Entry) {
        let entry = match entry.left() {
            Some(left) => CacheEntry::expires_after(entry, left),
            None => CacheEntry::new(entry),
        };
        let inserted = CacheTier::insert(self, key.to_owned(), entry).await;
        inserted.expect("memory does not fail");
    }

    async fn remove(&self, key: &str) {
        let removed = self.invalidate(&key.to_owned()).await;
        removed.expect("memory does not fail");
    }
}
