//! [`Observed`], which reports each call to an observer.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{CacheBackend, CachedValue, Error, Result};

/// An operation of [`CacheBackend`].
///
/// ```
/// assert_eq!(cache_core::Operation::GetMulti.as_str(), "get_multi");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// [`get`](CacheBackend::get)
    Get,
    /// [`set`](CacheBackend::set)
    Set,
    /// [`delete`](CacheBackend::delete)
    Delete,
    /// [`get_multi`](CacheBackend::get_multi)
    GetMulti,
    /// [`set_multi`](CacheBackend::set_multi)
    SetMulti,
    /// [`delete_multi`](CacheBackend::delete_multi)
    DeleteMulti,
}

impl Operation {
    /// Returns the name of the method.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::GetMulti => "get_multi",
            Self::SetMulti => "set_multi",
            Self::DeleteMulti => "delete_multi",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A call that has ended, as an [`Observer`] sees it.
///
/// ```
/// use cache_core::Call;
///
/// /// The label of a metric.
/// fn outcome(call: &Call<'_>) -> &'static str {
///     match call.error {
///         Some(error) => error.kind().as_str(),
///         None if call.cancelled => "cancelled",
///         None => "ok",
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The operation.
    pub operation: Operation,
    /// Its keys, in the caller's order.
    pub keys: &'a [&'a str],
    /// The number of keys of a read that had a value.
    pub hits: usize,
    /// The number of keys of a read that had none. Keys that failed are neither hits nor misses.
    pub misses: usize,
    /// The error, if any; for a `get_multi`, the first one. Its [`kind`](Error::kind) can be used
    /// as a label.
    pub error: Option<&'a Error>,
    /// The time from the first poll to the end of the call; `None` if the observer did not
    /// [want it](Observer::wants_duration).
    pub duration: Option<Duration>,
    /// Whether the caller dropped the future before the call had ended. A future that is dropped
    /// before its first poll is not reported, nor one that a panic of the caller drops.
    pub cancelled: bool,
}

/// Receives the reports of [`Observed`]. A closure that takes a [`Call`] is an observer.
///
/// It runs in the caller's task and should return quickly. A panic in it is caught and does not
/// affect the call. If the backend itself panics, the call is not reported.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use cache_core::{Call, Observer, Operation};
///
/// /// Counts misses, and times one call in a hundred.
/// #[derive(Default)]
/// struct Metrics {
///     calls: AtomicUsize,
///     misses: AtomicUsize,
/// }
///
/// impl Observer for Metrics {
///     fn observe(&self, call: &Call<'_>) {
///         self.misses.fetch_add(call.misses, Ordering::Relaxed);
///     }
///
///     fn wants_duration(&self, _: Operation) -> bool {
///         self.calls.fetch_add(1, Ordering::Relaxed) % 100 == 0
///     }
/// }
/// ```
pub trait Observer: Send + Sync {
    /// Called when a call has ended.
    ///
    /// ```
    /// # use cache_core::{Call, Observer};
    /// struct Log;
    ///
    /// impl Observer for Log {
    ///     fn observe(&self, call: &Call<'_>) {
    ///         if let Some(error) = call.error {
    ///             eprintln!("{} failed: {error}", call.operation);
    ///         }
    ///     }
    /// }
    /// ```
    fn observe(&self, call: &Call<'_>);

    /// Returns whether to time the call that begins. Reading the clock twice takes about 50 ns,
    /// longer than a hit in memory, so an observer may time one call in a hundred, or none.
    ///
    /// By default every call is timed.
    ///
    /// ```
    /// # use cache_core::{Call, Observer, Operation};
    /// struct Counts;
    ///
    /// impl Observer for Counts {
    ///     fn observe(&self, call: &Call<'_>) {
    ///         assert_eq!(call.duration, None);
    ///     }
    ///
    ///     fn wants_duration(&self, _: Operation) -> bool {
    ///         false
    ///     }
    /// }
    /// ```
    fn wants_duration(&self, _operation: Operation) -> bool {
        true
    }
}

impl<F: Fn(&Call<'_>) + Send + Sync> Observer for F {
    fn observe(&self, call: &Call<'_>) {
        self(call);
    }
}

/// Reports every call of the backend to an [`Observer`], for metrics, traces and logs: the
/// counterpart of oslo.cache's `debug_cache_backend`.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use cache_core::{CacheBackend, CacheBackendExt, Call};
/// # use cache_core::{CachedValue, Result};
/// # struct Memory;
/// # impl CacheBackend for Memory {
/// #   type Value = String;
/// #   async fn get(&self, _: &str) -> Result<Option<CachedValue<String>>> { Ok(None) }
/// #   async fn set(&self, _: &str, _: CachedValue<String>) -> Result<()> { Ok(()) }
/// #   async fn delete(&self, _: &str) -> Result<()> { Ok(()) }
/// # }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let misses = Arc::new(AtomicUsize::new(0));
/// let counter = Arc::clone(&misses);
/// let cache = Memory.observed(move |call: &Call<'_>| {
///     counter.fetch_add(call.misses, Ordering::Relaxed);
/// });
/// cache.get("key").await?;
/// assert_eq!(misses.load(Ordering::Relaxed), 1);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Observed<B> {
    backend: B,
    observer: Arc<dyn Observer>,
}

