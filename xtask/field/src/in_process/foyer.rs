//! foyer's cache in memory, which does not expire values: deadlines are the adapter's.

use std::time::Duration;

use cache_core::CachedValue;
use foyer_memory::{Cache, CacheBuilder, CacheProperties};

use super::Map;
use crate::entry::Entry;

impl Map for Cache<String, Entry> {
    fn open(_: Duration) -> Self {
        CacheBuilder::new(1 << 20).build::<CacheProperties>()
    }

    fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        Cache::get(self, key).and_then(|found| found.value().clone().checked())
    }

    fn insert(&self, key: &str, entry: Entry) {
        Cache::insert(self, key.to_owned(), entry);
    }

    fn remove(&self, key: &str) {
        Cache::remove(self, key);
    }
}
