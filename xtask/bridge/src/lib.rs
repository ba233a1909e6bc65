//! The three backends as a Python module.
//!
//! The module allows the test suites of dogpile.cache and oslo.cache, which are written in Python,
//! to test them. The Python API is in `python/cache_bridge/__init__.py`; this file only contains
//! the bindings.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_core::wire::{self, Metadata};
use cache_core::{
    Blocking, CacheBackend, CacheBackendExt as _, CachedValue, DynBackend, Error, ErrorKind,
};
use cache_dict::{DictBackend, DictConfig};
use cache_etcd3::{Etcd3Backend, Etcd3Config};
use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolConfig};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use serde::de::DeserializeOwned;

create_exception!(
    _bridge,
    CacheError,
    PyException,
    "What a backend answers instead of a value."
);

/// The backend name in errors of this file.
const NAME: &str = "bridge";

fn raise(error: Error) -> PyErr {
    CacheError::new_err(error.to_string())
}

/// A backend for bytes.
#[pyclass(frozen)]
struct Bytes {
    cache: Blocking<DynBackend<Vec<u8>>>,
    /// Whether the bytes are dogpile.cache's metadata and payload, from which a value gets its
    /// cached time; otherwise, they are the payload, without interpretation.
    envelope: bool,
}

impl Bytes {
    fn value(&self, bytes: &[u8]) -> Result<CachedValue<Vec<u8>>, Error> {
        if !self.envelope {
            return Ok(CachedValue::new(bytes.to_vec()));
        }
        let (metadata, payload) = wire::decode(bytes, NAME)?;
        let value = metadata.attach(payload.to_vec(), SystemTime::now());
        // Python does not write deadlines, so a value with one was just read from Rust.
        value.ok_or_else(|| Error::new(ErrorKind::Encode, NAME, "the value has expired"))
    }

    fn bytes(&self, value: CachedValue<Vec<u8>>) -> Vec<u8> {
        if !self.envelope {
            return value.into_payload();
        }
        let metadata = Metadata::of(&value, Duration::ZERO, SystemTime::now());
        let mut bytes = Vec::new();
        wire::encode(&metadata, value.payload(), &mut bytes);
        bytes
    }
}

#[pymethods]
impl Bytes {
    /// `backend` is `dict`, `memcache_pool` or `etcd3`, and `config` its configuration in JSON.
    #[new]
    fn new(backend: &str, config: &str, envelope: bool) -> PyResult<Self> {
        let cache = match backend {
            "dict" => opened(DictBackend::from_config(read::<DictConfig>(config)?)),
            "memcache_pool" => opened(MemcachePoolBackend::from_config(
                read::<MemcachePoolConfig>(config)?,
            )),
            "etcd3" => opened(Etcd3Backend::from_config(read::<Etcd3Config>(config)?)),
            _ => Err(PyValueError::new_err(format!("unknown backend {backend}"))),
        }?;
        Ok(Self { cache, envelope })
    }

    fn get(&self, py: Python<'_>, key: &str) -> PyResult<Option<Vec<u8>>> {
        let get = || Ok(self.cache.get(key)?.map(|value| self.bytes(value)));
        py.detach(get).map_err(raise)
    }

    fn get_multi(&self, py: Python<'_>, keys: Vec<String>) -> PyResult<Vec<Option<Vec<u8>>>> {
        let get = || {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let found = self.cache.get_multi(&keys).into_iter();
            let found = found.map(|value| Ok(value?.map(|value| self.bytes(value))));
            found.collect::<Result<_, Error>>()
        };
        py.detach(get).map_err(raise)
    }

    fn set(&self, py: Python<'_>, key: &str, bytes: &[u8]) -> PyResult<()> {
        py.detach(|| self.cache.set(key, self.value(bytes)?))
            .map_err(raise)
    }

    fn set_multi(&self, py: Python<'_>, entries: Vec<(String, Vec<u8>)>) -> PyResult<()> {
        let set = || {
            let value = |(key, bytes): &(String, Vec<u8>)| {
                self.value(bytes).map_err(|error| error.with_key(key))
            };
            let values = entries
                .iter()
                .map(value)
                .collect::<Result<Vec<_>, Error>>()?;
            let keys = entries.iter().map(|(key, _)| key.as_str());
            self.cache.set_multi(keys.zip(values).collect())
        };
        py.detach(set).map_err(raise)
    }

    fn delete(&self, py: Python<'_>, key: &str) -> PyResult<()> {
        py.detach(|| self.cache.delete(key)).map_err(raise)
    }

    fn delete_multi(&self, py: Python<'_>, keys: Vec<String>) -> PyResult<()> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        py.detach(|| self.cache.delete_multi(&keys)).map_err(raise)
    }
}

fn read<C: DeserializeOwned>(config: &str) -> PyResult<C> {
    serde_json::from_str(config).map_err(|error| CacheError::new_err(error.to_string()))
}

fn opened(
    backend: Result<impl CacheBackend<Value = Vec<u8>> + 'static, Error>,
) -> PyResult<Blocking<DynBackend<Vec<u8>>>> {
    let opened = backend.and_then(|backend| backend.into_dyn().blocking());
    opened.map_err(raise)
}

/// `cache-dict` with Python objects as values, like `oslo_cache.dict`.
#[pyclass(frozen)]
struct Objects(DictBackend<Arc<Py<PyAny>>>);

#[pymethods]
impl Objects {
    /// `now` returns the time in seconds, and determines expiry.
    #[new]
    fn new(config: &str, now: Py<PyAny>) -> PyResult<Self> {
        let config: DictConfig = read(config)?;
        let clock = move || {
            let now = Python::attach(|py| now.call0(py)?.extract::<f64>(py));
            now.ok()
                .and_then(|now| Duration::try_from_secs_f64(now).ok())
                .unwrap_or_default()
        };
        let builder = DictBackend::builder().expiration_time(config.expiration_time);
        let cache = builder.max_entries(config.max_entries).clock(clock).build();
        cache.map(Self).map_err(raise)
    }

    fn get(&self, py: Python<'_>, key: &str) -> Option<Py<PyAny>> {
        let found = self.0.get_sync(key);
        found.map(|value| value.payload().clone_ref(py))
    }

    fn get_multi(&self, py: Python<'_>, keys: Vec<String>) -> Vec<Option<Py<PyAny>>> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = self.0.get_multi_sync(&keys).into_iter();
        found
            .map(|value| value.map(|value| value.payload().clone_ref(py)))
            .collect()
    }

    fn set(&self, key: &str, value: Py<PyAny>) {
        self.0.set_sync(key, CachedValue::new(Arc::new(value)));
    }

    fn set_multi(&self, entries: Vec<(String, Py<PyAny>)>) {
        let keys: Vec<String> = entries.iter().map(|(key, _)| key.clone()).collect();
        let values = entries
            .into_iter()
            .map(|(_, value)| CachedValue::new(Arc::new(value)));
        let entries = keys.iter().map(String::as_str).zip(values).collect();
        self.0.set_multi_sync(entries);
    }

    fn delete(&self, key: &str) {
        self.0.delete_sync(key);
    }

    fn delete_multi(&self, keys: Vec<String>) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.0.delete_multi_sync(&keys);
    }

    /// Removes expired entries.
    fn purge(&self) {
        self.0.purge();
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

#[pymodule]
fn _bridge(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("CacheError", module.py().get_type::<CacheError>())?;
    module.add_class::<Bytes>()?;
    module.add_class::<Objects>()
}
