//! moka, with its own expiry: each entry tells how long it lives.

use std::time::{Duration, Instant};

use cache_core::CachedValue;
use moka::Expiry;
use moka::sync::Cache;

use super::Map;
use crate::entry::Entry;

struct OfEntry;

impl Expiry<String, Entry> for OfEntry {
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

impl Map for Cache<String, Entry> {
    fn open() -> Self {
        Self::builder().expire_after(OfEntry).build()
    }

    async fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        Cache::get(self, key).map(Entry::trusted)
    }

    async fn insert(&self, key: &str, entry: Entry) {
        Cache::insert(self, key.to_owned(), entry);
    }

    async fn remove(&self, key: &str) {
        self.invalidate(key);
    }
}
