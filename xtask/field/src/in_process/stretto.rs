//! stretto, with its own expiry.

use std::time::Duration;

use cache_core::CachedValue;
use stretto::Cache;

use super::Map;
use crate::entry::Entry;

impl Map for Cache<String, Entry> {
    fn open() -> Self {
        Self::new(1 << 20, 1 << 20).expect("without options")
    }

    async fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        let found = Cache::get(self, key)?;
        Some(found.value().clone().trusted())
    }

    async fn insert(&self, key: &str, entry: Entry) {
        match entry.left() {
            // To stretto zero means for ever.
            Some(Duration::ZERO) => return Map::remove(self, key).await,
            Some(left) => self.insert_with_ttl(key.to_owned(), entry, 1, left),
            None => Cache::insert(self, key.to_owned(), entry, 1),
        };
        // Writes are buffered, and promised to be visible only afterwards.
        let _ = self.wait();
    }

    async fn remove(&self, key: &str) {
        Cache::remove(self, &key.to_owned());
        let _ = self.wait();
    }
}
