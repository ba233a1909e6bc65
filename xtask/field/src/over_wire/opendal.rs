//! OpenDAL's services for key-value stores. A key is a path there: it is written in hexadecimal,
//! so that paths are not what is tested.

use std::fmt::Write as _;
use std::time::Duration;

use opendal::services;
use opendal::{ErrorKind, Operator};

use super::{Client, Failure};

fn path(key: &str) -> String {
    key.bytes().fold("k".to_owned(), |mut path, byte| {
        let _ = write!(path, "{byte:02x}");
        path
    })
}

async fn get(operator: &Operator, key: &str) -> Result<Option<Vec<u8>>, Failure> {
    match operator.read(&path(key)).await {
        Ok(found) => Ok(Some(found.to_vec())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

macro_rules! service {
    ($name:ident, $max_key:expr, $max_value:expr, $address:ident => $builder:expr) => {
        #[derive(Clone)]
        pub struct $name(Operator);

        impl Client for $name {
            const MAX_KEY: Option<usize> = $max_key;
            const MAX_VALUE: Option<usize> = $max_value;

            async fn connect($address: String) -> Result<Self, Failure> {
                Ok(Self(Operator::new($builder)?.finish()))
            }

            async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
                get(&self.0, key).await
            }

            async fn set(
                &self,
                key: &str,
                value: Vec<u8>,
                _: Option<Duration>,
            ) -> Result<(), Failure> {
                self.0.write(&path(key), value).await?;
                Ok(())
            }

            async fn delete(&self, key: &str) -> Result<(), Failure> {
                Ok(self.0.delete(&path(key)).await?)
            }
        }
    };
}

service!(Redis, None, None, address => services::Redis::default().endpoint(&format!("redis://{address}")));
service!(Memcached, None, Some(1_000_000), address => services::Memcached::default().endpoint(&format!("tcp://{address}")));
