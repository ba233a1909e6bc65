//! Caches that live in the process.

pub mod cached;
pub mod foyer;
pub mod mini_moka;
pub mod moka;
pub mod papaya;
pub mod quick_cache;
pub mod stretto;

use std::marker::PhantomData;
use std::time::Duration;

use cache_conformance::{Harness, OpenError, Options};
use cache_core::{CacheBackend, CachedValue, Result};

use crate::entry::Entry;

/// A cache of entries. What it evicts to stay within a bound is not at issue: it is made large.
pub trait Map: Clone + Send + Sync + 'static {
    /// An empty one; for caches with one TTL for all values, this one.
    fn open(default_ttl: Duration) -> Self;
    fn get(&self, key: &str) -> Option<CachedValue<Vec<u8>>>;
    fn insert(&self, key: &str, entry: Entry);
    fn remove(&self, key: &str);
}

#[derive(Clone)]
pub struct InProcess<M> {
    map: M,
    default_ttl: Duration,
}

impl<M: Map> CacheBackend for InProcess<M> {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        Ok(self.map.get(key))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        match Entry::new(value, self.default_ttl) {
            Some(entry) => self.map.insert(key, entry),
            None => self.map.remove(key),
        }
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.map.remove(key);
        Ok(())
    }
}

/// Opens an [`InProcess`].
pub struct Opens<M>(pub PhantomData<fn() -> M>);

impl<M: Map> Harness for Opens<M> {
    type Backend = InProcess<M>;

    async fn open(&self, options: &Options) -> Result<Self::Backend, OpenError> {
        let default_ttl = options.default_ttl;
        Ok(InProcess {
            map: M::open(default_ttl),
            default_ttl,
        })
    }

    async fn again(
        &self,
        backend: &Self::Backend,
        _: &Options,
    ) -> Result<Self::Backend, OpenError> {
        Ok(backend.clone())
    }
}
