//! memcached clients.

use std::sync::Arc;

use anyhow::Result;
use async_memcached::{AsciiProtocol, Client, Error, Status};
use memcache::exp::AsyncMetaClient;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::TIMEOUT;
use crate::adapter::{Cache, Call};
use crate::entry::Entry;

/// The TTL in seconds, rounded up. Zero means forever, which is also used for TTLs of more than 30
/// days, because memcached would interpret these as dates.
fn seconds(entry: &Entry) -> u32 {
    let seconds = entry.left().map_or(0, |left| left.as_secs() + 2);
    match u32::try_from(seconds) {
        Ok(seconds @ ..=2_592_000) => seconds,
        _ => 0,
    }
}

pub async fn memcache_exp(address: String) -> Result<Arc<AsyncMetaClient>> {
    let builder = AsyncMetaClient::builder().io_timeout(Some(TIMEOUT));
    Ok(Arc::new(builder.connect_async(&address).await?))
}

impl Cache for Arc<AsyncMetaClient> {
    async fn call(&self, call: Call) -> Result<Option<Entry>> {
        match call {
            Call::Get(key) => return Entry::from_bytes(self.get(&key).send().await?.value),
            Call::Set(key, entry) => {
                let set = self.set(&key, entry.to_bytes());
                set.ttl_raw(seconds(&entry)).send().await?;
            }
            Call::Delete(key) => drop(self.delete(&key).send().await?),
        }
        Ok(None)
    }
}

pub async fn memcache(address: String) -> Result<memcache::Client> {
    let url = format!("memcache://{address}?timeout=5&connect_timeout=5");
    // `connect` would remove the timeouts set in the URL.
    Ok(spawn_blocking(|| memcache::Client::with_pool_size(url, 4)).await??)
}

impl Cache for memcache::Client {
    async fn call(&self, call: Call) -> Result<Option<Entry>> {
        let client = self.clone();
        let blocking = move || match call {
            Call::Get(key) => client.get(&key),
            Call::Set(key, entry) => {
                let set = client.set(&key, &entry.to_bytes()[..], seconds(&entry));
                set.map(|()| None)
            }
            Call::Delete(key) => client.delete(&key).map(|_| None),
        };
        Entry::from_bytes(spawn_blocking(blocking).await??)
    }
}

/// A connection for one caller at a time, reopened after it is closed.
#[derive(Clone)]
pub struct Connection {
    dsn: String,
    client: Arc<Mutex<Client>>,
}

pub async fn async_memcached(address: String) -> Result<Connection> {
    let dsn = format!("tcp://{address}");
    let client = Arc::new(Mutex::new(Client::new(&dsn).await?));
    Ok(Connection { dsn, client })
}

impl Cache for Connection {
    async fn call(&self, call: Call) -> Result<Option<Entry>> {
        let mut client = self.client.lock().await;
        if client.is_closed() {
            *client = Client::new(&self.dsn).await?;
        }
        match call {
            Call::Get(key) => {
                let found = client.get(key).await?;
                return Entry::from_bytes(found.and_then(|found| found.data));
            }
            Call::Set(key, entry) => {
                let ttl = Some(i64::from(seconds(&entry)));
                client.set(key, &entry.to_bytes()[..], ttl, None).await?;
            }
            Call::Delete(key) => match client.delete(key).await {
                Err(Error::Protocol(Status::NotFound)) => {}
                deleted => deleted?,
            },
        }
        Ok(None)
    }
}
