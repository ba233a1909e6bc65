//! Redis clients.

use anyhow::Result;
use fred::prelude::*;
use redis::Cmd;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use super::TIMEOUT;
use crate::adapter::{Cache, Call};
use crate::entry::Entry;

/// The TTL in milliseconds, rounded up; `None` if it is unlimited or too long for Redis.
fn milliseconds(entry: &Entry) -> Option<i64> {
    let milliseconds = i64::try_from(entry.left()?.as_millis() + 1).ok();
    milliseconds.filter(|milliseconds| *milliseconds < 1 << 60)
}

pub async fn redis(address: String) -> Result<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT))
        .set_number_of_retries(1);
    let client = redis::Client::open(format!("redis://{address}"))?;
    Ok(client.get_connection_manager_with_config(config).await?)
}

impl Cache for ConnectionManager {
    async fn call(&self, call: Call) -> Result<Option<Entry>> {
        let manager = &mut self.clone();
        match call {
            Call::Get(key) => return Entry::from_bytes(Cmd::get(key).query_async(manager).await?),
            Call::Set(key, entry) => {
                let mut set = Cmd::set(key, entry.to_bytes());
                if let Some(ttl) = milliseconds(&entry) {
                    set.arg("PX").arg(ttl);
                }
                set.exec_async(manager).await?;
            }
            Call::Delete(key) => Cmd::del(key).exec_async(manager).await?,
        }
        Ok(None)
    }
}

pub async fn fred(address: String) -> Result<Client> {
    let mut builder = Builder::from_config(Config::from_url(&format!("redis://{address}"))?);
    builder.with_performance_config(|config| {
        config.default_command_timeout = TIMEOUT;
    });
    builder.set_policy(ReconnectPolicy::new_constant(0, 100));
    let client = builder.build()?;
    client.init().await?;
    Ok(client)
}

impl Cache for Client {
    async fn call(&self, call: Call) -> Result<Option<Entry>> {
        match call {
            Call::Get(key) => return Entry::from_bytes(self.get(key).await?),
            Call::Set(key, entry) => {
                let ttl = milliseconds(&entry).map(Expiration::PX);
                let bytes = entry.to_bytes();
                self.set::<(), _, _>(key, &bytes[..], ttl, None, false)
                    .await?;
            }
            Call::Delete(key) => self.del::<(), _>(key).await?,
        }
        Ok(None)
    }
}
