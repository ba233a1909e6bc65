//! Caches that do not expire values, or only with one TTL for all: deadlines are the adapter's.

use std::sync::Arc;

use cache_core::CachedValue;

use super::Map;
use crate::entry::Entry;

/// More entries than the suite keeps at once.
const CAPACITY: usize = 1 << 20;

impl Map for Arc<papaya::HashMap<String, Entry>> {
    fn open() -> Self {
        Self::default()
    }

    async fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        let found = self.pin().get(key).cloned();
        found.and_then(Entry::checked)
    }

    async fn insert(&self, key: &str, entry: Entry) {
        self.pin().insert(key.to_owned(), entry);
    }

    async fn remove(&self, key: &str) {
        self.pin().remove(key);
    }
}

impl Map for Arc<quick_cache::sync::Cache<String, Entry>> {
    fn open() -> Self {
        Self::new(quick_cache::sync::Cache::new(CAPACITY))
    }

    async fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        self.as_ref().get(key).and_then(Entry::checked)
    }

    async fn insert(&self, key: &str, entry: Entry) {
        self.as_ref().insert(key.to_owned(), entry);
    }

    async fn remove(&self, key: &str) {
        self.as_ref().remove(key);
    }
}

impl Map for mini_moka::sync::Cache<String, Entry> {
    fn open() -> Self {
        Self::builder().build()
    }

    async fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        Self::get(self, &key.to_owned()).and_then(Entry::checked)
    }

    async fn insert(&self, key: &str, entry: Entry) {
        Self::insert(self, key.to_owned(), entry);
    }

    async fn remove(&self, key: &str) {
        self.invalidate(&key.to_owned());
    }
}

impl Map for foyer_memory::Cache<String, Entry> {
    fn open() -> Self {
        foyer_memory::CacheBuilder::new(CAPACITY).build::<foyer_memory::CacheProperties>()
    }

    async fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        let found = Self::get(self, key)?;
        found.value().clone().checked()
    }

    async fn insert(&self, key: &str, entry: Entry) {
        Self::insert(self, key.to_owned(), entry);
    }

    async fn remove(&self, key: &str) {
        Self::remove(self, key);
    }
}
