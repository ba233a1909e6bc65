//! Clients of servers. They store bytes: the envelope of `cache_core::wire`, whose deadline the
//! adapter looks at; the server is told of the TTL as well.

pub mod async_memcached;
mod fred;
pub mod hitbox;
pub mod memcache;
mod memcache_exp;
pub mod opendal;
mod redis;

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use cache_conformance::{Capabilities, Expiry, Fault, Faulty, Harness, OpenError, Options, Proxy};
use cache_core::wire::{self, Metadata};
use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};

pub type Failure = Box<dyn StdError + Send + Sync>;

/// A connected client.
pub trait Client: Clone + Send + Sync + Sized + 'static {
    const MAX_KEY: Option<usize>;
    const MAX_VALUE: Option<usize>;

    fn connect(address: &str) -> impl Future<Output = Result<Self, Failure>> + Send;
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Vec<u8>>, Failure>> + Send;
    /// `ttl`: at least so long; `None`: for ever.
    fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
    fn delete(&self, key: &str) -> impl Future<Output = Result<(), Failure>> + Send;

    /// What the client means by an error.
    fn kind(error: &Failure) -> ErrorKind {
        let text = error.to_string().to_lowercase();
        if ["invalid key", "key is", "key too", "key contains"]
            .iter()
            .any(|said| text.contains(said))
        {
            ErrorKind::InvalidKey
        } else if text.contains("too large") || text.contains("too big") {
            ErrorKind::ValueTooLarge
        } else if text.contains("timed out") || text.contains("timeout") {
            ErrorKind::Timeout
        } else {
            ErrorKind::Unavailable
        }
    }
}

/// Seconds for memcached, rounded up.
pub fn seconds(ttl: Option<Duration>) -> u32 {
    let seconds = ttl.map_or(0, |ttl| ttl.as_secs() + 2);
    match seconds {
        // Longer ones are taken for a date.
        0..=2_592_000 => seconds as u32,
        _ => 0,
    }
}

#[derive(Clone)]
pub struct OverWire<C> {
    client: C,
    default_ttl: Duration,
}

/// `length`: of the value that was written.
fn failed<C: Client>(key: &str, length: usize) -> impl FnOnce(Failure) -> Error {
    move |error| {
        // Which of its errors refuses a key or a value, a client need not say.
        let kind = if C::MAX_KEY.is_some_and(|max| key.is_empty() || key.len() > max) {
            ErrorKind::InvalidKey
        } else if C::MAX_VALUE.is_some_and(|max| length > max) {
            ErrorKind::ValueTooLarge
        } else {
            C::kind(&error)
        };
        let new = Error::new(kind, "field", error.to_string());
        new.with_key(key).with_source(error)
    }
}

impl<C: Client> CacheBackend for OverWire<C> {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        let Some(stored) = self.client.get(key).await.map_err(failed::<C>(key, 0))? else {
            return Ok(None);
        };
        let decoded = wire::decode(&stored, "field");
        let (metadata, payload) = decoded.map_err(|error| error.with_key(key))?;
        Ok(metadata.attach(payload.to_vec(), SystemTime::now()))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        let ttl = value.ttl().or_default(self.default_ttl);
        if ttl == Some(Duration::ZERO) {
            return self.delete(key).await;
        }
        let metadata = Metadata::of(&value, self.default_ttl, SystemTime::now());
        let mut stored = Vec::new();
        wire::encode(&metadata, value.payload(), &mut stored);
        let (length, ttl) = (stored.len(), metadata.deadline.and(ttl));
        let written = self.client.set(key, stored, ttl).await;
        let written = written.map_err(failed::<C>(key, length));
        if let Err(error) = &written
            && error.kind() == ErrorKind::ValueTooLarge
        {
            // The contract has the old value removed, which a store need not do.
            self.delete(key).await?;
        }
        written
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.client.delete(key).await.map_err(failed::<C>(key, 0))
    }
}

/// Opens a client on a server, and on one behind a proxy.
pub struct OnServer<C> {
    /// `None` for what keeps its bytes in this process.
    pub address: Option<String>,
    pub client: std::marker::PhantomData<fn() -> C>,
}

impl<C: Client> OnServer<C> {
    async fn connect(&self, address: &str, options: &Options) -> Result<OverWire<C>, OpenError> {
        Ok(OverWire {
            client: C::connect(address).await?,
            default_ttl: options.default_ttl,
        })
    }
}

impl<C: Client> Harness for OnServer<C> {
    type Backend = OverWire<C>;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default()
            .with_expiry(Expiry::Granularity(Duration::from_secs(1)))
            // Some thousand keys one by one take a while, and longer on a busy machine.
            .with_call_limit(Duration::from_secs(30));
        if self.address.is_some() {
            capabilities = capabilities.with_faults(Fault::ALL);
        }
        capabilities.max_key = C::MAX_KEY;
        capabilities.max_value = C::MAX_VALUE;
        capabilities
    }

    async fn open(&self, options: &Options) -> Result<Self::Backend, OpenError> {
        let address = self.address.as_deref().unwrap_or_default();
        self.connect(address, options).await
    }

    async fn again(
        &self,
        first: &Self::Backend,
        options: &Options,
    ) -> Result<Self::Backend, OpenError> {
        match &self.address {
            None => Ok(first.clone()),
            Some(address) => self.connect(address, options).await,
        }
    }

    async fn open_faulty(&self, options: &Options) -> Result<Faulty<Self::Backend>, OpenError> {
        let address = self.address.as_deref().unwrap_or_default();
        let proxy = Proxy::start(address.parse()?)?;
        let backend = self.connect(&proxy.address().to_string(), options).await?;
        Ok(Faulty::new(backend, proxy))
    }
}
