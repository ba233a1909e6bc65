//! [`CacheBackend`], the contract.

use std::sync::Arc;

use crate::{CachedValue, Error, ErrorKind, Result};

/// What a cache backend does: six operations over string keys, any of them callable from many
/// tasks at once.
///
/// Three methods make a backend; the multi operations have defaults that are right, if slow.
/// `cache-conformance` tests each rule below against an implementation.
///
/// # The contract
///
/// **Misses and errors.**
/// - A miss is `Ok(None)` (dogpile.cache's `NO_VALUE`).
/// - An error is never turned into a miss, and a miss is never an error. Whoever prefers a
///   miss says so with [`MissOnError`](crate::MissOnError).
/// - An [`ErrorKind::InvalidKey`] names the keys that were refused and no others. An error shows
///   neither payloads nor credentials, and stays one short line whatever the keys are.
///
/// **Multi operations.**
/// - [`get_multi`](Self::get_multi) answers position by position: as many answers as keys, in
///   their order, misses in place, a key that is asked twice answered twice.
/// - No keys: no work, and success.
/// - In [`set_multi`](Self::set_multi) a key that is repeated ends with its last value.
/// - An invalid key refuses the whole call before anything is sent.
/// - A write that was applied only in part is an [`ErrorKind::Partial`] that names every key
///   that failed. The other keys were written.
///
/// **Writes.**
/// - [`set`](Self::set) replaces payload, metadata and deadline together.
/// - [`delete`](Self::delete) and [`delete_multi`](Self::delete_multi) are idempotent: a key
///   that is not there is no error.
///
/// **Lifetimes.**
/// - A value's own [TTL](CachedValue::with_ttl) comes first, then the backend's default;
///   without either the value does not expire. [`CachedValue::lifetime`] is this rule.
/// - Zero as the backend's default means no expiry (as in `oslo.cache`). Zero as a value's own
///   TTL means expired at once: a `get` that follows misses, also where the key had a value.
/// - A TTL too large to represent means no expiry, never an early one.
/// - A value is never served at or after its deadline, by any operation, however coarse the
///   clock of the store. It is not lost before the deadline, less the granularity that the
///   backend declares; eviction under a stated bound on size is another matter.
/// - Reading never prolongs a life.
///
/// **Metadata.**
/// - [`cached_at`](CachedValue::cached_at) comes back as it was set, to a microsecond or finer.
/// - [`ttl`](CachedValue::ttl) of a value that was read is the time it has left; `None` means
///   that it never expires.
///
/// **Keys.**
/// - Any non-empty `&str` is kept faithfully: case, spaces, CR LF, NUL, and the forms of
///   Unicode; or it is refused with [`ErrorKind::InvalidKey`] and the reason. It is never
///   truncated, trimmed, folded, or allowed to inject anything into a protocol.
/// - The empty key is refused.
///
/// **Values.**
/// - Payloads come back as they were set, the empty one too.
/// - One that is too large is an [`ErrorKind::ValueTooLarge`]; the value that the key had
///   before is gone, since keeping it would serve what the caller meant to replace. The
///   connection stays good.
///
/// **Time and cancellation.**
/// - Every call ends within the timeout configured, with an answer or an error.
/// - A future may be dropped at any await. Backend and connections stay right for the next
///   caller and no slot is leaked; whether a write was applied is then unknown.
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
///         self.check_key(key)?;
///         Ok(self.0.lock().unwrap().get(key).cloned())
///     }
///
///     async fn set(&self, key: &str, value: CachedValue<String>) -> Result<()> {
///         self.check_key(key)?;
///         self.0.lock().unwrap().insert(key.to_owned(), value);
///         Ok(())
///     }
///
///     async fn delete(&self, key: &str) -> Result<()> {
///         self.check_key(key)?;
///         self.0.lock().unwrap().remove(key);
///         Ok(())
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cache = Forever::default();
/// cache.set_multi(vec![("a", CachedValue::new("1".into()))]).await?;
/// let found = cache.get_multi(&["a", "b", "a"]).await?;
/// assert_eq!(found.iter().filter(|value| value.is_some()).count(), 2);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub trait CacheBackend: Send + Sync {
    /// What is cached. In-process backends keep any type; those that send it over a wire keep
    /// `Vec<u8>`, and [`Serialized`](crate::Serialized) lifts them to other types.
    type Value: Send + 'static;

    /// What is cached under `key`, or `None`.
    fn get(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<CachedValue<Self::Value>>>> + Send;

    /// Caches `value` under `key`, in place of what was there.
    fn set(
        &self,
        key: &str,
        value: CachedValue<Self::Value>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes what is cached under `key`, if anything is.
    fn delete(&self, key: &str) -> impl Future<Output = Result<()>> + Send;

    /// What is cached under each of `keys`, position by position.
    ///
    /// By default one [`get`](Self::get) after another, ending at the first error.
    fn get_multi(
        &self,
        keys: &[&str],
    ) -> impl Future<Output = Result<Vec<Option<CachedValue<Self::Value>>>>> + Send {
        async move {
            check_keys(self, keys.iter().copied())?;
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.push(self.get(key).await?);
            }
            Ok(found)
        }
    }

    /// Caches each value under its key.
    ///
    /// By default one [`set`](Self::set) after another. A failure that is transient ends the
    /// call, so that a dead server costs one timeout and not one for each key; after any other
    /// the rest is still set.
    fn set_multi(
        &self,
        entries: Vec<(&str, CachedValue<Self::Value>)>,
    ) -> impl Future<Output = Result<()>> + Send {
        async move {
            check_keys(self, entries.iter().map(|(key, _)| *key))?;
            let mut outcome = Outcome::default();
            for (key, value) in entries {
                if outcome.gave_up() {
                    outcome.skipped(key);
                } else {
                    outcome.done(key, self.set(key, value).await);
                }
            }
            outcome.into_result()
        }
    }

    /// Removes what is cached under each of `keys`.
    ///
    /// By default one [`delete`](Self::delete) after another, under the rule of
    /// [`set_multi`](Self::set_multi).
    fn delete_multi(&self, keys: &[&str]) -> impl Future<Output = Result<()>> + Send {
        async move {
            check_keys(self, keys.iter().copied())?;
            let mut outcome = Outcome::default();
            for key in keys {
                if outcome.gave_up() {
                    outcome.skipped(key);
                } else {
                    outcome.done(key, self.delete(key).await);
                }
            }
            outcome.into_result()
        }
    }

    /// Whether this backend can keep `key`: [`ErrorKind::InvalidKey`] with the reason if not.
    ///
    /// Every operation asks this first. By default any key but the empty one will do; a backend
    /// with a limit of its own replaces it and refuses the empty key too.
    ///
    /// ```
    /// use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};
    ///
    /// struct Short;
    ///
    /// impl CacheBackend for Short {
    ///     type Value = ();
    ///     fn check_key(&self, key: &str) -> Result<()> {
    ///         match key.len() {
    ///             1..=8 => Ok(()),
    ///             n => Err(Error::new(ErrorKind::InvalidKey, "short", format!("{n} bytes; 1 to 8 are allowed")).with_key(key)),
    ///         }
    ///     }
    ///     // …
    /// #   async fn get(&self, key: &str) -> Result<Option<CachedValue<()>>> { self.check_key(key)?; Ok(None) }
    /// #   async fn set(&self, key: &str, _: CachedValue<()>) -> Result<()> { self.check_key(key) }
    /// #   async fn delete(&self, key: &str) -> Result<()> { self.check_key(key) }
    /// }
    ///
    /// assert!(Short.check_key("a").is_ok());
    /// assert_eq!(Short.check_key("much too long").unwrap_err().kind(), ErrorKind::InvalidKey);
    /// ```
    fn check_key(&self, key: &str) -> Result<()> {
        if key.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidKey,
                short_type_name::<Self>(),
                "the key is empty; a key has at least one character",
            )
            .with_key(key));
        }
        Ok(())
    }
}

