//! The two sides of a cache: Rust and Python, with the same operations.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use cache_core::{CacheBackend as _, CachedValue, DynBackend};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::python::Python;

/// What is cached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Payload {
    /// `json.dumps` in Python.
    Json(Value),
    /// As they are, in both languages.
    Bytes(Vec<u8>),
}

/// How payloads become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Bytes,
}

impl Payload {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Json(_) => Format::Json,
            Self::Bytes(_) => Format::Bytes,
        }
    }
}

/// A payload that was read, and when it was cached, in seconds since the epoch.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) payload: Payload,
    pub(crate) cached_at: f64,
}

/// Who writes or reads.
pub(crate) trait Side {
    fn name(&self) -> &'static str;
    fn set(&self, key: &str, payload: &Payload) -> Result<()>;
    fn set_multi(&self, entries: &[(String, Payload)]) -> Result<()>;
    fn get(&self, key: &str) -> Result<Option<Found>>;
    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Payload>>>;
    fn delete(&self, key: &str) -> Result<()>;
    fn delete_multi(&self, keys: &[&str]) -> Result<()>;
}

/// This workspace's backend.
#[derive(Clone, Copy)]
pub(crate) struct Rust<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) cache: &'a DynBackend<Vec<u8>>,
    pub(crate) format: Format,
    pub(crate) ttl: Option<Duration>,
}

impl Rust<'_> {
    fn outgoing(self, payload: &Payload) -> Result<CachedValue<Vec<u8>>> {
        let value = CachedValue::new(match payload {
            Payload::Json(value) => serde_json::to_vec(value)?,
            Payload::Bytes(bytes) => bytes.clone(),
        });
        Ok(match self.ttl {
            Some(ttl) => value.with_ttl(ttl),
            None => value,
        })
    }

    fn incoming(self, bytes: Vec<u8>) -> Result<Payload> {
        Ok(match self.format {
            Format::Json => Payload::Json(serde_json::from_slice(&bytes)?),
            Format::Bytes => Payload::Bytes(bytes),
        })
    }
}

impl Side for Rust<'_> {
    fn name(&self) -> &'static str {
        "Rust"
    }

    fn set(&self, key: &str, payload: &Payload) -> Result<()> {
        let value = self.outgoing(payload)?;
        Ok(self.runtime.block_on(self.cache.set(key, value))?)
    }

    fn set_multi(&self, entries: &[(String, Payload)]) -> Result<()> {
        let entries = entries
            .iter()
            .map(|(key, payload)| Ok((key.as_str(), self.outgoing(payload)?)))
            .collect::<Result<_>>()?;
        Ok(self.runtime.block_on(self.cache.set_multi(entries))?)
    }

    fn get(&self, key: &str) -> Result<Option<Found>> {
        let Some(value) = self.runtime.block_on(self.cache.get(key))? else {
            return Ok(None);
        };
        let cached_at = value.cached_at().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let payload = self.incoming(value.into_payload())?;
        Ok(Some(Found { payload, cached_at }))
    }

    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Payload>>> {
        let found = self.runtime.block_on(self.cache.get_multi(keys));
        found
            .into_iter()
            .map(|found| {
                let payload = found?.map(|value| self.incoming(value.into_payload()));
                payload.transpose()
            })
            .collect()
    }

    fn delete(&self, key: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.cache.delete(key))?)
    }

    fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        Ok(self.runtime.block_on(self.cache.delete_multi(keys))?)
    }
}

/// A region of dogpile.cache in the driver, by its name there.
pub(crate) struct Region<'a> {
    pub(crate) python: &'a Python,
    pub(crate) name: String,
}

impl Region<'_> {
    /// One of the driver's operations on this region.
    pub(crate) fn ask(&self, operation: &str, mut request: Value) -> Result<Value> {
        let fields = request.as_object_mut().context("a request is an object")?;
        fields.insert("do".to_owned(), operation.into());
        fields.insert("region".to_owned(), self.name.as_str().into());
        self.python.ask(&request)
    }
}

impl Side for Region<'_> {
    fn name(&self) -> &'static str {
        "Python"
    }

    fn set(&self, key: &str, payload: &Payload) -> Result<()> {
        let request = json!({"key": key, "payload": to_python(payload)});
        self.ask("set", request).map(drop)
    }

    fn set_multi(&self, entries: &[(String, Payload)]) -> Result<()> {
        let entries: Vec<_> = entries
            .iter()
            .map(|(key, payload)| json!([key, to_python(payload)]))
            .collect();
        self.ask("set_multi", json!({ "entries": entries }))
            .map(drop)
    }

    fn get(&self, key: &str) -> Result<Option<Found>> {
        let mut found = self.ask("get", json!({ "key": key }))?;
        if found.is_null() {
            return Ok(None);
        }
        // As text: not every JSON parser reads a float to the last digit.
        let cached_at = found["ct"].as_str().context("no cached time")?.parse()?;
        let payload = from_python(found["payload"].take())?;
        Ok(Some(Found { payload, cached_at }))
    }

    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Payload>>> {
        let found = self.ask("get_multi", json!({ "keys": keys }))?;
        let found = serde_json::from_value::<Vec<Option<(Value,)>>>(found)?;
        found
            .into_iter()
            .map(|payload| payload.map(|(payload,)| from_python(payload)).transpose())
            .collect()
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.ask("delete", json!({ "key": key })).map(drop)
    }

    fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        self.ask("delete_multi", json!({ "keys": keys })).map(drop)
    }
}

/// JSON as it is, bytes as hexadecimal digits in an object.
fn to_python(payload: &Payload) -> Value {
    match payload {
        Payload::Json(value) => value.clone(),
        Payload::Bytes(bytes) => json!({ "hex": hex(bytes) }),
    }
}

pub(crate) fn from_python(value: Value) -> Result<Payload> {
    match value.get("hex").and_then(Value::as_str) {
        Some(digits) => Ok(Payload::Bytes(unhex(digits)?)),
        None => Ok(Payload::Json(value)),
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
