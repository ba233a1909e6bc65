//! [`CacheBackend`], the contract.

use std::collections::HashSet;

use crate::{CachedValue, Error, Result};

/// A cache backend: six operations over string keys, any of them callable from many tasks at
/// once.
///
/// Three methods make a backend; the operations on several keys have defaults that are correct,
/// if slow. `cache-conformance` tests each rule below against an implementation.
///
/// # The contract
///
/// **Misses and errors.**
/// - A miss is `Ok(None)` (dogpile.cache's `NO_VALUE`).
/// - An error is never turned into a miss, and a miss is never an error. A caller that prefers
///   misses wraps the backend in [`MissOnError`](crate::MissOnError).
/// - An error names the keys it concerns and no others. It shows neither payloads nor
///   credentials, and stays one short line whatever the keys are.
///
/// **Several keys.**
/// - [`get_multi`](Self::get_multi) returns one result for each key: as many results as keys,
///   in their order, and a key that is asked for twice is answered twice. A key that fails is an
///   error in its own position and leaves the others alone. Each key is asked for once.
/// - A write to several keys that fails for some of them is an
///   [`ErrorKind::Partial`](crate::ErrorKind::Partial) error that names every key that failed
///   and no other; the others were written. If all of them failed it is the failure itself.
/// - In [`set_multi`](Self::set_multi) only the last value of a repeated key counts.
/// - An empty list needs no I/O and succeeds.
///
/// **Writes.**
/// - [`set`](Self::set) replaces payload, metadata and deadline together.
/// - [`delete`](Self::delete) and [`delete_multi`](Self::delete_multi) are idempotent: deleting
///   a key without a value succeeds.
///
/// **Lifetimes.**
/// - A value's own [TTL](CachedValue::with_ttl) comes first, then the backend's default;
///   without either the value does not expire. [`Ttl::or_default`](crate::Ttl::or_default) is
///   this rule.
/// - Zero as the backend's default means no expiry (as in oslo.cache). Zero as a value's own
///   TTL means expired at once: a `get` that follows misses, also if the key had a value.
/// - A TTL too large to represent means no expiry, never an early one.
/// - A value is never served at or after its deadline, by any operation, however coarse the
///   clock of the store. It is not lost before the deadline, less the granularity that the
///   backend declares; eviction under a stated bound on size is not a loss in this sense.
/// - Reading never extends a lifetime.
///
/// **Metadata.**
/// - [`cached_at`](CachedValue::cached_at) is returned as it was set, to a microsecond or finer.
/// - [`ttl`](CachedValue::ttl) of a value that was read is the time it has left, or
///   [`Ttl::Never`](crate::Ttl::Never).
///
/// **Keys.**
/// - A key is kept faithfully: case, spaces, CR LF, NUL, and the forms of Unicode; or it is
///   refused with [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) and the reason. It is
///   never truncated, trimmed, folded, or allowed to inject anything into a protocol.
/// - The empty key is a key like any other where the store can keep it, and is refused where
///   it cannot.
///
/// **Values.**
/// - Payloads are returned as they were set, the empty one too.
/// - A payload that is too large is an
///   [`ErrorKind::ValueTooLarge`](crate::ErrorKind::ValueTooLarge) error; what the key held
///   before is gone, since keeping it would serve what the caller meant to replace. The
///   connection remains usable.
///
/// **Time and cancellation.**
/// - Every call returns within the configured timeout, with a result or an error.
/// - A future may be dropped at any await. Backend and connections remain correct for the next
///   caller, and no slot is leaked.
/// - Dropping a future withdraws what has not left the process: it is not sent later, and the
///   memory it held is released at once. A write that was already on its way may still be
///   applied.
///
/// # Implementing it
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
/// use cache_core::{CacheBackend, CachedValue, Result};
///
/// /// Keeps values until they are deleted.
/// #[derive(Default)]
/// struct Forever(Mutex<HashMap<String, CachedValue<String>>>);
///
/// impl CacheBackend for Forever {
///     type Value = String;
///
///     async fn get(&self, key: &str) -> Result<Option<CachedValue<String>>> {
///         Ok(self.0.lock().unwrap().get(key).cloned())
///     }
///
///     async fn set(&self, key: &str, value: CachedValue<String>) -> Result<()> {
///         self.0.lock().unwrap().insert(key.to_owned(), value);
///         Ok(())
///     }
///
///     async fn delete(&self, key: &str) -> Result<()> {
///         self.0.lock().unwrap().remove(key);
///         Ok(())
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cache = Forever::default();
/// cache.set_multi(vec![("a", CachedValue::new("1".into()))]).await?;
///
/// // A result for each key; `collect` makes one of them all.
/// let found = cache.get_multi(&["a", "b", "a"]).await;
/// let found: Vec<Option<_>> = found.into_iter().collect::<Result<_>>()?;
/// assert_eq!(found.iter().flatten().count(), 2);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub trait CacheBackend: Send + Sync {
    /// The type of the payloads. In-process backends keep any type; those that send it over a wire keep
    /// `Vec<u8>`, and [`Typed`](crate::Typed) turns them into backends of other types.
    type Value: Send + 'static;

    /// Whether [`get`](Self::get) and [`delete`](Self::delete) complete at their first poll, as
    /// in a map in memory.
    ///
    /// [`DynBackend`](crate::DynBackend) then calls them without an allocation. A backend that
    /// says so and waits all the same still works: the call is withdrawn and begun again.
    const IMMEDIATE: bool = false;

    /// Returns the value cached under `key`, or `None`.
    fn get(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<CachedValue<Self::Value>>>> + Send;

    /// Caches `value` under `key`, replacing any value there.
    fn set(
        &self,
        key: &str,
        value: CachedValue<Self::Value>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes the value cached under `key`, if there is one.
    fn delete(&self, key: &str) -> impl Future<Output = Result<()>> + Send;

    /// Returns the values cached under `keys`: one result for each key, in their order.
    ///
    /// By default one [`get`](Self::get) after another. A transient failure is the result of
    /// its key and of all that follow, so that a dead server costs one timeout and not one for
    /// each key; a backend that can do better overrides this method.
    ///
    /// ```
    /// # use cache_core::{CacheBackend, Result};
    /// # async fn example<B: CacheBackend>(cache: &B) -> Result<()> {
    /// // The first failure ends it:
    /// let all: Vec<Option<_>> = cache.get_multi(&["a", "b"]).await.into_iter().collect::<Result<_>>()?;
    ///
    /// // A failure is a miss:
    /// for (key, found) in ["a", "b"].iter().zip(cache.get_multi(&["a", "b"]).await) {
    ///     let cached: Option<_> = found.unwrap_or_default();
    /// }
    /// # Ok(()) }
    /// ```
    fn get_multi(
        &self,
        keys: &[&str],
    ) -> impl Future<Output = Vec<Result<Option<CachedValue<Self::Value>>>>> + Send {
        async move {
            let mut found = Vec::with_capacity(keys.len());
            let mut gave_up: Option<Error> = None;
            for key in keys {
                found.push(match &gave_up {
                    Some(error) => Err(error.clone().with_key(*key)),
                    None => self.get(key).await,
                });
                if let (None, Some(Err(error))) = (&gave_up, found.last()) {
                    gave_up = error.is_transient().then(|| error.clone());
                }
            }
            found
        }
    }

    /// Caches each value under its key.
    ///
    /// By default one [`set`](Self::set) after another. A transient failure ends the call and
    /// counts for the keys that follow; after any other the rest is still set.
    fn set_multi(
        &self,
        entries: Vec<(&str, CachedValue<Self::Value>)>,
    ) -> impl Future<Output = Result<()>> + Send {
        async move {
            let mut outcome = WriteOutcome::default();
            for (key, value) in last_values(entries) {
                if outcome.gave_up() {
                    outcome.skipped(key);
                } else {
                    outcome.done(key, self.set(key, value).await);
                }
            }
            outcome.into_result()
        }
    }

    /// Removes the values cached under `keys`.
    ///
    /// By default one [`delete`](Self::delete) after another, by the rule of
    /// [`set_multi`](Self::set_multi).
    fn delete_multi(&self, keys: &[&str]) -> impl Future<Output = Result<()>> + Send {
        async move {
            let mut outcome = WriteOutcome::default();
            for (key, ()) in last_values(keys.iter().map(|key| (*key, ())).collect()) {
                if outcome.gave_up() {
                    outcome.skipped(key);
                } else {
                    outcome.done(key, self.delete(key).await);
                }
            }
            outcome.into_result()
        }
    }
}

/// Each key with the last of its values.
pub(crate) fn last_values<V>(mut entries: Vec<(&str, V)>) -> Vec<(&str, V)> {
    let mut seen = HashSet::with_capacity(entries.len());
    entries.reverse();
    entries.retain(|(key, _)| seen.insert(*key));
    entries.reverse();
    entries
}

/// The outcome of a write to several keys, one after another.
#[derive(Default)]
pub(crate) struct WriteOutcome {
    total: usize,
    failed: Vec<String>,
    cause: Option<Error>,
}

impl WriteOutcome {
    fn gave_up(&self) -> bool {
        self.cause.as_ref().is_some_and(Error::is_transient)
    }

    fn skipped(&mut self, key: &str) {
        self.total += 1;
        self.failed.push(key.to_owned());
    }

    pub(crate) fn done(&mut self, key: &str, result: Result<()>) {
        self.total += 1;
        if let Err(error) = result {
            self.failed.push(key.to_owned());
            // A transient error is the one that ends the call.
            if self.cause.is_none() || error.is_transient() {
                self.cause = Some(error);
            }
        }
    }

    /// Adds the result of one call that wrote `total` keys.
    pub(crate) fn done_multi(&mut self, total: usize, result: Result<()>) {
        self.total += total;
        if let Err(error) = result {
            self.failed.extend(error.keys().iter().cloned());
            let cause = match std::error::Error::source(&error) {
                Some(source) if error.kind() == crate::ErrorKind::Partial => {
                    source.downcast_ref().unwrap_or(&error).clone()
                }
                _ => error,
            };
            self.cause = Some(cause);
        }
    }

    pub(crate) fn into_result(self) -> Result<()> {
        match self.cause {
            None => Ok(()),
            Some(cause) => Err(Error::partial(cause, self.failed, self.total)),
        }
    }
}
