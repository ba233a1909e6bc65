//! The two sides of a shared cache, Rust and Python, with the same operations.
//!
//! A payload is JSON, or bytes as an object with hexadecimal digits, the encoding used for Python.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use cache_core::{CacheBackend as _, CachedValue, DynBackend};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

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
    json!({ "hex": hex(bytes) })
}

pub(crate) fn to_bytes(payload: &Value) -> Result<Vec<u8>> {
    match payload.get("hex").and_then(Value::as_str) {
        Some(digits) => unhex(digits),
        None => Ok(serde_json::to_vec(payload)?),
    }
}

/// A payload and the time at which it was cached, in seconds since the epoch.
pub(crate) type Found = (Value, f64);

/// A writer or reader of the cache.
pub(crate) trait Side {
    fn name(&self) -> &'static str;
    fn set(&self, key: &str, payload: &Value) -> Result<()>;
    fn set_multi(&self, entries: &[(String, Value)]) -> Result<()>;
    fn get(&self, key: &str) -> Result<Option<Found>>;
    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Value>>>;
    fn delete(&self, key: &str) -> Result<()>;
    fn delete_multi(&self, keys: &[&str]) -> Result<()>;
}

/// This workspace's backend.
pub(crate) struct Rust<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) cache: &'a DynBackend<Vec<u8>>,
    pub(crate) format: Format,
    pub(crate) ttl: Option<Duration>,
}

impl Rust<'_> {
    fn outgoing(&self, payload: &Value) -> Result<CachedValue<Vec<u8>>> {
        let value = CachedValue::new(to_bytes(payload)?);
        Ok(match self.ttl {
            Some(ttl) => value.with_ttl(ttl),
            None => value,
        })
    }

    fn incoming(&self, bytes: &[u8]) -> Result<Value> {
        Ok(match self.format {
            Format::Json => serde_json::from_slice(bytes)?,
            Format::Bytes => from_bytes(bytes),
        })
    }
}

impl Side for Rust<'_> {
    fn name(&self) -> &'static str {
        "Rust"
    }

    fn set(&self, key: &str, payload: &Value) -> Result<()> {
        let value = self.outgoing(payload)?;
        Ok(self.runtime.block_on(self.cache.set(key, value))?)
    }

    fn set_multi(&self, entries: &[(String, Value)]) -> Result<()> {
        let entries = entries.iter();
        let entries = entries.map(|(key, payload)| Ok((key.as_str(), self.outgoing(payload)?)));
        let entries = entries.collect::<Result<_>>()?;
        Ok(self.runtime.block_on(self.cache.set_multi(entries))?)
    }

    fn get(&self, key: &str) -> Result<Option<Found>> {
        let Some(value) = self.runtime.block_on(self.cache.get(key))? else {
            return Ok(None);
        };
        let cached_at = value.cached_at().duration_since(UNIX_EPOCH)?.as_secs_f64();
        Ok(Some((self.incoming(value.payload())?, cached_at)))
    }

    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Value>>> {
        let found = self
            .runtime
            .block_on(self.cache.get_multi(keys))
            .into_iter();
        let found = found.map(|found| {
            found?
                .map(|value| self.incoming(value.payload()))
                .transpose()
        });
        found.collect()
    }

    fn delete(&self, key: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.cache.delete(key))?)
    }

    fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        Ok(self.runtime.block_on(self.cache.delete_multi(keys))?)
    }
}

/// A region of dogpile.cache, identified by its number in the driver.
pub(crate) struct Region<'a> {
    python: &'a Python,
    number: Value,
}

impl<'a> Region<'a> {
    pub(crate) fn make(python: &'a Python, recipe: &Recipe) -> Result<Self> {
        let Recipe { lines, ini } = recipe;
        let number = python.ask(&json!({"do": "make", "lines": lines, "ini": ini}))?;
        Ok(Self { python, number })
    }

    /// Executes one of the driver's operations on this region.
    pub(crate) fn ask(&self, operation: &str, mut request: Value) -> Result<Value> {
        request["do"] = operation.into();
        request["region"] = self.number.clone();
        self.python.ask(&request)
    }
}

impl Side for Region<'_> {
    fn name(&self) -> &'static str {
        "Python"
    }

    fn set(&self, key: &str, payload: &Value) -> Result<()> {
        self.ask("set", json!({"key": key, "payload": payload}))
            .map(drop)
    }

    fn set_multi(&self, entries: &[(String, Value)]) -> Result<()> {
        self.ask("set_multi", json!({ "entries": entries }))
            .map(drop)
    }

    fn get(&self, key: &str) -> Result<Option<Found>> {
        let mut found = self.ask("get", json!({ "key": key }))?;
        if found.is_null() {
            return Ok(None);
        }
        // The time is text, because not every JSON parser reads floats exactly. It is missing if
        // the value has just expired.
        let Some(cached_at) = found["ct"].as_str().map(str::parse).transpose()? else {
            return Ok(None);
        };
        Ok(Some((found["payload"].take(), cached_at)))
    }

    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Value>>> {
        let found = self.ask("get_multi", json!({ "keys": keys }))?;
        let found = serde_json::from_value::<Vec<Option<(Value,)>>>(found)?.into_iter();
        Ok(found.map(|found| found.map(|(payload,)| payload)).collect())
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.ask("delete", json!({ "key": key })).map(drop)
    }

    fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        self.ask("delete_multi", json!({ "keys": keys })).map(drop)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

pub(crate) fn unhex(digits: &str) -> Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect()
}
