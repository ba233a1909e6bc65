use std::time::{Duration, SystemTime};

use cache_core::wire::{self, Metadata};
use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands as _, Client, Pipeline, RedisError, RedisResult};

const NAME: &str = "redis-backend";
const LONGEST: u128 = 1000 * 365 * 86_400_000; // In milliseconds; Redis refuses what overflows.

/// Keeps values in Redis. Clones share the connection.
#[derive(Clone)]
pub struct RedisBackend {
    connection: ConnectionManager,
    default_ttl: Duration,
}

impl RedisBackend {
    /// Connects. Values without their own TTL live for `default_ttl`, or forever if it is zero.
    /// `timeout` limits each attempt to connect and each response.
    pub async fn open(url: &str, default_ttl: Duration, timeout: Duration) -> Result<Self> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            .set_number_of_retries(1);
        let connection = match Client::open(url) {
            Ok(client) => ConnectionManager::new_with_config(client, config).await,
            Err(error) => Err(error),
        };
        Ok(Self {
            connection: connection.map_err(|error| failed(&error))?,
            default_ttl,
        })
    }

    /// `SET` with the metadata before the payload, and the expiry in milliseconds.
    fn add_set(&self, pipeline: &mut Pipeline, key: &str, value: &CachedValue<Vec<u8>>) {
        let metadata = Metadata::of(value, self.default_ttl, SystemTime::now());
        let mut stored = Vec::new();
        wire::encode(&metadata, value.payload(), &mut stored);
        match value.ttl().or_default(self.default_ttl) {
            Some(Duration::ZERO) => pipeline.del(key).ignore(),
            // Redis removes it a moment later; the metadata ends it exactly.
            Some(ttl) if ttl.as_millis() < LONGEST => {
                let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                pipeline.pset_ex(key, stored, millis + 1).ignore()
            }
            _ => pipeline.set(key, stored).ignore(),
        };
    }
}

/// What a client's error means to a caller: whether the call may succeed later.
fn failed(error: &RedisError) -> Error {
    let kind = match error {
        error if error.is_timeout() => ErrorKind::Timeout,
        error if error.is_io_error() || error.is_connection_dropped() => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    };
    let message = format!("Redis failed: {error}").replace('\n', "; ");
    Error::new(kind, NAME, message)
}

/// A miss, a value, or an error that names its key.
fn decoded(key: &str, stored: Option<&[u8]>) -> Result<Option<CachedValue<Vec<u8>>>> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    let (metadata, payload) = wire::decode(stored, NAME).map_err(|error| error.with_key(key))?;
    Ok(metadata.attach(payload.to_vec(), SystemTime::now()))
}

impl CacheBackend for RedisBackend {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        self.get_multi(&[key]).await.pop().unwrap_or(Ok(None))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        self.set_multi(vec![(key, value)]).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.delete_multi(&[key]).await
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<Vec<u8>>>>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let found: RedisResult<Vec<Option<Vec<u8>>>> = self.connection.clone().mget(keys).await;
        let results = keys.iter().enumerate().map(|(place, key)| match &found {
            Ok(found) => decoded(key, found.get(place).and_then(Option::as_deref)),
            Err(error) => Err(failed(error).with_key(*key)),
        });
        results.collect()
    }

    async fn set_multi(&self, entries: Vec<(&str, CachedValue<Vec<u8>>)>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        // In their order: the last of a repeated key wins.
        let mut pipeline = redis::pipe();
        for (key, value) in &entries {
            self.add_set(&mut pipeline, key, value);
        }
        let done: RedisResult<()> = pipeline.query_async(&mut self.connection.clone()).await;
        done.map_err(|error| failed(&error).with_keys(entries.iter().map(|(key, _)| *key)))
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let done: RedisResult<()> = self.connection.clone().del(keys).await;
        done.map_err(|error| failed(&error).with_keys(keys.iter().copied()))
    }
}
