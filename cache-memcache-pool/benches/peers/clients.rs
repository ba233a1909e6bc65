//! The alternatives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use async_memcached::AsciiProtocol as _;
use comparison::load::Client;
use memcache::exp::{AsyncMetaClient, Get, Set};
use tokio::sync::{Mutex, MutexGuard};

#[derive(Clone)]
pub(crate) struct AsyncMeta(Arc<AsyncMetaClient>);

impl AsyncMeta {
    pub(crate) async fn connect(urls: &[String]) -> Result<Self> {
        let client = AsyncMetaClient::connect_multiple(urls.to_vec()).await?;
        Ok(Self(Arc::new(client)))
    }
}

impl Client for AsyncMeta {
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        if let [key] = keys {
            let found = self.0.get(key).send().await?.value;
            return Ok(usize::from(found.is_some()));
        }
        let mut count = 0;
        for found in self.0.run_many(keys.iter().map(Get::new)).await? {
            count += usize::from(found?.value.is_some());
        }
        Ok(count)
    }

    async fn set(&mut self, keys: &[&str], value: &[u8]) -> Result<()> {
        if let [key] = keys {
            self.0.set(key, value).send().await?;
            return Ok(());
        }
        let sets = keys.iter().map(|key| Set::new(key, value));
        for done in self.0.run_many(sets).await? {
            done?;
        }
        Ok(())
    }
}

/// Ten connections, each used by one caller at a time, because the crate has no pool.
#[derive(Clone)]
pub(crate) struct AsyncMemcached {
    clients: Arc<[Mutex<async_memcached::Client>]>,
    next: Arc<AtomicUsize>,
}

impl AsyncMemcached {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..10 {
            let client = async_memcached::Client::new(format!("tcp://{url}")).await?;
            clients.push(Mutex::new(client));
        }
        Ok(Self {
            clients: clients.into(),
            next: Arc::default(),
        })
    }

    async fn client(&self) -> Result<MutexGuard<'_, async_memcached::Client>> {
        let mut clients = self.clients.iter();
        if let Some(free) = clients.find_map(|client| client.try_lock().ok()) {
            return Ok(free);
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len();
        Ok(self.clients.get(next).context("a client")?.lock().await)
    }
}

impl Client for AsyncMemcached {
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        let mut client = self.client().await?;
        match keys {
            [key] => Ok(usize::from(client.get(key).await?.is_some())),
            _ => Ok(client.get_multi(keys).await?.len()),
        }
    }

    async fn set(&mut self, keys: &[&str], value: &[u8]) -> Result<()> {
        let mut client = self.client().await?;
        if let [key] = keys {
            return Ok(client.set(key, value, None, None).await?);
        }
        let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (*key, value)).collect();
        for (_, done) in client.set_multi(&entries, None, None).await? {
            done?;
        }
        Ok(())
    }
}
