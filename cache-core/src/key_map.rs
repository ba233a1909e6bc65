//! [`KeyMap`], a key mangler.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::{CacheBackend, CachedValue, Error, Result};

type Mangle = dyn for<'k> Fn(&'k str) -> Cow<'k, str> + Send + Sync;

/// Gives every key another name in the backend below: the counterpart of dogpile.cache's
/// `key_mangler`.
///
/// Errors name the keys as the caller wrote them.
///
/// ```
/// use std::borrow::Cow;
/// use cache_core::KeyMap;
/// # use cache_core::{CacheBackend, CachedValue, Result};
/// # struct Memory;
/// # impl CacheBackend for Memory {
/// #   type Value = String;
/// #   async fn get(&self, _: &str) -> Result<Option<CachedValue<String>>> { Ok(None) }
/// #   async fn set(&self, _: &str, _: CachedValue<String>) -> Result<()> { Ok(()) }
/// #   async fn delete(&self, _: &str) -> Result<()> { Ok(()) }
/// # }
///
/// let folded = KeyMap::new(Memory, |key| Cow::Owned(key.to_lowercase()));
/// assert_eq!(folded.mangle("User:42"), "user:42");
/// ```
#[derive(Clone)]
pub struct KeyMap<B> {
    backend: B,
    mangle: Arc<Mangle>,
}

impl<B> KeyMap<B> {
    /// Sends each key through `mangle` before `backend` sees it. Keys that `mangle` maps to the
    /// same name share one value.
    pub fn new(
        backend: B,
        mangle: impl for<'k> Fn(&'k str) -> Cow<'k, str> + Send + Sync + 'static,
    ) -> Self {
        Self {
            backend,
            mangle: Arc::new(mangle),
        }
    }

    /// Puts `namespace` and a colon before each key, so that several users of one backend keep
    /// out of each other's way.
    ///
    /// Two namespaces never share a key, whatever they are called: a colon or percent sign in
    /// the namespace is written `%3A` or `%25`, so the first colon always ends it.
    ///
    /// ```
    /// # use cache_core::KeyMap;
    /// assert_eq!(KeyMap::namespace((), "users").mangle("42"), "users:42");
    /// assert_eq!(KeyMap::namespace((), "a").mangle("b:c"), "a:b:c");
    /// assert_eq!(KeyMap::namespace((), "a:b").mangle("c"), "a%3Ab:c");
    /// ```
    pub fn namespace(backend: B, namespace: &str) -> Self {
        let mut prefix = namespace.replace('%', "%25").replace(':', "%3A");
        prefix.push(':');
        Self::new(backend, move |key| Cow::Owned(format!("{prefix}{key}")))
    }

    /// Replaces each key by the 40 hexadecimal digits of the SHA-1 of its UTF-8 bytes: the
    /// mangler that oslo.cache gives every region, and that dogpile.cache has ready as
    /// `dogpile.cache.util.sha1_mangle_key`.
    ///
    /// ```
    /// # use cache_core::KeyMap;
    /// let python = KeyMap::sha1(());
    /// assert_eq!(python.mangle("key"), "a62f2225bf70bfaccbc7f1ef2a397836717377de");
    /// ```
    #[cfg(feature = "sha1")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sha1")))]
    pub fn sha1(backend: B) -> Self {
        use sha1::{Digest as _, Sha1};
        use std::fmt::Write as _;

        Self::new(backend, |key| {
            let digest = Sha1::digest(key.as_bytes());
            let mut hex = String::with_capacity(2 * digest.len());
            for byte in digest {
                let _ = write!(hex, "{byte:02x}");
            }
            Cow::Owned(hex)
        })
    }

    /// What `key` is called in the backend below.
    pub fn mangle<'k>(&self, key: &'k str) -> Cow<'k, str> {
        (self.mangle)(key)
    }
}

impl<B: fmt::Debug> fmt::Debug for KeyMap<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMap")
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

impl<B: CacheBackend> KeyMap<B> {
    /// The name of `key` below, refusing what the backend below could no longer see is empty.
    fn checked<'k>(&self, key: &'k str) -> Result<Cow<'k, str>> {
        let mangled = self.mangle(key);
        // The empty key is the backend's to refuse, in its own words.
        let asked = if key.is_empty() { key } else { &mangled };
        match self.backend.check_key(asked) {
            Ok(()) => Ok(mangled),
            Err(error) => Err(error.with_key(key)),
        }
    }

    fn checked_all<'k>(
        &self,
        keys: impl Iterator<Item = &'k str>,
    ) -> Result<Vec<(&'k str, Cow<'k, str>)>> {
        keys.map(|key| Ok((key, self.checked(key)?))).collect()
    }
}

/// `error` with its keys called what the caller called them.
fn in_callers_words(error: Error, names: &[(&str, Cow<'_, str>)]) -> Error {
    let original: HashMap<&str, &str> = names
        .iter()
        .map(|(key, mangled)| (mangled.as_ref(), *key))
        .collect();
    let keys: Vec<String> = error
        .keys()
        .iter()
        .map(|key| (*original.get(key.as_str()).unwrap_or(&key.as_str())).to_owned())
        .collect();
    error.with_keys(keys)
}

fn mangled<'a>(names: &'a [(&str, Cow<'_, str>)]) -> Vec<&'a str> {
    names.iter().map(|(_, mangled)| mangled.as_ref()).collect()
}

#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for KeyMap<B> {
    type Value = B::Value;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<B::Value>>> {
        let name = self.checked(key)?;
        let found = self.backend.get(&name).await;
        found.map_err(|error| in_callers_words(error, &[(key, name)]))
    }

    async fn set(&self, key: &str, value: CachedValue<B::Value>) -> Result<()> {
        let name = self.checked(key)?;
        let done = self.backend.set(&name, value).await;
        done.map_err(|error| in_callers_words(error, &[(key, name)]))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let name = self.checked(key)?;
        let done = self.backend.delete(&name).await;
        done.map_err(|error| in_callers_words(error, &[(key, name)]))
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<CachedValue<B::Value>>>> {
        let names = self.checked_all(keys.iter().copied())?;
        let found = self.backend.get_multi(&mangled(&names)).await;
        found.map_err(|error| in_callers_words(error, &names))
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<B::Value>)>) -> Result<()> {
        let names = self.checked_all(entries.iter().map(|(key, _)| *key))?;
        let values = entries.into_iter().map(|(_, value)| value);
        let renamed = mangled(&names).into_iter().zip(values).collect();
        let done = self.backend.set_multi(renamed).await;
        done.map_err(|error| in_callers_words(error, &names))
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        let names = self.checked_all(keys.iter().copied())?;
        let done = self.backend.delete_multi(&mangled(&names)).await;
        done.map_err(|error| in_callers_words(error, &names))
    }

    fn check_key(&self, key: &str) -> Result<()> {
        self.checked(key).map(drop)
    }
}
