//! hitbox's backends, which keep bytes until a date.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use hitbox_backend::{Backend, BackendError};
use hitbox_core::{CacheKey, CacheValue};
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};

use super::{Client, Failure};

/// One of its backends.
pub trait Open: Backend + Clone + 'static {
    fn open(address: &str) -> Result<Self, Failure>;
}

impl Open for MokaBackend {
    fn open(_: &str) -> Result<Self, Failure> {
        Ok(Self::builder().max_entries(1 << 20).build())
    }
}

impl Open for RedisBackend {
    fn open(address: &str) -> Result<Self, Failure> {
        let mode = ConnectionMode::single(format!("redis://{address}"));
        let builder = Self::builder().connection(mode).retries(1);
        let builder = builder.connection_timeout(Duration::from_secs(1));
        Ok(builder.response_timeout(Duration::from_secs(2)).build()?)
    }
}

/// Its errors are not `Sync`.
fn text(error: BackendError) -> String {
    error.to_string()
}

#[derive(Clone)]
pub struct Hitbox<B>(B);

impl<B: Open> Client for Hitbox<B> {
    const MAX_KEY: Option<usize> = None;
    const MAX_VALUE: Option<usize> = None;

    async fn connect(address: &str) -> Result<Self, Failure> {
        Ok(Self(B::open(address)?))
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        let found = self.0.read(&CacheKey::from_str(key, "")).await;
        let found = found.map_err(text)?;
        Ok(found.map(|found| found.into_inner().to_vec()))
    }

    async fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Failure> {
        // It passes whole seconds on, rounded down.
        let ttl = ttl.and_then(|ttl| TimeDelta::from_std(ttl + Duration::from_secs(1)).ok());
        let expires = ttl.and_then(|ttl| Utc::now().checked_add_signed(ttl));
        let value = CacheValue::new(value.into(), expires, None);
        let written = self.0.write(&CacheKey::from_str(key, ""), value).await;
        Ok(written.map_err(text)?)
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let removed = self.0.remove(&CacheKey::from_str(key, "")).await;
        Ok(removed.map(drop).map_err(text)?)
    }
}
