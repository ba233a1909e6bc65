//! OpenDAL's services for key-value stores. A key is a path there: it is written in hexadecimal,
//! so that paths are not what is tested. Services have no TTL for each value.

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

/// Its connections wait half a second for a response, whatever is configured; on a busy machine
/// a call is repeated.
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
