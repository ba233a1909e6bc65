//! A backend of somebody else, tested by cache-conformance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cache_core::{CacheBackend, CachedValue, Result};

/// Keeps values until they expire; forgets them all with the process.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<HashMap<String, CachedValue<Vec<u8>>>>>);

impl CacheBackend for Shelf {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        self.check_key(key)?;
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        self.check_key(key)?;
        self.0.lock().unwrap().insert(key.to_owned(), value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.check_key(key)?;
        self.0.lock().unwrap().remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cache_conformance::{Capabilities, Harness, OpenError, Options};

    use super::Shelf;

    #[derive(Default)]
    struct ShelfHarness(Shelf);

    impl Harness for ShelfHarness {
        type Backend = Shelf;

        fn capabilities(&self) -> Capabilities {
            Capabilities::default()
        }

        async fn open(&self, _: &Options) -> std::result::Result<Shelf, OpenError> {
            Ok(Shelf::default())
        }
    }

    cache_conformance::tests!(shelf: ShelfHarness::default());
}
