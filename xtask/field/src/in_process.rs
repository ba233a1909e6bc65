//! Caches that live in the process.

pub mod cached;
mod cachet;
mod moka;
mod no_expiry;
mod stretto;

use std::marker::PhantomData;
use std::time::Duration;

use cache_conformance::{Harness, OpenError, Options};
use cache_core::{CacheBackend, CachedValue, Result};

use crate::entry::Entry;

/// A cache of entries. What it evicts to stay within a bound is not at issue: it is made large.
pub trait Map: Clone + Send + Sync + 'static {
    fn open() -> Self;
    fn get(&self, key: &str) -> impl Future<Output = Option<CachedValue<Vec<u8>>>> + Send;
    fn insert(&self, key: &str, entry: Entry) -> impl Future<Output = ()> + Send;
    fn remove(&self, key: &str) -> impl Future<Output = ()> + Send;
}

#[derive(Clone)]
pub struct InProcess<M> {
    map: M,
    default_ttl: Duration,
}

impl<M: Map> CacheBackend for InProcess<M> {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        Ok(self.map.get(key).await)
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        match Entry::new(value, self.default_ttl) {
            Some(entry) => self.map.insert(key, entry).await,
            None => self.map.remove(key).await,
        }
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.map.remove(key).await;
        Ok(())
    }
}

/// Opens an [`InProcess`].
pub struct Opens<M>(pub PhantomData<fn() -> M>);

impl<M: Map> Harness for Opens<M> {
    type Backend = InProcess<M>;

    async fn open(&self, options: &Options) -> Result<Self::Backend, OpenError> {
        Ok(InProcess {
            map: M::open(),
            default_ttl: options.default_ttl,
        })
    }

    async fn again(&self, first: &Self::Backend, _: &Options) -> Result<Self::Backend, OpenError> {
        Ok(first.clone())
    }
}
