//! Ours and what a user could take instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use async_memcached::AsciiProtocol as _;
use cache_core::{CacheBackend as _, CachedValue};
use cache_memcache_pool::MemcachePoolBackend;
use memcache::exp::{AsyncMetaClient, Get, Set};
use tokio::sync::Mutex;

/// What all of them can do. Values found are told by their length.
pub(super) trait Client: Send + Sync + 'static {
    /// Before each key: one client does not read what another has written.
    const PREFIX: &'static str;

    fn get(&self, key: &str) -> impl Future<Output = Result<Option<usize>>> + Send;
    fn set(&self, key: &str, value: &[u8]) -> impl Future<Output = Result<()>> + Send;
    /// How many were found.
    fn get_multi(&self, keys: &[&str]) -> impl Future<Output = Result<usize>> + Send;
    fn set_multi(&self, keys: &[&str], value: &[u8]) -> impl Future<Output = Result<()>> + Send;
}

pub(super) struct Ours(MemcachePoolBackend);

impl Ours {
    pub(super) fn new(urls: &[String]) -> Result<Self> {
        Ok(Self(MemcachePoolBackend::builder().url(urls).build()?))
    }
}

impl Client for Ours {
    const PREFIX: &'static str = "ours";

    async fn get(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.0.get(key).await?.map(|found| found.payload().len()))
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        Ok(self.0.set(key, CachedValue::new(value.to_vec())).await?)
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<usize> {
        let found = self.0.get_multi(keys).await.into_iter();
        let found: Vec<_> = found.collect::<cache_core::Result<_>>()?;
        Ok(found.iter().flatten().count())
    }

    async fn set_multi(&self, keys: &[&str], value: &[u8]) -> Result<()> {
        let entries = keys
            .iter()
            .map(|key| (*key, CachedValue::new(value.to_vec())));
        Ok(self.0.set_multi(entries.collect()).await?)
    }
}

pub(super) struct AsyncMeta(AsyncMetaClient);

impl AsyncMeta {
    pub(super) async fn connect(urls: &[String]) -> Result<Self> {
        Ok(Self(
            AsyncMetaClient::connect_multiple(urls.to_vec()).await?,
        ))
    }
}

impl Client for AsyncMeta {
    const PREFIX: &'static str = "meta";

    async fn get(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.0.get(key).send().await?.value.map(|value| value.len()))
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.0.set(key, value).send().await?;
        Ok(())
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<usize> {
        let found = self.0.run_many(keys.iter().map(Get::new)).await?;
        let mut n = 0;
        for found in found {
            n += usize::from(found?.value.is_some());
        }
        Ok(n)
    }

    async fn set_multi(&self, keys: &[&str], value: &[u8]) -> Result<()> {
        let sets = keys.iter().map(|key| Set::new(key, value));
        for done in self.0.run_many(sets).await? {
            done?;
        }
        Ok(())
    }
}

/// Ten connections, each for one caller at a time: the crate has no pool of its own.
pub(super) struct AsyncMemcached {
    clients: Vec<Mutex<async_memcached::Client>>,
    next: AtomicUsize,
}

impl AsyncMemcached {
    pub(super) async fn connect(urls: &[String]) -> Result<Self> {
        let [url] = urls else {
            bail!("async-memcached has one server");
        };
        let mut clients = Vec::new();
        for _ in 0..10 {
            let client = async_memcached::Client::new(format!("tcp://{url}")).await?;
            clients.push(Mutex::new(client));
        }
        Ok(Self {
            clients,
            next: AtomicUsize::new(0),
        })
    }

    async fn client(&self) -> Result<tokio::sync::MutexGuard<'_, async_memcached::Client>> {
        if let Some(free) = self
            .clients
            .iter()
            .find_map(|client| client.try_lock().ok())
        {
            return Ok(free);
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len();
        Ok(self.clients.get(next).context("a client")?.lock().await)
    }
}

impl Client for AsyncMemcached {
    const PREFIX: &'static str = "asmc";

    async fn get(&self, key: &str) -> Result<Option<usize>> {
        let found = self.client().await?.get(key).await?;
        Ok(found.and_then(|value| value.data).map(|data| data.len()))
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        Ok(self.client().await?.set(key, value, None, None).await?)
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<usize> {
        Ok(self.client().await?.get_multi(keys).await?.len())
    }

    async fn set_multi(&self, keys: &[&str], value: &[u8]) -> Result<()> {
        let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (*key, value)).collect();
        let mut client = self.client().await?;
        for (_, done) in client.set_multi(&entries, None, None).await? {
            done?;
        }
        Ok(())
    }
}

/// The blocking client, in the way in which asynchronous programs call such a thing.
pub(super) struct Legacy(Arc<memcache::Client>);

impl Legacy {
    pub(super) fn connect(urls: &[String]) -> Result<Self> {
        let urls = urls.iter().map(|url| format!("memcache://{url}?timeout=3"));
        let client = memcache::Client::connect(urls.collect::<Vec<_>>())?;
        Ok(Self(Arc::new(client)))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&memcache::Client) -> Result<T, memcache::MemcacheError> + Send + 'static,
    ) -> Result<T> {
        let client = Arc::clone(&self.0);
        Ok(tokio::task::spawn_blocking(move || call(&client)).await??)
    }
}

impl Client for Legacy {
    const PREFIX: &'static str = "lgcy";

    async fn get(&self, key: &str) -> Result<Option<usize>> {
        let key = key.to_owned();
        let found = self
            .blocking(move |client| client.get::<Vec<u8>>(&key))
            .await?;
        Ok(found.map(|value| value.len()))
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let (key, value) = (key.to_owned(), value.to_vec());
        self.blocking(move |client| client.set(&key, value.as_slice(), 0))
            .await
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<usize> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let found = self.blocking(move |client| {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            client.gets::<Vec<u8>>(&keys)
        });
        Ok(found.await?.len())
    }

    async fn set_multi(&self, keys: &[&str], value: &[u8]) -> Result<()> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let value = value.to_vec();
        let done = self.blocking(move |client| {
            keys.iter()
                .try_for_each(|key| client.set(key, value.as_slice(), 0))
        });
        done.await
    }
}
