//! hitbox's backends, which store bytes with an expiry date.

use std::time::Duration;

use anyhow::{Result, anyhow};
use chrono::{TimeDelta, Utc};
use hitbox_backend::{Backend, BackendError};
use hitbox_core::{CacheKey, CacheValue};
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};

use super::TIMEOUT;
use crate::adapter::{Cache, Call};
use crate::entry::Entry;

#[derive(Clone)]
pub struct Hitbox<B>(B);

pub async fn moka(_: String) -> Result<Hitbox<MokaBackend>> {
    Ok(Hitbox(MokaBackend::builder().max_entries(1 << 20).build()))
}

pub async fn redis(address: String) -> Result<Hitbox<RedisBackend>> {
    let mode = ConnectionMode::single(format!("redis://{address}"));
    let builder = RedisBackend::builder().connection(mode).retries(1);
    let builder = builder.connection_timeout(TIMEOUT);
    let builder = builder.response_timeout(TIMEOUT);
    Ok(Hitbox(builder.build()?))
}

/// Converts errors, which are not `Sync`.
fn text(error: BackendError) -> anyhow::Error {
    anyhow!("{error}")
}

fn cache_key(key: &str) -> CacheKey {
    CacheKey::from_str(key, "")
}

impl<B: Backend + Clone + 'static> Cache for Hitbox<B> {
    async fn call(&self, call: Call) -> Result<Option<Entry>> {
        match call {
            Call::Get(key) => {
                let found = self.0.read(&cache_key(&key)).await.map_err(text)?;
                return Entry::from_bytes(found.map(|found| found.into_inner().to_vec()));
            }
            Call::Set(key, entry) => {
                // hitbox rounds down to whole seconds.
                let left = entry.left().map(|left| left + Duration::from_secs(1));
                let left = left.and_then(|left| TimeDelta::from_std(left).ok());
                let expires = left.and_then(|left| Utc::now().checked_add_signed(left));
                let value = CacheValue::new(entry.to_bytes().into(), expires, None);
                self.0.write(&cache_key(&key), value).await.map_err(text)?;
            }
            Call::Delete(key) => drop(self.0.remove(&cache_key(&key)).await.map_err(text)?),
        }
        Ok(None)
    }
}
