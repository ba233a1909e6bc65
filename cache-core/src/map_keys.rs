//! [`MapKeys`], which renames keys.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::{CacheBackend, CachedValue, Error, Result};

type Map = dyn for<'k> Fn(&'k str) -> Cow<'k, str> + Send + Sync;

/// Stores each key under another name in the wrapped backend: the counterpart of dogpile.cache's
/// `key_mangler`.
///
/// Errors name the keys as the caller wrote them. If several keys of a write have the same name in
/// the backend, an error about that name lists all of them.
///
/// ```
/// use std::borrow::Cow;
/// use cache_core::MapKeys;
/// # use cache_core::{CacheBackend, CachedValue, Result};
/// # struct Memory;
/// # impl CacheBackend for Memory {
/// #   type Value = String;
/// #   async fn get(&self, _: &str) -> Result<Option<CachedValue<String>>> { Ok(None) }
/// #   async fn set(&self, _: &str, _: CachedValue<String>) -> Result<()> { Ok(()) }
/// #   async fn delete(&self, _: &str) -> Result<()> { Ok(()) }
/// # }
///
/// let folded = MapKeys::new(Memory, |key| Cow::Owned(key.to_lowercase()));
/// assert_eq!(folded.map_key("User:42"), "user:42");
/// ```
#[derive(Clone)]
pub struct MapKeys<B> {
    backend: B,
    map: Arc<Map>,
}

impl<B> MapKeys<B> {
    /// Applies `map` to each key before `backend` sees it. Keys that `map` gives the same name
    /// share one value.
    pub fn new(
        backend: B,
        map: impl for<'k> Fn(&'k str) -> Cow<'k, str> + Send + Sync + 'static,
    ) -> Self {
        Self {
            backend,
            map: Arc::new(map),
        }
    }

    /// Prefixes each key with `namespace` and a colon, so that several users of one backend do
    /// not share keys.
    ///
    /// Two namespaces of one backend never share a key, whatever their names: a colon or percent
    /// sign in the namespace is written `%3A` or `%25`, so the first colon always ends it. A user
    /// without a namespace can still name such keys.
    ///
    /// ```
    /// # use cache_core::MapKeys;
    /// assert_eq!(MapKeys::namespace((), "users").map_key("42"), "users:42");
    /// assert_eq!(MapKeys::namespace((), "a").map_key("b:c"), "a:b:c");
    /// assert_eq!(MapKeys::namespace((), "a:b").map_key("c"), "a%3Ab:c");
    /// ```
    pub fn namespace(backend: B, namespace: &str) -> Self {
        let mut prefix = namespace.replace('%', "%25").replace(':', "%3A");
        prefix.push(':');
        Self::new(backend, move |key| {
            let mut name = String::with_capacity(prefix.len() + key.len());
            name.push_str(&prefix);
            name.push_str(key);
            Cow::Owned(name)
        })
    }

    /// Replaces each key with the 40 hexadecimal digits of the SHA-1 of its UTF-8 bytes, as every
    /// oslo.cache region does (`dogpile.cache.util.sha1_mangle_key`).
    ///
    /// ```
    /// # use cache_core::MapKeys;
    /// let python = MapKeys::sha1(());
    /// assert_eq!(python.map_key("key"), "a62f2225bf70bfaccbc7f1ef2a397836717377de");
    /// ```
    #[cfg(feature = "sha1")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sha1")))]
    pub fn sha1(backend: B) -> Self {
        use sha1::{Digest as _, Sha1};

        Self::new(backend, |key| {
            let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
            let digest = Sha1::digest(key.as_bytes());
            let mut hex = String::with_capacity(2 * digest.len());
            for byte in digest {
                hex.push(digit(byte >> 4));
                hex.push(digit(byte & 15));
            }
            Cow::Owned(hex)
        })
    }

    /// Returns the name of `key` in the wrapped backend.
    pub fn map_key<'k>(&self, key: &'k str) -> Cow<'k, str> {
        (self.map)(key)
    }

    fn map_keys<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Vec<(&'k str, Cow<'k, str>)> {
        keys.map(|key| (key, self.map_key(key))).collect()
    }
}

crate::wrapper::access!(MapKeys<B>);

impl<B: fmt::Debug> fmt::Debug for MapKeys<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapKeys")
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

/// `error`, and each failure among its sources, with their keys renamed by `names`.
fn renamed(error: Error, names: &impl Fn(&[String]) -> Vec<String>) -> Error {
    let source = std::error::Error::source(&error);
    let source: Option<Error> = source.and_then(|source| source.downcast_ref().cloned());
    let error = match source {
        Some(source) => error.with_source(renamed(source, names)),
        None => error,
    };
    if error.keys().is_empty() {
        return error;
    }
    let names = names(error.keys());
    error.with_keys(names)
}

/// `error`, which concerns the one key `key`, with the caller's name for it.
fn rename(error: Error, key: &str) -> Error {
    renamed(error, &|_| vec![key.to_owned()])
}

/// `error`, with its keys under the names that the caller used.
fn rename_all(error: Error, keys: &[(&str, Cow<'_, str>)]) -> Error {
    // Several keys of the caller may share a name, and then share its failure.
    let mut original: HashMap<&str, Vec<&str>> = HashMap::with_capacity(keys.len());
    let mut seen = HashSet::with_capacity(keys.len());
    for (key, name) in keys {
        if seen.insert(*key) {
            original.entry(name.as_ref()).or_default().push(key);
        }
    }
    renamed(error, &|names| {
        let keys = names.iter().flat_map(|name| {
            let unknown = std::slice::from_ref(name).iter().map(String::as_str);
            match original.get(name.as_str()) {
                Some(keys) => keys.clone(),
                None => unknown.collect(),
            }
        });
        keys.map(str::to_owned).collect()
    })
}

fn names<'a>(keys: &'a [(&str, Cow<'_, str>)]) -> Vec<&'a str> {
    keys.iter().map(|(_, name)| name.as_ref()).collect()
}

#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for MapKeys<B> {
    type Value = B::Value;

    const IMMEDIATE: bool = B::IMMEDIATE;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<B::Value>>> {
        let found = self.backend.get(&self.map_key(key)).await;
        found.map_err(|error| rename(error, key))
    }

    async fn set(&self, key: &str, value: CachedValue<B::Value>) -> Result<()> {
        let done = self.backend.set(&self.map_key(key), value).await;
        done.map_err(|error| rename(error, key))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let done = self.backend.delete(&self.map_key(key)).await;
        done.map_err(|error| rename(error, key))
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<B::Value>>>> {
        let mapped = self.map_keys(keys.iter().copied());
        let found = self.backend.get_multi(&names(&mapped)).await;
        let found = found.into_iter().zip(keys);
        found
            .map(|(found, key)| found.map_err(|error| rename(error, key)))
            .collect()
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<B::Value>)>) -> Result<()> {
        let mapped = self.map_keys(entries.iter().map(|(key, _)| *key));
        let names = names(&mapped).into_iter();
        let values = entries.into_iter().map(|(_, value)| value);
        let done = self.backend.set_multi(names.zip(values).collect()).await;
        done.map_err(|error| rename_all(error, &mapped))
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        let mapped = self.map_keys(keys.iter().copied());
        let done = self.backend.delete_multi(&names(&mapped)).await;
        done.map_err(|error| rename_all(error, &mapped))
    }
}
