//! OpenDAL's services for key-value stores. A key is a path there: it is written in hexadecimal,
//! so that paths are not what is tested.

use std::fmt::Write as _;
use std::marker::PhantomData;
use std::time::Duration;

use opendal::layers::TimeoutLayer;
use opendal::{ErrorKind, Operator, services};

use super::{Client, Failure};

/// A service: the most that a key and a value may have, in bytes, and how it is opened.
pub trait Service: 'static {
    const MAX_KEY: Option<usize> = None;
    const MAX_VALUE: Option<usize>;
    fn open(address: &str) -> opendal::Result<Operator>;
}

impl Service for services::Memory {
    const MAX_VALUE: Option<usize> = None;
    fn open(_: &str) -> opendal::Result<Operator> {
        Operator::new(Self::default())
    }
}

impl Service for services::Redis {
    const MAX_VALUE: Option<usize> = None;
    fn open(address: &str) -> opendal::Result<Operator> {
        Operator::new(Self::default().endpoint(&format!("redis://{address}")))
    }
}

impl Service for services::Memcached {
    /// Of the 250 bytes that memcached takes, after [`path`].
    const MAX_KEY: Option<usize> = Some(124);
    const MAX_VALUE: Option<usize> = Some(1_000_000);
    fn open(address: &str) -> opendal::Result<Operator> {
        Operator::new(Self::default().endpoint(&format!("tcp://{address}")))
    }
}

impl Service for services::Etcd {
    const MAX_VALUE: Option<usize> = Some(1_000_000);
    fn open(address: &str) -> opendal::Result<Operator> {
        Operator::new(Self::default().endpoints(&format!("http://{address}")))
    }
}

pub struct OpenDal<S>(Operator, PhantomData<fn() -> S>);

impl<S> Clone for OpenDal<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

fn path(key: &str) -> String {
    key.bytes().fold("k".to_owned(), |mut path, byte| {
        let _ = write!(path, "{byte:02x}");
        path
    })
}

impl<S: Service> Client for OpenDal<S> {
    const MAX_KEY: Option<usize> = S::MAX_KEY;
    const MAX_VALUE: Option<usize> = S::MAX_VALUE;

    async fn connect(address: &str) -> Result<Self, Failure> {
        let limit = Duration::from_secs(5);
        let timeout = TimeoutLayer::new()
            .with_timeout(limit)
            .with_io_timeout(limit);
        Ok(Self(S::open(address)?.layer(timeout), PhantomData))
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self.0.read(&path(key)).await {
            Ok(found) => Ok(Some(found.to_vec())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Services have no TTL for each value.
    async fn set(&self, key: &str, value: Vec<u8>, _: Option<Duration>) -> Result<(), Failure> {
        self.0.write(&path(key), value).await?;
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        Ok(self.0.delete(&path(key)).await?)
    }
}
