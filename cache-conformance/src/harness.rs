//! [`Harness`], how the suite gets hold of a backend.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheBackend, DynBackend};

use crate::{Capabilities, FaultControl, Faulty, ManualClock};

/// Why a backend could not be opened. Any error turns into it by `?`.
pub type OpenError = Box<dyn Error + Send + Sync>;

/// What the suite needs to know of a backend: how to open it, and what it promises.
///
/// The suite stores `Vec<u8>`. A backend that keeps any type is tested with that one.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
/// use cache_conformance::{Capabilities, Harness, OpenError, Options, Ttl};
/// # use cache_core::{CacheBackend, CachedValue, Result};
/// # #[derive(Clone, Default)] struct Memory(Arc<Mutex<HashMap<String, CachedValue<Vec<u8>>>>>);
/// # impl CacheBackend for Memory {
/// #   type Value = Vec<u8>;
/// #   async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> { self.check_key(key)?; Ok(self.0.lock().unwrap().get(key).cloned()) }
/// #   async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> { self.check_key(key)?; self.0.lock().unwrap().insert(key.into(), value); Ok(()) }
/// #   async fn delete(&self, key: &str) -> Result<()> { self.check_key(key)?; self.0.lock().unwrap().remove(key); Ok(()) }
/// # }
///
/// struct MemoryHarness;
///
/// impl Harness for MemoryHarness {
///     type Backend = Memory;
///
///     fn capabilities(&self) -> Capabilities {
///         Capabilities::default().with_ttl(Ttl::None)
///     }
///
///     async fn open(&self, _: &Options) -> Result<Memory, OpenError> {
///         Ok(Memory::default())
///     }
///
///     async fn again(&self, backend: &Memory, _: &Options) -> Result<Memory, OpenError> {
///         Ok(backend.clone())
///     }
/// }
///
/// let report = cache_conformance::Suite::new(MemoryHarness).only("basic").run();
/// assert!(report.is_ok(), "{report}");
/// ```
pub trait Harness: Send + Sync + 'static {
    /// The backend under test.
    type Backend: CacheBackend<Value = Vec<u8>> + 'static;

    /// What the backend promises. By default [`Capabilities::default`].
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Opens the backend with these options.
    ///
    /// Each rule opens its own, in a tokio runtime of its own, and works on keys that no other
    /// rule uses: stores may be shared and need not be empty. A server that tests start lives in
    /// a `static OnceLock`, so that all of them share it for as long as the process runs.
    fn open(
        &self,
        options: &Options,
    ) -> impl Future<Output = Result<Self::Backend, OpenError>> + Send;

    /// A second instance, on the store that `backend` uses. By default [`open`](Self::open),
    /// which is right where the store is a server; a backend that *is* the store returns
    /// another handle to it, usually a clone.
    fn again(
        &self,
        backend: &Self::Backend,
        options: &Options,
    ) -> impl Future<Output = Result<Self::Backend, OpenError>> + Send {
        let _ = backend;
        self.open(options)
    }

    /// Opens the backend on servers that fail when they are told to, and that no other rule
    /// uses; [`Capabilities::faults`] says how they can. By default an error, which is right for
    /// backends without servers.
    ///
    /// A [`Proxy`](crate::Proxy) in front of the shared server is enough:
    ///
    /// ```
    /// # use cache_conformance::{Capabilities, Fault, Faulty, Harness, OpenError, Options, Proxy};
    /// # use cache_core::{CacheBackend, CachedValue, Result as CacheResult};
    /// # struct MyBackend;
    /// # impl MyBackend { async fn connect(_: std::net::SocketAddr) -> CacheResult<Self> { Ok(Self) } }
    /// # impl CacheBackend for MyBackend {
    /// #   type Value = Vec<u8>;
    /// #   async fn get(&self, key: &str) -> CacheResult<Option<CachedValue<Vec<u8>>>> { Ok(None) }
    /// #   async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> CacheResult<()> { Ok(()) }
    /// #   async fn delete(&self, key: &str) -> CacheResult<()> { Ok(()) }
    /// # }
    /// # struct MyHarness { server: std::net::SocketAddr }
    /// impl Harness for MyHarness {
    /// #   type Backend = MyBackend;
    /// #   async fn open(&self, _: &Options) -> Result<MyBackend, OpenError> { Ok(MyBackend) }
    ///     // …
    ///     fn capabilities(&self) -> Capabilities {
    ///         Capabilities::default().with_faults(Fault::ALL)
    ///     }
    ///
    ///     async fn open_faulty(&self, _: &Options) -> Result<Faulty<MyBackend>, OpenError> {
    ///         let proxy = Proxy::start(self.server)?;
    ///         let backend = MyBackend::connect(proxy.address()).await?;
    ///         Ok(Faulty::new(backend, proxy))
    ///     }
    /// }
    /// ```
    fn open_faulty(
        &self,
        options: &Options,
    ) -> impl Future<Output = Result<Faulty<Self::Backend>, OpenError>> + Send {
        let _ = options;
        async { Err("the harness declares faults, but does not override `open_faulty`".into()) }
    }
}

