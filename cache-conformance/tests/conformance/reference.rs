//! A small backend that keeps the contract, with either clock.

use std::time::Duration;

use cache_conformance::mutants::Store;
use cache_conformance::{Capabilities, Clock, Harness, ManualClock, OpenError, Options};
use cache_core::{CacheBackend, CachedValue, Result};

/// Implements only the required methods.
#[derive(Clone)]
pub(crate) struct Reference(Store);

impl Reference {
    pub(crate) fn new(default_ttl: Duration, clock: Option<ManualClock>) -> Self {
        Self(Store::new(default_ttl, clock))
    }
}

impl CacheBackend for Reference {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        Ok(self.0.read(key))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        self.0.write(key, value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.0.remove(key);
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
