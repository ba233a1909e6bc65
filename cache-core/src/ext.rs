//! [`CacheBackendExt`], the wrappers as methods.

use std::borrow::Cow;

use crate::{CacheBackend, DynBackend, Format, MapKeys, MissOnError, Observed, Observer, Typed};

/// The wrappers as methods of every backend. The wrapper that is called last is the outermost.
///
/// All backends implement the trait; no other type can.
///
/// ```
/// # #[cfg(all(feature = "json", feature = "sha1"))] {
/// use cache_core::{CacheBackend, CacheBackendExt, DynBackend, Json};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Profile {
///     name: String,
/// }
///
/// /// Profiles as a Python service with an oslo.cache region stores them.
/// fn profiles(bytes: impl CacheBackend<Value = Vec<u8>> + 'static) -> DynBackend<Profile> {
///     bytes.sha1_keys().namespace("profiles").typed(Json).miss_on_error().into_dyn()
/// }
/// # }
/// ```
pub trait CacheBackendExt: CacheBackend + Sized {
    /// Applies `map` to each key: [`MapKeys::new`].
    fn map_keys(
        self,
        map: impl for<'k> Fn(&'k str) -> Cow<'k, str> + Send + Sync + 'static,
    ) -> MapKeys<Self> {
        MapKeys::new(self, map)
    }

    /// Prefixes each key with `namespace` and a colon: [`MapKeys::namespace`].
    fn namespace(self, namespace: &str) -> MapKeys<Self> {
        MapKeys::namespace(self, namespace)
    }

    /// Replaces each key with its SHA-1, as every oslo.cache region does: [`MapKeys::sha1`].
    #[cfg(feature = "sha1")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sha1")))]
    fn sha1_keys(self) -> MapKeys<Self> {
        MapKeys::sha1(self)
    }

    /// Stores values of type `T` in this backend of bytes: [`Typed`].
    fn typed<T>(self, format: impl Format<T> + 'static) -> Typed<T, Self>
    where
        Self: CacheBackend<Value = Vec<u8>>,
    {
        Typed::new(self, format)
    }

    /// Turns errors into misses where a service can continue without the cache: [`MissOnError`].
    fn miss_on_error(self) -> MissOnError<Self> {
        MissOnError::new(self)
    }

    /// Reports every call to `observer`: [`Observed`].
    fn observed(self, observer: impl Observer + 'static) -> Observed<Self> {
        Observed::new(self, observer)
    }

    /// Erases the type of the backend: [`DynBackend`].
    fn into_dyn(self) -> DynBackend<Self::Value>
    where
        Self: 'static,
    {
        DynBackend::new(self)
    }

    /// Returns blocking versions of the six operations: [`Blocking`](crate::Blocking).
    ///
    /// # Errors
    ///
    /// Those of [`Blocking::new`](crate::Blocking::new).
    #[cfg(feature = "blocking")]
    #[cfg_attr(docsrs, doc(cfg(feature = "blocking")))]
    fn blocking(self) -> crate::Result<crate::Blocking<Self>> {
        crate::Blocking::new(self)
    }
}

impl<B: CacheBackend> CacheBackendExt for B {}
