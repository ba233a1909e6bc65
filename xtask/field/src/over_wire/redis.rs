//! redis, with its connection manager.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, SetExpiry, SetOptions};

use super::{Client, Failure};

impl Client for ConnectionManager {
    const MAX_KEY: Option<usize> = None;
    const MAX_VALUE: Option<usize> = None;

    async fn connect(address: &str) -> Result<Self, Failure> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(2)))
            .set_number_of_retries(1);
        let client = redis::Client::open(format!("redis://{address}"))?;
        Ok(Self::new_with_config(client, config).await?)
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(AsyncCommands::get(&mut self.clone(), key).await?)
    }

    async fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Failure> {
        let mut options = SetOptions::default();
        // Milliseconds beyond this are refused as an invalid expiry time.
        let ttl = ttl.map(|ttl| u64::try_from(ttl.as_millis() + 1).unwrap_or(u64::MAX));
        if let Some(ms) = ttl.filter(|ms| *ms < 1 << 60) {
            options = options.with_expiration(SetExpiry::PX(ms));
        }
        Ok(self.clone().set_options(key, value, options).await?)
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        Ok(AsyncCommands::del(&mut self.clone(), key).await?)
    }
}
