//! [`DynBackend`], a backend whose type is chosen at run time.

use std::fmt;
use std::sync::Arc;

use crate::{CacheBackend, CachedValue, Result};
use erased::Erased;

/// A shared handle to any backend with values of type `V`, for programs that choose the backend at
/// run time. Cloning it is cheap; all clones refer to the same backend.
///
/// A call costs one allocation more than a call on the backend itself; `get` and `delete` of an
/// [`IMMEDIATE`](CacheBackend::IMMEDIATE) backend cost none.
///
/// The handle hides methods that are specific to a backend, such as its statistics. To use them,
/// keep a clone of the backend, which is itself a cheap handle.
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
pub struct DynBackend<V>(Arc<dyn Erased<V>>);

impl<V: Send + 'static> DynBackend<V> {
    /// Creates a handle to `backend`.
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

    const IMMEDIATE: bool = false;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<V>>> {
        self.0.get(key).finish().await
    }

    async fn set(&self, key: &str, value: CachedValue<V>) -> Result<()> {
        self.0.set(key, value).finish().await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key).finish().await
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<V>>>> {
        self.0.get_multi(keys).finish().await
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<V>)>) -> Result<()> {
        self.0.set_multi(entries).finish().await
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        self.0.delete_multi(keys).finish().await
    }
}

/// The object-safe twin of the trait. It has its own module because method calls are ambiguous
/// where both traits are in scope.
mod erased {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use crate::{CacheBackend, CachedValue, Result};

    /// An operation that has been started.
    pub(super) enum Started<'a, T> {
        Ready(T),
        Waiting(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
    }

    impl<T> Started<'_, T> {
        pub(super) async fn finish(self) -> T {
            match self {
                Self::Ready(output) => output,
                Self::Waiting(future) => future.await,
            }
        }
    }

    /// Starts an operation of a backend `B`. If `B` is immediate, the first poll is on the stack.
    ///
    /// A future that was polled must not move, so one that is pending after all is dropped and
    /// created again. This is not possible for `set`, which consumes its value.
    fn start<'a, B: CacheBackend, F>(operation: impl Fn() -> F) -> Started<'a, F::Output>
    where
        F: Future + Send + 'a,
    {
        if B::IMMEDIATE
            && let Poll::Ready(output) =
                pin!(operation()).poll(&mut Context::from_waker(Waker::noop()))
        {
            return Started::Ready(output);
        }
        Started::Waiting(Box::pin(operation()))
    }

    pub(super) trait Erased<V>: Send + Sync {
        fn get<'a>(&'a self, key: &'a str) -> Started<'a, Result<Option<CachedValue<V>>>>;
        fn set<'a>(&'a self, key: &'a str, value: CachedValue<V>) -> Started<'a, Result<()>>;
        fn delete<'a>(&'a self, key: &'a str) -> Started<'a, Result<()>>;
        fn get_multi<'a>(
            &'a self,
            keys: &'a [&'a str],
        ) -> Started<'a, Vec<Result<Option<CachedValue<V>>>>>;
        fn set_multi<'a>(
            &'a self,
            entries: Vec<(&'a str, CachedValue<V>)>,
        ) -> Started<'a, Result<()>>;
        fn delete_multi<'a>(&'a self, keys: &'a [&'a str]) -> Started<'a, Result<()>>;
    }

    impl<B: CacheBackend> Erased<B::Value> for B {
        fn get<'a>(&'a self, key: &'a str) -> Started<'a, Result<Option<CachedValue<B::Value>>>> {
            start::<B, _>(|| CacheBackend::get(self, key))
        }

        fn set<'a>(
            &'a self,
            key: &'a str,
            value: CachedValue<B::Value>,
        ) -> Started<'a, Result<()>> {
            Started::Waiting(Box::pin(CacheBackend::set(self, key, value)))
        }

        fn delete<'a>(&'a self, key: &'a str) -> Started<'a, Result<()>> {
            start::<B, _>(|| CacheBackend::delete(self, key))
        }

        fn get_multi<'a>(
            &'a self,
            keys: &'a [&'a str],
        ) -> Started<'a, Vec<Result<Option<CachedValue<B::Value>>>>> {
            Started::Waiting(Box::pin(CacheBackend::get_multi(self, keys)))
        }

        fn set_multi<'a>(
            &'a self,
            entries: Vec<(&'a str, CachedValue<B::Value>)>,
        ) -> Started<'a, Result<()>> {
            Started::Waiting(Box::pin(CacheBackend::set_multi(self, entries)))
        }

        fn delete_multi<'a>(&'a self, keys: &'a [&'a str]) -> Started<'a, Result<()>> {
            Started::Waiting(Box::pin(CacheBackend::delete_multi(self, keys)))
        }
    }
}
