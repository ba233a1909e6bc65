//! mini-moka, which has one TTL for all values; their own TTLs are the adapter's.

use std::time::Duration;

use cache_core::CachedValue;
use mini_moka::sync::Cache;

use super::Map;
use crate::entry::Entry;

impl Map for Cache<String, Entry> {
    fn open(_: Duration) -> Self {
        Self::builder().build()
    }

    fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        Cache::get(self, &key.to_owned()).and_then(Entry::checked)
    }

    fn insert(&self, key: &str, entry: Entry) {
        Cache::insert(self, key.to_owned(), entry);
    }

    fn remove(&self, key: &str) {
        self.invalidate(&key.to_owned());
    }
}
