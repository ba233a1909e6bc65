//! [`Serialized`], which lifts a backend of bytes to any type.

use std::any::type_name;
use std::collections::HashSet;
use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;

use crate::{CacheBackend, CachedValue, Error, ErrorKind, Result};

const NAME: &str = "Serialized";

/// How values of type `T` become bytes, and values again.
///
/// ```
/// use std::error::Error;
/// use cache_core::Format;
///
/// struct Decimal;
///
/// impl Format<u64> for Decimal {
///     fn encode(&self, value: &u64) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
///         Ok(value.to_string().into_bytes())
///     }
///     fn decode(&self, bytes: &[u8]) -> Result<u64, Box<dyn Error + Send + Sync>> {
///         Ok(std::str::from_utf8(bytes)?.parse()?)
///     }
/// }
/// ```
pub trait Format<T>: Send + Sync {
    /// The bytes of `value`.
    fn encode(&self, value: &T) -> Result<Vec<u8>, Box<dyn StdError + Send + Sync>>;

    /// The value that `bytes` were made of. They may come from another program or an older
    /// version of this one.
    fn decode(&self, bytes: &[u8]) -> Result<T, Box<dyn StdError + Send + Sync>>;
}

/// JSON, through serde: what `json.dumps` and `json.loads` of a Python service write and read.
///
/// ```
/// use cache_core::{Format, Json};
///
/// let bytes = Format::<Vec<u32>>::encode(&Json, &vec![1, 2])?;
/// assert_eq!(bytes, b"[1,2]");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Format<T> for Json {
    fn encode(&self, value: &T) -> Result<Vec<u8>, Box<dyn StdError + Send + Sync>> {
        Ok(serde_json::to_vec(value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, Box<dyn StdError + Send + Sync>> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// A backend of values `T` over one of bytes.
///
/// What cannot be decoded is a miss, as in dogpile.cache, so that a new version of a service
/// computes again what the old one wrote otherwise; [`decode_errors`](Self::decode_errors)
/// makes it an error. Metadata passes through untouched.
///
/// ```
/// # #[cfg(feature = "json")] {
/// use std::collections::HashMap;
/// use cache_core::{CacheBackend, CachedValue, Json, Serialized};
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
/// let cache = Serialized::<HashMap<String, u32>, _, _>::new(Bytes::default(), Json);
/// cache.set("ports", CachedValue::new(HashMap::from([("etcd".into(), 2379)]))).await?;
/// let ports = cache.get("ports").await?.unwrap().into_payload();
/// assert_eq!(ports["etcd"], 2379);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// # }
/// ```
pub struct Serialized<T, B, F> {
    backend: B,
    format: F,
    decode_errors: bool,
    value: PhantomData<fn() -> T>,
}

impl<T, B, F> Serialized<T, B, F> {
    /// Keeps values in `backend` in the given format.
    pub fn new(backend: B, format: F) -> Self {
        Self {
            backend,
            format,
            decode_errors: false,
            value: PhantomData,
        }
    }

    /// Whether what cannot be decoded is an [`ErrorKind::Decode`] (true) or a miss (false, the
    /// default).
    ///
    /// ```
    /// # use cache_core::Serialized;
    /// # fn strict<B>(backend: B) -> Serialized<String, B, ()> {
    /// Serialized::new(backend, ()).decode_errors(true)
    /// # }
    /// ```
    #[must_use]
    pub fn decode_errors(mut self, decode_errors: bool) -> Self {
        self.decode_errors = decode_errors;
        self
    }
}

impl<T, B: Clone, F: Clone> Clone for Serialized<T, B, F> {
    fn clone(&self) -> Self {
        Self {
            backend: self.backend.clone(),
            format: self.format.clone(),
            decode_errors: self.decode_errors,
            value: PhantomData,
        }
    }
}

impl<T, B: fmt::Debug, F> fmt::Debug for Serialized<T, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serialized")
            .field("backend", &self.backend)
            .field("decode_errors", &self.decode_errors)
            .finish_non_exhaustive()
    }
}

impl<T, B, F> Serialized<T, B, F>
where
    T: Send + Sync + 'static,
    B: CacheBackend<Value = Vec<u8>>,
    F: Format<T>,
{
    fn encode(&self, key: &str, value: CachedValue<T>) -> Result<CachedValue<Vec<u8>>> {
        match self.format.encode(value.payload()) {
            Ok(bytes) => Ok(value.map(|_| bytes)),
            Err(cause) => {
                let message = format!("the format cannot write this {}: {cause}", type_name::<T>());
                let error = Error::new(ErrorKind::Encode, NAME, message);
                Err(error.with_key(key).with_source(cause))
            }
        }
    }

    fn decode(&self, key: &str, found: CachedValue<Vec<u8>>) -> Result<Option<CachedValue<T>>> {
        match self.format.decode(found.payload()) {
            Ok(value) => Ok(Some(found.map(|_| value))),
            Err(cause) if self.decode_errors => {
                let message = format!(
                    "what is stored is no {} in this format, so another program or version wrote \
                     it: {cause}",
                    type_name::<T>()
                );
                let error = Error::new(ErrorKind::Decode, NAME, message);
                Err(error.with_key(key).with_source(cause))
            }
            Err(_) => Ok(None),
        }
    }

    /// `get_multi` of the backend, with misses for the values that it cannot decode itself.
    async fn get_multi_bytes(&self, keys: &[&str]) -> Result<Vec<Option<CachedValue<Vec<u8>>>>> {
        let mut undecodable: HashSet<String> = HashSet::new();
        loop {
            let mut decodable: Vec<&str> = keys.to_vec();
            decodable.retain(|key| !undecodable.contains(*key));
            let error = match self.backend.get_multi(&decodable).await {
                Ok(found) if undecodable.is_empty() => return Ok(found),
                Ok(found) => {
                    let mut found = found.into_iter();
                    let answer = |key: &&str| {
                        if undecodable.contains(*key) {
                            None
                        } else {
                            found.next().flatten()
                        }
                    };
                    return Ok(keys.iter().map(answer).collect());
                }
                Err(error) => error,
            };
            let known = undecodable.len();
            if error.kind() == ErrorKind::Decode && !self.decode_errors {
                let named = error.keys().iter();
                undecodable.extend(
                    named
                        .filter(|key| decodable.contains(&key.as_str()))
                        .cloned(),
                );
            }
            // Without a key to leave out the next attempt would end like this one.
            if undecodable.len() == known {
                return Err(error);
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T, B, F> CacheBackend for Serialized<T, B, F>
where
    T: Send + Sync + 'static,
    B: CacheBackend<Value = Vec<u8>>,
    F: Format<T>,
{
    type Value = T;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<T>>> {
        match self.backend.get(key).await {
            Ok(None) => Ok(None),
            Ok(Some(found)) => self.decode(key, found),
            Err(error) if error.kind() == ErrorKind::Decode && !self.decode_errors => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn set(&self, key: &str, value: CachedValue<T>) -> Result<()> {
        self.check_key(key)?;
        let value = self.encode(key, value)?;
        self.backend.set(key, value).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.backend.delete(key).await
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<CachedValue<T>>>> {
        let found = self.get_multi_bytes(keys).await?;
        let mut values = Vec::with_capacity(keys.len());
        for (key, found) in keys.iter().zip(found) {
            values.push(match found {
                None => None,
                Some(found) => self.decode(key, found)?,
            });
        }
        Ok(values)
    }

    /// A value that cannot be encoded refuses the whole call before anything is sent.
    async fn set_multi(&self, entries: Vec<(&str, CachedValue<T>)>) -> Result<()> {
        let mut encoded = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            self.check_key(key)?;
            encoded.push((key, self.encode(key, value)?));
        }
        self.backend.set_multi(encoded).await
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        self.backend.delete_multi(keys).await
    }

    fn check_key(&self, key: &str) -> Result<()> {
        self.backend.check_key(key)
    }
}
