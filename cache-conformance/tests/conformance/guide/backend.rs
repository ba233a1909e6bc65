use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, CachedValue, Result, Ttl};

/// Keeps values in a map. Clones share it.
#[derive(Clone)]
pub struct MapBackend {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    default_ttl: Duration,
}

struct Entry {
    value: CachedValue<Vec<u8>>,
    /// `None`: it does not expire.
    deadline: Option<Instant>,
}

impl MapBackend {
    /// Values without their own TTL live for `default_ttl`, or forever if it is zero.
    pub fn new(default_ttl: Duration) -> Self {
        Self {
            entries: Arc::default(),
            default_ttl,
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheBackend for MapBackend {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        let entries = self.entries();
        let Some(entry) = entries.get(key) else {
            return Ok(None);
        };
        let value = entry.value.clone();
        let Some(deadline) = entry.deadline else {
            return Ok(Some(value.with_ttl(Ttl::Never)));
        };
        // A value that is read has the time it has left as its TTL; with none left, it has expired.
        let left = deadline.saturating_duration_since(Instant::now());
        Ok((!left.is_zero()).then(|| value.with_ttl(left)))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        let deadline = value
            .ttl()
            .or_default(self.default_ttl)
            // A deadline that cannot be represented means no expiry.
            .and_then(|ttl| Instant::now().checked_add(ttl));
        let entry = Entry { value, deadline };
        self.entries().insert(key.to_owned(), entry);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.entries().remove(key);
        Ok(())
    }
}
