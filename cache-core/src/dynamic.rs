//! [`DynBackend`], a backend whose type is chosen at run time.

use std::fmt;
use std::sync::Arc;

use crate::{CacheBackend, CachedValue, Result};

/// A shared handle to any backend of values `V`, for programs that choose it from their
/// configuration. Cloning it is cheap, and each clone reaches the same backend.
///
/// A call costs one allocation more than a call on the backend itself.
///
/// ```
/// use cache_core::{CacheBackend, CachedValue, DynBackend};
/// # use cache_core::Result;
/// # struct Memory; struct Remote;
/// # impl CacheBackend for Memory {
/// #   type Value = String;
/// #   async fn get(&self, _: &str) -> Result<Option<CachedValue<String>>> { Ok(None) }
/// #   async fn set(&self, _: &str, _: CachedValue<String>) -> Result<()> { Ok(()) }
/// #   async fn delete(&self, _: &str) -> Result<()> { Ok(()) }
/// # }
/// # impl CacheBackend for Remote {
/// #   type Value = String;
/// #   async fn get(&self, _: &str) -> Result<Option<CachedValue<String>>> { Ok(None) }
/// #   async fn set(&self, _: &str, _: CachedValue<String>) -> Result<()> { Ok(()) }
/// #   async fn delete(&self, _: &str) -> Result<()> { Ok(()) }
/// # }
///
/// fn from_configuration(name: &str) -> DynBackend<String> {
///     match name {
///         "remote" => DynBackend::new(Remote),
///         _ => DynBackend::new(Memory),
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cache = from_configuration("memory");
/// let for_a_task = cache.clone();
/// for_a_task.set("key", CachedValue::new("value".into())).await?;
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct DynBackend<V>(Arc<dyn erased::Erased<V>>);

impl<V: Send + 'static> DynBackend<V> {
    /// Hides the type of `backend`.
    pub fn new(backend: impl CacheBackend<Value = V> + 'static) -> Self {
        Self(Arc::new(backend))
    }
}

impl<V> Clone for DynBackend<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for DynBackend<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynBackend").finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<V: Send + 'static> CacheBackend for DynBackend<V> {
    type Value = V;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<V>>> {
        self.0.get(key).await
    }

    async fn set(&self, key: &str, value: CachedValue<V>) -> Result<()> {
        self.0.set(key, value).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key).await
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<CachedValue<V>>>> {
        self.0.get_multi(keys).await
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<V>)>) -> Result<()> {
        self.0.set_multi(entries).await
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        self.0.delete_multi(keys).await
    }

    fn check_key(&self, key: &str) -> Result<()> {
        self.0.check_key(key)
    }
}

/// The twin of the trait that can be a `dyn`. In a module of its own, since a type that had
/// both traits in scope could call neither method without saying which.
mod erased {
    use std::pin::Pin;

    use crate::{CacheBackend, CachedValue, Result};

    type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

    pub(super) trait Erased<V>: Send + Sync {
        fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<CachedValue<V>>>>;
        fn set<'a>(&'a self, key: &'a str, value: CachedValue<V>) -> BoxFuture<'a, Result<()>>;
        fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>>;
        fn get_multi<'a>(
            &'a self,
            keys: &'a [&'a str],
        ) -> BoxFuture<'a, Result<Vec<Option<CachedValue<V>>>>>;
        fn set_multi<'a>(
            &'a self,
            entries: Vec<(&'a str, CachedValue<V>)>,
        ) -> BoxFuture<'a, Result<()>>;
        fn delete_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<()>>;
        fn check_key(&self, key: &str) -> Result<()>;
    }

    impl<B: CacheBackend> Erased<B::Value> for B {
        fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<CachedValue<B::Value>>>> {
            Box::pin(CacheBackend::get(self, key))
        }

        fn set<'a>(
            &'a self,
            key: &'a str,
            value: CachedValue<B::Value>,
        ) -> BoxFuture<'a, Result<()>> {
            Box::pin(CacheBackend::set(self, key, value))
        }

        fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
            Box::pin(CacheBackend::delete(self, key))
        }

        fn get_multi<'a>(
            &'a self,
            keys: &'a [&'a str],
        ) -> BoxFuture<'a, Result<Vec<Option<CachedValue<B::Value>>>>> {
            Box::pin(CacheBackend::get_multi(self, keys))
        }

        fn set_multi<'a>(
            &'a self,
            entries: Vec<(&'a str, CachedValue<B::Value>)>,
        ) -> BoxFuture<'a, Result<()>> {
            Box::pin(CacheBackend::set_multi(self, entries))
        }

        fn delete_multi<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<()>> {
            Box::pin(CacheBackend::delete_multi(self, keys))
        }

        fn check_key(&self, key: &str) -> Result<()> {
            CacheBackend::check_key(self, key)
        }
    }
}
