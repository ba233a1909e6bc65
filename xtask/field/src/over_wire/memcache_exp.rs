//! `memcache::exp::AsyncMetaClient`.

use std::sync::Arc;
use std::time::Duration;

use memcache::exp::AsyncMetaClient;

use super::{Client, Failure, seconds};

impl Client for Arc<AsyncMetaClient> {
    const MAX_KEY: Option<usize> = Some(250);
    const MAX_VALUE: Option<usize> = Some(1_000_000);

    async fn connect(address: &str) -> Result<Self, Failure> {
        Ok(Self::new(AsyncMetaClient::connect(address).await?))
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(AsyncMetaClient::get(self, key).send().await?.value)
    }

    async fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Failure> {
        AsyncMetaClient::set(self, key, value)
            .ttl_raw(seconds(ttl))
            .send()
            .await?;
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        AsyncMetaClient::delete(self, key).send().await?;
        Ok(())
    }
}