/// `Backend` for `some_crate::module::Backend<…>`: what a default method can say of who it is.
fn short_type_name<T: ?Sized>() -> &'static str {
    let name = std::any::type_name::<T>();
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}

fn check_keys<'k, B>(backend: &B, mut keys: impl Iterator<Item = &'k str>) -> Result<()>
where
    B: CacheBackend + ?Sized,
{
    keys.try_for_each(|key| backend.check_key(key))
}

/// What became of the keys of a multi write that goes key by key.
#[derive(Default)]
struct Outcome {
    total: usize,
    failed: Vec<String>,
    cause: Option<Error>,
}

impl Outcome {
    fn gave_up(&self) -> bool {
        self.cause.as_ref().is_some_and(Error::is_transient)
    }

    fn skipped(&mut self, key: &str) {
        self.total += 1;
        self.failed.push(key.to_owned());
    }

    fn done(&mut self, key: &str, result: Result<()>) {
        self.total += 1;
        if let Err(error) = result {
            self.failed.push(key.to_owned());
            // The transient error is the one that ended the call.
            if self.cause.is_none() || error.is_transient() {
                self.cause = Some(error);
            }
        }
    }

    fn into_result(self) -> Result<()> {
        match self.cause {
            None => Ok(()),
            Some(cause) => Err(Error::partial(cause, self.failed, self.total)),
        }
    }
}

/// A handle forwards every method, so that what the backend overrides is not lost behind it.
macro_rules! forward {
    ($(#[$doc:meta])* $handle:ty) => {
        $(#[$doc])*
        #[deny(clippy::missing_trait_methods)]
        impl<B: CacheBackend + ?Sized> CacheBackend for $handle {
            type Value = B::Value;

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
            ) -> impl Future<Output = Result<Vec<Option<CachedValue<Self::Value>>>>> + Send {
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

            fn check_key(&self, key: &str) -> Result<()> {
                (**self).check_key(key)
            }
        }
    };
}

forward!(&B);
forward!(Box<B>);
forward!(Arc<B>);
