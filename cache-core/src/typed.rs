//! [`Typed`], values of any type over a backend of bytes.

use std::any::type_name;
use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::backend::{WriteOutcome, last_values};
use crate::{CacheBackend, CachedValue, Error, ErrorKind, Format, Result};

const NAME: &str = "Typed";

/// A backend of values `T` over one of bytes. Metadata passes through untouched.
///
/// A stored value that cannot be decoded is an [`ErrorKind::Decode`] error; with
/// [`MissOnError`](crate::MissOnError) it is a miss, so that the value is computed again, as in
/// dogpile.cache. A value that cannot be encoded is an [`ErrorKind::Encode`] error and is not
/// sent. If a [`Format`] panics, the panic is caught and becomes an error of the same kinds.
///
/// ```
/// # #[cfg(feature = "json")] {
/// use std::collections::HashMap;
/// use cache_core::{CacheBackend, CacheBackendExt, CachedValue, Json};
/// # use cache_core::Result;
/// # #[derive(Default)] struct Bytes(std::sync::Mutex<HashMap<String, CachedValue<Vec<u8>>>>);
/// # impl CacheBackend for Bytes {
/// #   type Value = Vec<u8>;
/// #   async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> { Ok(self.0.lock().unwrap().get(key).cloned()) }
/// #   async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> { self.0.lock().unwrap().insert(key.into(), value); Ok(()) }
/// #   async fn delete(&self, _: &str) -> Result<()> { Ok(()) }
/// # }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cache = Bytes::default().typed::<HashMap<String, u32>>(Json);
/// cache.set("ports", CachedValue::new(HashMap::from([("https".into(), 443)]))).await?;
/// let ports = cache.get("ports").await?.unwrap().into_payload();
/// assert_eq!(ports["https"], 443);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// # }
/// ```
pub struct Typed<T, B> {
    backend: B,
    format: Arc<dyn Format<T>>,
}

impl<T, B> Typed<T, B> {
    /// Keeps values in `backend` in the given format.
    pub fn new(backend: B, format: impl Format<T> + 'static) -> Self {
        Self {
            backend,
            format: Arc::new(format),
        }
    }
}

crate::wrapper::access!(Typed<T, B>);

impl<T, B: Clone> Clone for Typed<T, B> {
    fn clone(&self) -> Self {
        Self {
            backend: self.backend.clone(),
            format: Arc::clone(&self.format),
        }
    }
}

impl<T, B: fmt::Debug> fmt::Debug for Typed<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed")
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

impl<T, B> Typed<T, B> {
    fn encode(&self, key: &str, value: CachedValue<T>) -> Result<CachedValue<Vec<u8>>> {
        match run(|| self.format.encode(value.payload())) {
            Ok(bytes) => Ok(value.map(|_| bytes)),
            Err(cause) => {
                let message = format!("a value of type {}: {cause}", type_name::<T>());
                let error = Error::new(ErrorKind::Encode, NAME, message);
                Err(error.with_key(key).with_source(cause))
            }
        }
    }

    fn decode(&self, key: &str, found: CachedValue<Vec<u8>>) -> Result<CachedValue<T>> {
        match run(|| self.format.decode(found.payload())) {
            Ok(value) => Ok(found.map(|_| value)),
            Err(cause) => {
                let message = format!(
                    "the stored value is not a {} in this format: {cause}; another program or \
                     version wrote it: set the key again, or delete it",
                    type_name::<T>()
                );
                let error = Error::new(ErrorKind::Decode, NAME, message);
                Err(error.with_key(key).with_source(cause))
            }
        }
    }
}

/// Runs a format. The bytes are untrusted, so a panic fails only this value, not the task.
fn run<T>(
    format: impl FnOnce() -> Result<T, Box<dyn StdError + Send + Sync>>,
) -> Result<T, Box<dyn StdError + Send + Sync>> {
    catch_unwind(AssertUnwindSafe(format)).unwrap_or_else(|_| Err("the format panicked".into()))
}

#[deny(clippy::missing_trait_methods)]
impl<T, B> CacheBackend for Typed<T, B>
where
    T: Send + 'static,
    B: CacheBackend<Value = Vec<u8>>,
{
    type Value = T;

    const IMMEDIATE: bool = B::IMMEDIATE;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<T>>> {
        let found = self.backend.get(key).await?;
        found.map(|found| self.decode(key, found)).transpose()
    }

    async fn set(&self, key: &str, value: CachedValue<T>) -> Result<()> {
        let value = self.encode(key, value)?;
        self.backend.set(key, value).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.backend.delete(key).await
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<T>>>> {
        let found = self.backend.get_multi(keys).await;
        let decode = |(found, key): (Result<Option<_>>, &&str)| {
            found?.map(|found| self.decode(key, found)).transpose()
        };
        found.into_iter().zip(keys).map(decode).collect()
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<T>)>) -> Result<()> {
        let mut outcome = WriteOutcome::default();
        let mut encoded = Vec::with_capacity(entries.len());
        for (key, value) in last_values(entries) {
            match self.encode(key, value) {
                Ok(value) => encoded.push((key, value)),
                Err(error) => outcome.done(key, Err(error)),
            }
        }
        let keys: Vec<&str> = encoded.iter().map(|(key, _)| *key).collect();
        outcome.done_multi(&keys, self.backend.set_multi(encoded).await);
        outcome.into_result()
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        self.backend.delete_multi(keys).await
    }
}
