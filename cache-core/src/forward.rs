//! Implementations of the trait for references, smart pointers and `Option`.

use std::sync::Arc;

use crate::{CacheBackend, CachedValue, Result};

/// Forwards every method, including those with a default implementation.
macro_rules! forward {
    ($pointer:ty) => {
        #[deny(clippy::missing_trait_methods)]
        impl<B: CacheBackend + ?Sized> CacheBackend for $pointer {
            type Value = B::Value;

            const IMMEDIATE: bool = B::IMMEDIATE;

            fn get(
                &self,
                key: &str,
            ) -> impl Future<Output = Result<Option<CachedValue<Self::Value>>>> + Send {
                (**self).get(key)
            }

            fn set(
                &self,
                key: &str,
                value: CachedValue<Self::Value>,
            ) -> impl Future<Output = Result<()>> + Send {
                (**self).set(key, value)
            }

            fn delete(&self, key: &str) -> impl Future<Output = Result<()>> + Send {
                (**self).delete(key)
            }

            fn get_multi(
                &self,
                keys: &[&str],
            ) -> impl Future<Output = Vec<Result<Option<CachedValue<Self::Value>>>>> + Send {
                (**self).get_multi(keys)
            }

            fn set_multi(
                &self,
                entries: Vec<(&str, CachedValue<Self::Value>)>,
            ) -> impl Future<Output = Result<()>> + Send {
                (**self).set_multi(entries)
            }

            fn delete_multi(&self, keys: &[&str]) -> impl Future<Output = Result<()>> + Send {
                (**self).delete_multi(keys)
            }
        }
    };
}

forward!(&B);
forward!(Box<B>);
forward!(Arc<B>);

/// A cache that can be switched off: `None` always misses and stores nothing, as with
/// `enabled = false` in oslo.cache.
///
/// ```
/// use cache_core::{CacheBackend, CachedValue};
/// # use cache_core::Result;
/// # struct Memory;
/// # impl CacheBackend for Memory {
/// #   type Value = String;
/// #   async fn get(&self, _: &str) -> Result<Option<CachedValue<String>>> { Ok(None) }
/// #   async fn set(&self, _: &str, _: CachedValue<String>) -> Result<()> { Ok(()) }
/// #   async fn delete(&self, _: &str) -> Result<()> { Ok(()) }
/// # }
/// # let enabled = false;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cache = enabled.then_some(Memory);
/// cache.set("key", CachedValue::new("value".into())).await?;
/// assert!(cache.get("key").await?.is_none());
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for Option<B> {
    type Value = B::Value;

    const IMMEDIATE: bool = B::IMMEDIATE;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<B::Value>>> {
        match self {
            Some(backend) => backend.get(key).await,
            None => Ok(None),
        }
    }

    async fn set(&self, key: &str, value: CachedValue<B::Value>) -> Result<()> {
        match self {
            Some(backend) => backend.set(key, value).await,
            None => Ok(()),
        }
    }

    async fn delete(&self, key: &str) -> Result<()> {
        match self {
            Some(backend) => backend.delete(key).await,
            None => Ok(()),
        }
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<B::Value>>>> {
        match self {
            Some(backend) => backend.get_multi(keys).await,
            None => keys.iter().map(|_| Ok(None)).collect(),
        }
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<B::Value>)>) -> Result<()> {
        match self {
            Some(backend) => backend.set_multi(entries).await,
            None => Ok(()),
        }
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        match self {
            Some(backend) => backend.delete_multi(keys).await,
            None => Ok(()),
        }
    }
}