impl<B> Observed<B> {
    /// Reports the calls of `backend` to `observer`.
    pub fn new(backend: B, observer: impl Observer + 'static) -> Self {
        Self {
            backend,
            observer: Arc::new(observer),
        }
    }

    fn begin<'a>(&'a self, operation: Operation, keys: &'a [&'a str]) -> Pending<'a> {
        let timed = guarded(|| self.observer.wants_duration(operation)).unwrap_or(false);
        Pending {
            observer: &*self.observer,
            begin: timed.then(Instant::now),
            operation,
            keys,
            ended: false,
        }
    }
}

crate::wrapper::access!(Observed<B>);

impl<B: fmt::Debug> fmt::Debug for Observed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed")
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

/// Calls the observer. If it panics, the observed call is not affected.
fn guarded<T>(observer: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(observer)).ok()
}

/// A call in progress. Dropping it reports that the call was cancelled.
struct Pending<'a> {
    observer: &'a dyn Observer,
    begin: Option<Instant>,
    operation: Operation,
    keys: &'a [&'a str],
    ended: bool,
}

impl Pending<'_> {
    fn end(mut self, hits: usize, misses: usize, error: Option<&Error>) {
        self.report(hits, misses, error, false);
    }

    fn report(&mut self, hits: usize, misses: usize, error: Option<&Error>, cancelled: bool) {
        self.ended = true;
        let call = Call {
            operation: self.operation,
            keys: self.keys,
            hits,
            misses,
            error,
            duration: self.begin.map(|begin| begin.elapsed()),
            cancelled,
        };
        guarded(|| self.observer.observe(&call));
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // A call that panics was not cancelled.
        if !self.ended && !std::thread::panicking() {
            self.report(0, 0, None, true);
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for Observed<B> {
    type Value = B::Value;

    const IMMEDIATE: bool = B::IMMEDIATE;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<B::Value>>> {
        let keys = [key];
        let pending = self.begin(Operation::Get, &keys);
        let found = self.backend.get(key).await;
        let hit = matches!(found, Ok(Some(_)));
        let miss = matches!(found, Ok(None));
        pending.end(hit.into(), miss.into(), found.as_ref().err());
        found
    }

    async fn set(&self, key: &str, value: CachedValue<B::Value>) -> Result<()> {
        let keys = [key];
        let pending = self.begin(Operation::Set, &keys);
        let done = self.backend.set(key, value).await;
        pending.end(0, 0, done.as_ref().err());
        done
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let keys = [key];
        let pending = self.begin(Operation::Delete, &keys);
        let done = self.backend.delete(key).await;
        pending.end(0, 0, done.as_ref().err());
        done
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<B::Value>>>> {
        let pending = self.begin(Operation::GetMulti, keys);
        let found = self.backend.get_multi(keys).await;
        let hits = found.iter().filter(|found| matches!(found, Ok(Some(_))));
        let misses = found.iter().filter(|found| matches!(found, Ok(None)));
        let error = found.iter().find_map(|found| found.as_ref().err());
        pending.end(hits.count(), misses.count(), error);
        found
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<B::Value>)>) -> Result<()> {
        let keys: Vec<&str> = entries.iter().map(|(key, _)| *key).collect();
        let pending = self.begin(Operation::SetMulti, &keys);
        let done = self.backend.set_multi(entries).await;
        pending.end(0, 0, done.as_ref().err());
        done
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        let pending = self.begin(Operation::DeleteMulti, keys);
        let done = self.backend.delete_multi(keys).await;
        pending.end(0, 0, done.as_ref().err());
        done
    }
}