/// How the suite wants the backend opened.
///
/// ```
/// use cache_conformance::Options;
/// # struct MyBackend;
/// # impl MyBackend { fn with_default_ttl(_: std::time::Duration) -> Self { Self } }
///
/// fn open(options: &Options) -> MyBackend {
///     MyBackend::with_default_ttl(options.default_ttl)
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The lifetime of values without one of their own. Zero: they do not expire.
    pub default_ttl: Duration,
    /// The clock of a backend that declares [`Clock::Manual`](crate::Clock::Manual); others
    /// leave it alone.
    pub clock: ManualClock,
}

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A backend that was opened, its type hidden.
pub(crate) struct Opened {
    pub(crate) backend: DynBackend<Vec<u8>>,
    again: Box<dyn Fn(Options) -> BoxFuture<'static, Result<Opened, OpenError>> + Send + Sync>,
}

impl Opened {
    pub(crate) async fn again(&self, options: Options) -> Result<Self, OpenError> {
        (self.again)(options).await
    }

    fn new<H: Harness>(harness: Arc<H>, backend: H::Backend) -> Self {
        let backend = Arc::new(backend);
        let handle = DynBackend::new(Arc::clone(&backend));
        let again = move |options: Options| -> BoxFuture<'static, _> {
            let harness = Arc::clone(&harness);
            let backend = Arc::clone(&backend);
            Box::pin(async move {
                let second = harness.again(&backend, &options).await?;
                Ok(Self::new(harness, second))
            })
        };
        Self {
            backend: handle,
            again: Box::new(again),
        }
    }
}

/// A harness, its type hidden, so that rules are plain functions.
pub(crate) trait Subject: Send + Sync {
    fn capabilities(&self) -> Capabilities;
    fn open(&self, options: Options) -> BoxFuture<'static, Result<Opened, OpenError>>;
    fn open_faulty(&self, options: Options) -> BoxFuture<'static, Result<OpenedFaulty, OpenError>>;
}

type OpenedFaulty = (Opened, Box<dyn FaultControl>);

pub(crate) struct Erased<H>(pub(crate) Arc<H>);

impl<H: Harness> Subject for Erased<H> {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn open(&self, options: Options) -> BoxFuture<'static, Result<Opened, OpenError>> {
        let harness = Arc::clone(&self.0);
        Box::pin(async move {
            let backend = harness.open(&options).await?;
            Ok(Opened::new(harness, backend))
        })
    }

    fn open_faulty(&self, options: Options) -> BoxFuture<'static, Result<OpenedFaulty, OpenError>> {
        let harness = Arc::clone(&self.0);
        Box::pin(async move {
            let faulty = harness.open_faulty(&options).await?;
            Ok((Opened::new(harness, faulty.backend), faulty.control))
        })
    }
}
