//! cached's store of values that tell when they expire.

use std::sync::{Arc, Mutex, PoisonError};

use cache_core::CachedValue;
use cached::{Cached, Expires, ExpiringCache};

use super::Map;
use crate::entry::Entry;

impl Expires for Entry {
    fn is_expired(&self) -> bool {
        self.is_expired()
    }
}

#[derive(Clone)]
pub struct Expiring(Arc<Mutex<ExpiringCache<String, Entry>>>);

impl Map for Expiring {
    fn open() -> Self {
        let cache = ExpiringCache::builder().build();
        Self(Arc::new(Mutex::new(cache.expect("without options"))))
    }

    async fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.cache_get(key).cloned().map(Entry::trusted)
    }

    async fn insert(&self, key: &str, entry: Entry) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.cache_set(key.to_owned(), entry);
    }

    async fn remove(&self, key: &str) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.cache_remove(key);
    }
}
