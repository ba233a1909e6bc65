//! Adapts caches to the conformance suite.

use std::time::Duration;

use cache_conformance::{
    Capabilities, Expiry, Fault, Faulty, Harness, OpenError, Options, Proxy, Suite,
};
use cache_core::{CacheBackend, CachedValue, Error, ErrorKind, Result};

use crate::entry::Entry;

/// A call to a cache.
pub enum Call {
    Get(String),
    Set(String, Entry),
    Delete(String),
}

/// A cache or a connected client.
pub trait Cache: Clone + Send + Sync + 'static {
    /// Executes a call; a get returns the entry found.
    fn call(&self, call: Call) -> impl Future<Output = anyhow::Result<Option<Entry>>> + Send;
}

/// The store of a cache and its limits.
#[derive(Clone)]
pub struct Store {
    /// The address of the server; empty for in-process caches.
    pub address: String,
    /// In bytes.
    pub max_key: Option<usize>,
    /// In bytes.
    pub max_value: Option<usize>,
    pub call_limit: Duration,
}

impl Store {
    pub fn new(address: &str, max_key: Option<usize>, max_value: Option<usize>) -> Self {
        Self {
            address: address.to_owned(),
            max_key,
            max_value,
            // Thousands of keys, one by one, take a while on a busy machine.
            call_limit: Duration::from_secs(600),
        }
    }

    pub fn in_process() -> Self {
        Self::new("", None, None)
    }
}

#[derive(Clone)]
struct Adapter<C> {
    cache: C,
    store: Store,
    default_ttl: Duration,
}

impl<C: Cache> Adapter<C> {
    /// `length` is the length of the value to write.
    async fn call(&self, key: &str, length: usize, call: Call) -> Result<Option<Entry>> {
        let failure = match self.cache.call(call).await {
            Ok(found) => return Ok(found),
            Err(failure) => failure,
        };
        let error = failure.downcast().unwrap_or_else(|failure| {
            let text = failure.to_string();
            let lower = text.to_lowercase();
            let refusals = ["invalid key", "key is", "key too", "key contains"];
            let is_too_long = |max| key.is_empty() || key.len() > max;
            // Clients need not tell which of their errors reject a key or a value.
            let kind = if self.store.max_key.is_some_and(is_too_long) {
                ErrorKind::InvalidKey
            } else if self.store.max_value.is_some_and(|max| length > max) {
                ErrorKind::ValueTooLarge
            } else if refusals.iter().any(|refusal| lower.contains(refusal)) {
                ErrorKind::InvalidKey
            } else {
                ErrorKind::Unavailable
            };
            // Messages of clients may have several lines.
            let words: Vec<&str> = text.split_whitespace().collect();
            Error::new(kind, "field", words.join(" "))
        });
        Err(error.with_key(key))
    }
}

impl<C: Cache> CacheBackend for Adapter<C> {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        let found = self.call(key, 0, Call::Get(key.to_owned())).await?;
        Ok(found.map(Entry::into_value))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        let ttl = value.ttl().or_default(self.default_ttl);
        if ttl == Some(Duration::ZERO) {
            return self.delete(key).await;
        }
        let length = value.payload().len();
        let set = Call::Set(key.to_owned(), Entry::new(value, ttl));
        let written = self.call(key, length, set).await;
        if matches!(&written, Err(error) if error.kind() == ErrorKind::ValueTooLarge) {
            // The contract requires that the old value is removed, but stores may keep it.
            self.delete(key).await?;
        }
        written.map(drop)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let deleted = self.call(key, 0, Call::Delete(key.to_owned())).await;
        deleted.map(drop)
    }
}

/// Opens a cache, optionally with a proxy in front of its server.
struct Opens<F> {
    open: F,
    store: Store,
}

impl<C, O, F> Harness for Opens<F>
where
    C: Cache,
    O: Future<Output = anyhow::Result<C>> + Send,
    F: Fn(String) -> O + Send + Sync + 'static,
{
    type Backend = Adapter<C>;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default()
            .with_call_limit(self.store.call_limit)
            .with_recovery(Duration::from_secs(30));
        if !self.store.address.is_empty() {
            capabilities = capabilities
                .with_expiry(Expiry::Granularity(Duration::from_secs(1)))
                .with_faults(Fault::ALL);
        }
        capabilities.max_key = self.store.max_key;
        capabilities.max_value = self.store.max_value;
        capabilities
    }

    async fn open(&self, options: &Options) -> Result<Adapter<C>, OpenError> {
        Ok(Adapter {
            cache: (self.open)(self.store.address.clone()).await?,
            store: self.store.clone(),
            default_ttl: options.default_ttl,
        })
    }

    async fn again(&self, first: &Adapter<C>, options: &Options) -> Result<Adapter<C>, OpenError> {
        match self.store.address.is_empty() {
            true => Ok(first.clone()),
            false => self.open(options).await,
        }
    }

    async fn open_faulty(&self, options: &Options) -> Result<Faulty<Adapter<C>>, OpenError> {
        let proxy = Proxy::start(self.store.address.parse()?)?;
        let mut backend = self.open(options).await?;
        backend.cache = (self.open)(proxy.address().to_string()).await?;
        Ok(Faulty::new(backend, proxy))
    }
}

/// Creates the suite for the caches returned by `open`.
pub fn suite<C, O, F>(store: &Store, open: F) -> Suite
where
    C: Cache,
    O: Future<Output = anyhow::Result<C>> + Send,
    F: Fn(String) -> O + Send + Sync + 'static,
{
    let store = store.clone();
    let in_process = store.address.is_empty();
    let no_limits = store.max_key.or(store.max_value).is_none();
    let mut suite = Suite::new(Opens { open, store });
    if in_process {
        suite = suite.waive("faults", "lives in this process");
    }
    if no_limits {
        suite = suite.waive("limits", "has no limits");
    }
    suite
}
