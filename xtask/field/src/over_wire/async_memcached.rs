//! async-memcached: one connection, for one caller at a time, opened anew once it is closed.

use std::sync::Arc;
use std::time::Duration;

use async_memcached::{AsciiProtocol, Client as Connection, Error, Status};
use tokio::sync::{Mutex, MutexGuard};

use super::{Client, Failure, seconds};

#[derive(Clone)]
pub struct Single {
    dsn: String,
    connection: Arc<Mutex<Connection>>,
}

impl Single {
    async fn lock(&self) -> Result<MutexGuard<'_, Connection>, Error> {
        let mut connection = self.connection.lock().await;
        if connection.is_closed() {
            *connection = Connection::new(&self.dsn).await?;
        }
        Ok(connection)
    }
}

impl Client for Single {
    const MAX_KEY: Option<usize> = Some(250);
    const MAX_VALUE: Option<usize> = Some(1_000_000);

    async fn connect(address: &str) -> Result<Self, Failure> {
        let dsn = format!("tcp://{address}");
        let connection = Arc::new(Mutex::new(Connection::new(&dsn).await?));
        Ok(Self { dsn, connection })
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        let found = self.lock().await?.get(key).await?;
        Ok(found.map(|found| found.data.unwrap_or_default()))
    }

    async fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Failure> {
        let ttl = Some(i64::from(seconds(ttl)));
        Ok(self
            .lock()
            .await?
            .set(key, value.as_slice(), ttl, None)
            .await?)
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        match self.lock().await?.delete(key).await {
            Err(Error::Protocol(Status::NotFound)) => Ok(()),
            done => Ok(done?),
        }
    }
}
