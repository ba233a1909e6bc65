//! fred.

use std::time::Duration;

use fred::prelude::*;
use fred::types::Expiration;

use super::{Client as Adapter, Failure};

impl Adapter for Client {
    const MAX_KEY: Option<usize> = None;
    const MAX_VALUE: Option<usize> = None;

    async fn connect(address: &str) -> Result<Self, Failure> {
        let config = Config::from_url(&format!("redis://{address}"))?;
        let client = Builder::from_config(config)
            .with_performance_config(|config| {
                config.default_command_timeout = Duration::from_secs(2);
            })
            .set_policy(ReconnectPolicy::new_constant(0, 100))
            .build()?;
        client.init().await?;
        Ok(client)
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(KeysInterface::get(self, key).await?)
    }

    async fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Failure> {
        let ttl = ttl.map(|ttl| i64::try_from(ttl.as_millis() + 1).unwrap_or(i64::MAX));
        let ttl = ttl.filter(|ms| *ms < 1 << 60).map(Expiration::PX);
        Ok(KeysInterface::set(self, key, value.as_slice(), ttl, None, false).await?)
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        Ok(KeysInterface::del(self, key).await?)
    }
}
