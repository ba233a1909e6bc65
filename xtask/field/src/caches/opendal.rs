//! OpenDAL's services for key-value stores. Keys are encoded in hexadecimal, so that OpenDAL's
//! handling of paths does not affect the results. The services do not support TTLs per value.

use std::fmt::Write as _;

use anyhow::Result;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{Builder, ErrorKind, Operator, services};

use super::TIMEOUT;
use crate::adapter::{Cache, Call};
use crate::entry::Entry;

pub async fn memory(_: String) -> Result<Operator> {
    open(services::Memory::default())
}

/// The service's connections time out after half a second, regardless of the configuration, so
/// retry calls on a busy machine.
pub async fn redis(address: String) -> Result<Operator> {
    let service = services::Redis::default().endpoint(&format!("redis://{address}"));
    Ok(open(service)?.layer(RetryLayer::new()))
}

pub async fn memcached(address: String) -> Result<Operator> {
    open(services::Memcached::default().endpoint(&format!("tcp://{address}")))
}

pub async fn etcd(address: String) -> Result<Operator> {
    open(services::Etcd::default().endpoints(&format!("http://{address}")))
}

fn open(service: impl Builder) -> Result<Operator> {
    let layer = TimeoutLayer::new().with_timeout(TIMEOUT);
    Ok(Operator::new(service)?.layer(layer.with_io_timeout(TIMEOUT)))
}

fn path(key: &str) -> String {
    key.bytes().fold("k".to_owned(), |mut path, byte| {
        let _ = write!(path, "{byte:02x}");
        path
    })
}

impl Cache for Operator {
    async fn call(&self, call: Call) -> Result<Option<Entry>> {
        match call {
            Call::Get(key) => match self.read(&path(&key)).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                found => return Entry::from_bytes(Some(found?.to_vec())),
            },
            Call::Set(key, entry) => drop(self.write(&path(&key), entry.to_bytes()).await?),
            Call::Delete(key) => self.delete(&path(&key)).await?,
        }
        Ok(None)
    }
}
