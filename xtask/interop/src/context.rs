//! The environment of a check.

use anyhow::{Context as _, Result};
use cache_core::{CacheBackend as _, CachedValue, DynBackend};
use tokio::runtime::Runtime;

use crate::python::Python;
use crate::recipe::Recipe;
use crate::servers::Servers;
use crate::sides::Region;

pub(crate) struct Context {
    pub(crate) servers: Servers,
    pub(crate) runtime: Runtime,
    pub(crate) python: Python,
}

impl Context {
    pub(crate) fn region(&self, recipe: &Recipe) -> Result<Region<'_>> {
        Region::make(&self.python, recipe)
    }

    pub(crate) fn set<T: Send + Sync + 'static>(
        &self,
        cache: &DynBackend<T>,
        key: &str,
        value: CachedValue<T>,
    ) -> Result<()> {
        Ok(self.runtime.block_on(cache.set(key, value))?)
    }

    pub(crate) fn get<T: Send + Sync + 'static>(
        &self,
        cache: &DynBackend<T>,
        key: &str,
    ) -> Result<CachedValue<T>> {
        let found = self.runtime.block_on(cache.get(key))?;
        found.with_context(|| format!("Rust misses {key}"))
    }
}
