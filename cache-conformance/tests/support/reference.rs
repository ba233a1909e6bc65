//! A small backend that keeps the contract, by either clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache_conformance::{Capabilities, Clock, Harness, ManualClock, OpenError, Options};
use cache_core::{CacheBackend, CachedValue, Result};

#[derive(Clone)]
pub(crate) struct Reference {
    entries: Arc<Mutex<HashMap<String, (CachedValue<Vec<u8>>, Option<Instant>)>>>,
    default_ttl: Duration,
    clock: Option<ManualClock>,
}

impl Reference {
    pub(crate) fn new(default_ttl: Duration, clock: Option<ManualClock>) -> Self {
        Self {
            entries: Arc::default(),
            default_ttl,
            clock,
        }
    }

    fn now(&self) -> Instant {
        self.clock
            .as_ref()
            .map_or_else(Instant::now, ManualClock::now)
    }
}

impl CacheBackend for Reference {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        self.check_key(key)?;
        let now = self.now();
        let entries = self.entries.lock().unwrap();
        Ok(match entries.get(key) {
            Some((value, None)) => {
                Some(CachedValue::new(value.payload().clone()).with_cached_at(value.cached_at()))
            }
            Some((value, Some(deadline))) if *deadline > now => {
                Some(value.clone().with_ttl(*deadline - now))
            }
            _ => None,
        })
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        self.check_key(key)?;
        let now = self.now();
        let deadline = value
            .lifetime(self.default_ttl)
            .and_then(|ttl| now.checked_add(ttl));
        self.entries
            .lock()
            .unwrap()
            .insert(key.to_owned(), (value, deadline));
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.check_key(key)?;
        self.entries.lock().unwrap().remove(key);
        Ok(())
    }
}

pub(crate) struct ReferenceHarness {
    pub(crate) clock: Clock,
}

impl Harness for ReferenceHarness {
    type Backend = Reference;

    fn capabilities(&self) -> Capabilities {
        Capabilities::default().with_clock(self.clock)
    }

    async fn open(&self, options: &Options) -> Result<Reference, OpenError> {
        let clock = (self.clock == Clock::Manual).then(|| options.clock.clone());
        Ok(Reference::new(options.default_ttl, clock))
    }

    async fn again(&self, backend: &Reference, _: &Options) -> Result<Reference, OpenError> {
        Ok(backend.clone())
    }
}
