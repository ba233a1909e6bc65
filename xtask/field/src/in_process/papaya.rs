//! papaya's map, which does not expire values: deadlines are the adapter's.

use std::sync::Arc;
use std::time::Duration;

use cache_core::CachedValue;
use papaya::HashMap;

use super::Map;
use crate::entry::Entry;

impl Map for Arc<HashMap<String, Entry>> {
    fn open(_: Duration) -> Self {
        Self::default()
    }

    fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        let found = self.pin().get(key).cloned();
        found.and_then(Entry::checked)
    }

    fn insert(&self, key: &str, entry: Entry) {
        self.pin().insert(key.to_owned(), entry);
    }

    fn remove(&self, key: &str) {
        self.pin().remove(key);
    }
}
