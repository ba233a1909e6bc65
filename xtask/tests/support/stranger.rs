//! A backend of somebody else, tested by cache-conformance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, CachedValue, Result};

type Kept = (CachedValue<Vec<u8>>, Option<Instant>);

/// A map with deadlines; gone with the process.
#[derive(Clone, Default)]
pub struct Shelf {
    kept: Arc<Mutex<HashMap<String, Kept>>>,
    default_ttl: Duration,
}

impl CacheBackend for Shelf {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        self.check_key(key)?;
        let kept = self.kept.lock().unwrap().get(key).cloned();
        Ok(kept.and_then(|(value, deadline)| match deadline {
            None => Some(CachedValue::new(value.payload().clone()).with_cached_at(value.cached_at())),
            Some(deadline) => {
                let left = deadline.checked_duration_since(Instant::now())?;
                (!left.is_zero()).then(|| value.with_ttl(left))
            }
        }))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        self.check_key(key)?;
        let lifetime = value.lifetime(self.default_ttl);
        let deadline = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime));
        self.kept.lock().unwrap().insert(key.to_owned(), (value, deadline));
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.check_key(key)?;
        self.kept.lock().unwrap().remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cache_conformance::{Harness, OpenError, Options};

    use super::Shelf;

    struct ShelfHarness;

    impl Harness for ShelfHarness {
        type Backend = Shelf;

        async fn open(&self, options: &Options) -> Result<Shelf, OpenError> {
            Ok(Shelf {
                default_ttl: options.default_ttl,
                ..Shelf::default()
            })
        }

        async fn again(&self, shelf: &Shelf, _: &Options) -> Result<Shelf, OpenError> {
            Ok(shelf.clone())
        }
    }

    cache_conformance::tests! {
        shelf: ShelfHarness,
        waive {
            faults: "there is no server",
            limits: "it takes keys and values of any length",
        }
    }
}
