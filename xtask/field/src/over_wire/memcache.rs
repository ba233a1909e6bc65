//! `memcache::Client`, which blocks.

use std::sync::Arc;
use std::time::Duration;

use memcache::{Client as Blocking, MemcacheError};

use super::{Client, Failure, seconds};

#[derive(Clone)]
pub struct Legacy(Arc<Blocking>);

impl Legacy {
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Blocking) -> Result<T, MemcacheError> + Send + 'static,
    ) -> Result<T, Failure> {
        let client = Arc::clone(&self.0);
        Ok(tokio::task::spawn_blocking(move || call(&client)).await??)
    }
}

impl Client for Legacy {
    const MAX_KEY: Option<usize> = Some(250);
    const MAX_VALUE: Option<usize> = Some(1_000_000);

    async fn connect(address: &str) -> Result<Self, Failure> {
        let url = format!("memcache://{address}?timeout=2&connect_timeout=2");
        // `connect` takes the time-outs of the URL off again.
        let connect = move || Blocking::with_pool_size(url, 4);
        let client = tokio::task::spawn_blocking(connect).await??;
        Ok(Self(Arc::new(client)))
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        let key = key.to_owned();
        self.run(move |client| client.get(&key)).await
    }

    async fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Failure> {
        let key = key.to_owned();
        self.run(move |client| client.set(&key, value.as_slice(), seconds(ttl)))
            .await
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let key = key.to_owned();
        self.run(move |client| client.delete(&key).map(drop)).await
    }
}
