//! quick_cache, which does not expire values: deadlines are the adapter's.

use std::sync::Arc;
use std::time::Duration;

use cache_core::CachedValue;
use quick_cache::sync::Cache;

use super::Map;
use crate::entry::Entry;

impl Map for Arc<Cache<String, Entry>> {
    fn open(_: Duration) -> Self {
        Self::new(Cache::new(1 << 20))
    }

    fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        Cache::get(self, key).and_then(Entry::checked)
    }

    fn insert(&self, key: &str, entry: Entry) {
        Cache::insert(self, key.to_owned(), entry);
    }

    fn remove(&self, key: &str) {
        Cache::remove(self, key);
    }
}
