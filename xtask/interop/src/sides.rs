//! The two sides of a shared cache, Rust and Python, with the same operations.
//!
//! For Python, a payload is JSON, or bytes as an object with hexadecimal digits.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use cache_core::{Blocking, CacheBackend, CachedValue, DynBackend, Error, ErrorKind};
use serde_json::{Value, json};

use crate::python::Python;
use crate::recipe::Recipe;

/// How payloads are serialized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `json.dumps` in Python.
    Json,
    /// Unchanged, in both languages.
    Bytes,
}

pub(crate) fn from_bytes(bytes: &[u8]) -> Value {
    json!({ "hex": hex::encode(bytes) })
}

pub(crate) fn to_bytes(payload: &Value) -> Result<Vec<u8>> {
    match payload.get("hex").and_then(Value::as_str) {
        Some(digits) => Ok(hex::decode(digits)?),
        None => Ok(serde_json::to_vec(payload)?),
    }
}

/// A writer or reader of the cache: a backend of this workspace, or a [`Region`].
pub(crate) type Side<T = Vec<u8>> = Blocking<DynBackend<T>>;

/// The value of `key`, which must be there.
pub(crate) fn value_of<T>(cache: &Side<T>, key: &str) -> Result<CachedValue<T>>
where
    T: Send + Sync + 'static,
{
    cache.get(key)?.with_context(|| format!("misses {key}"))
}

/// A region of dogpile.cache, identified by its number in the driver.
pub(crate) struct Region {
    python: Arc<Python>,
    number: Value,
    format: Format,
}

impl Region {
    pub(crate) fn make(python: &Arc<Python>, recipe: &Recipe, format: Format) -> Result<Self> {
        let Recipe { lines, ini } = recipe;
        let number = python.ask(&json!({"do": "make", "lines": lines, "ini": ini}))?;
        let python = Arc::clone(python);
        Ok(Self {
            python,
            number,
            format,
        })
    }

    /// Executes one of the driver's operations on this region.
    pub(crate) fn ask(&self, operation: &str, mut request: Value) -> Result<Value> {
        request["do"] = operation.into();
        request["region"] = self.number.clone();
        self.python.ask(&request)
    }

    fn outgoing(&self, value: &CachedValue<Vec<u8>>) -> Result<Value> {
        Ok(match self.format {
            Format::Json => serde_json::from_slice(value.payload())?,
            Format::Bytes => from_bytes(value.payload()),
        })
    }
}

fn failed(error: impl Into<anyhow::Error>) -> Error {
    Error::new(ErrorKind::Backend, "Python", format!("{:#}", error.into()))
}

/// Values live as long as the recipe of the region says; their own TTL is ignored.
impl CacheBackend for Region {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> cache_core::Result<Option<CachedValue<Vec<u8>>>> {
        let found = self.ask("get", json!({ "key": key })).map_err(failed)?;
        // The time is text, because not every JSON parser reads floats exactly. It is missing if
        // the value has just expired.
        let Some(cached_at) = found["ct"].as_str() else {
            return Ok(None);
        };
        let cached_at = Duration::from_secs_f64(cached_at.parse().map_err(failed)?);
        let payload = to_bytes(&found["payload"]).map_err(failed)?;
        Ok(Some(
            CachedValue::new(payload).with_cached_at(UNIX_EPOCH + cached_at),
        ))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> cache_core::Result<()> {
        let payload = self.outgoing(&value).map_err(failed)?;
        let done = self.ask("set", json!({"key": key, "payload": payload}));
        done.map(drop).map_err(failed)
    }

    async fn delete(&self, key: &str) -> cache_core::Result<()> {
        let done = self.ask("delete", json!({ "key": key }));
        done.map(drop).map_err(failed)
    }

    async fn get_multi(
        &self,
        keys: &[&str],
    ) -> Vec<cache_core::Result<Option<CachedValue<Vec<u8>>>>> {
        let found = self.ask("get_multi", json!({ "keys": keys }));
        let found =
            found.and_then(|found| Ok(serde_json::from_value::<Vec<Option<(Value,)>>>(found)?));
        match found {
            Ok(found) => {
                let value = |(payload,)| Ok(CachedValue::new(to_bytes(&payload).map_err(failed)?));
                found
                    .into_iter()
                    .map(|found| found.map(value).transpose())
                    .collect()
            }
            Err(error) => vec![Err(failed(error)); keys.len()],
        }
    }

    async fn set_multi(
        &self,
        entries: Vec<(&str, CachedValue<Vec<u8>>)>,
    ) -> cache_core::Result<()> {
        let entries = entries
            .iter()
            .map(|(key, value)| Ok((key, self.outgoing(value)?)));
        let entries = entries.collect::<Result<Vec<_>>>().map_err(failed)?;
        let done = self.ask("set_multi", json!({ "entries": entries }));
        done.map(drop).map_err(failed)
    }

    async fn delete_multi(&self, keys: &[&str]) -> cache_core::Result<()> {
        let done = self.ask("delete_multi", json!({ "keys": keys }));
        done.map(drop).map_err(failed)
    }
}
