//! [`CacheBackend`], the contract.

use std::collections::HashSet;

use crate::{CachedValue, Error, Result};

/// A cache backend: six operations over string keys, any of them callable from many tasks at
/// once.
///
/// Three methods are required. The operations on several keys have default implementations, which
/// are correct but work key by key. `cache-conformance` tests an implementation against each rule
/// below.
///
/// # The contract
///
/// **Misses and errors.**
/// - A miss is `Ok(None)` (dogpile.cache's `NO_VALUE`).
/// - An error is never turned into a miss, and a miss is never an error. A caller that prefers
///   misses wraps the backend in [`MissOnError`](crate::MissOnError).
/// - An error names the keys it concerns and no others. It shows neither payloads nor
///   credentials, and its `Display` form is one short line whatever the keys are.
///
/// **Several keys.**
/// - [`get_multi`](Self::get_multi) returns one result for each key: as many results as keys,
///   in their order, and a repeated key has a result in each of its positions. A key that is
///   invalid, or whose value cannot be read, is an error in its own position and does not affect
///   the others. A server that fails may fail every key that it has to answer.
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
/// - Zero as the backend's default means no expiry (as in oslo.cache). A value whose own TTL is
///   zero has already expired when it is set: the next `get` misses, even if the key had a value.
/// - A TTL too large to represent means no expiry, never an early one.
/// - A value is never served at or after its deadline, by any operation, however coarse the
///   clock of the store. It is not lost before the deadline, less the granularity that the
///   backend documents; eviction under a documented bound on size is not a loss in this sense.
/// - Reading never extends a lifetime.
///
/// **Metadata.**
/// - [`cached_at`](CachedValue::cached_at) is returned as it was set, to a microsecond or finer.
/// - [`ttl`](CachedValue::ttl) of a value that was read is the time it has left, or
///   [`Ttl::Never`](crate::Ttl::Never).
///
/// **Keys.**
/// - A key is kept exactly, including case, spaces, CR LF, NUL and the form of its Unicode
///   characters, or it is refused with
///   [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey) and the reason. It is never
///   truncated, trimmed or folded, and cannot inject anything into a protocol.
/// - The empty key is a key like any other where the store can keep it, and is refused where
///   it cannot.
///
/// **Values.**
/// - Payloads are returned as they were set, including the empty one.
/// - A payload that is too large is an
///   [`ErrorKind::ValueTooLarge`](crate::ErrorKind::ValueTooLarge) error; what the key held
///   before is gone, since keeping it would serve what the caller meant to replace. The
///   connection remains usable.
///
/// **Time and cancellation.**
/// - Every call returns within a time that the configuration bounds, with a result or an error.
/// - Every operation is cancel safe: its future may be dropped at any await. The backend and its
///   connections remain correct for the next caller, and no slot is leaked.
/// - Dropping a future withdraws what has not left the process: it is not sent later, and the
///   memory it held is released. A write that has already been sent may still be applied.
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
/// // A result for each key; `collect` turns them into one.
/// let found = cache.get_multi(&["a", "b", "a"]).await;
/// let found: Vec<Option<_>> = found.into_iter().collect::<Result<_>>()?;
/// assert_eq!(found.iter().flatten().count(), 2);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub trait CacheBackend: Send + Sync {
    /// The type of the payloads. In-process backends store any type. Backends that send payloads
    /// over a network store `Vec<u8>`; [`Typed`](crate::Typed) turns them into backends of other
    /// types.
    type Value: Send + 'static;

    /// Whether [`get`](Self::get) and [`delete`](Self::delete) complete at their first poll, as
    /// in a map in memory.
    ///
    /// [`DynBackend`](crate::DynBackend) then calls them without an allocation. The constant is a
    /// hint: if such a future is pending after all, the handle drops it and starts the call again,
    /// which an [`Observer`](crate::Observer) below the handle sees as a cancelled call.
    const IMMEDIATE: bool = false;

    /// Returns the value cached under `key`, or `None` if there is none or it has expired.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) if the store cannot keep the key,
    /// [`Decode`](crate::ErrorKind::Decode) if the stored value is in another format, and a
    /// [transient](crate::ErrorKind::is_transient) kind if the server fails.
    ///
    /// # Cancellation
    ///
    /// Cancel safe: a dropped call changes nothing.
    fn get(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<CachedValue<Self::Value>>>> + Send;

    /// Caches `value` under `key`, replacing any value there.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) or
    /// [`ValueTooLarge`](crate::ErrorKind::ValueTooLarge) if the store does not accept the key or
    /// the value, and a [transient](crate::ErrorKind::is_transient) kind if the server fails.
    ///
    /// # Cancellation
    ///
    /// Cancel safe: after a dropped call the key has its old value or the new one.
    fn set(
        &self,
        key: &str,
        value: CachedValue<Self::Value>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes the value cached under `key`, if there is one.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) if the store cannot keep the key, and a
    /// [transient](crate::ErrorKind::is_transient) kind if the server fails. An absent key is not
    /// an error.
    ///
    /// # Cancellation
    ///
    /// Cancel safe: after a dropped call the key has its old value or none.
    fn delete(&self, key: &str) -> impl Future<Output = Result<()>> + Send;

    /// Returns the values cached under `keys`: one result for each key, in their order.
    ///
    /// The default implementation calls [`get`](Self::get) for one key after another. After a
    /// transient failure it gives the remaining keys the same error without asking for them, so
    /// that a dead server costs one timeout instead of one per key. Backends that support batches
    /// override this method.
    ///
    /// # Errors
    ///
    /// Each key has its own result, with the errors of [`get`](Self::get).
    ///
    /// # Cancellation
    ///
    /// Cancel safe: a dropped call changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cache_core::{CacheBackend, Result};
    /// # async fn example<B: CacheBackend>(cache: &B) -> Result<()> {
    /// // Any failure fails all of it:
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

    /// Caches each value under its key. If a key is repeated, only its last value counts.
    ///
    /// The default implementation calls [`set`](Self::set) for one key after another. A transient
    /// failure ends the call, and the remaining keys count as failed; after any other failure the
    /// remaining keys are still set.
    ///
    /// # Errors
    ///
    /// The errors of [`set`](Self::set) if all keys failed, and
    /// [`Partial`](crate::ErrorKind::Partial) if some did. [`Error::keys`] names the keys that
    /// failed.
    ///
    /// # Cancellation
    ///
    /// Cancel safe: after a dropped call each key has its old value or its new one.
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
    /// The default implementation calls [`delete`](Self::delete) for one key after another, and
    /// treats failures as [`set_multi`](Self::set_multi) does.
    ///
    /// # Errors
    ///
    /// The errors of [`delete`](Self::delete) if all keys failed, and
    /// [`Partial`](crate::ErrorKind::Partial) if some did. [`Error::keys`] names the keys that
    /// failed.
    ///
    /// # Cancellation
    ///
    /// Cancel safe: after a dropped call each key has its old value or none.
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

/// The outcome of a write to several keys.
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

    /// Adds the result of one call that wrote `keys`.
    pub(crate) fn done_multi(&mut self, keys: &[&str], result: Result<()>) {
        self.total += keys.len();
        if let Err(error) = result {
            if error.keys().is_empty() {
                // An error that names no key concerns the whole call.
                self.failed.extend(keys.iter().map(|key| (*key).to_owned()));
            } else {
                self.failed.extend(error.keys().iter().cloned());
            }
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
