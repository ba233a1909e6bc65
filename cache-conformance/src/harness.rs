//! [`Harness`], which opens a backend for the suite.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use cache_core::{CacheBackend, CachedValue, DynBackend, MapKeys};

use crate::{Capabilities, FaultControl, Faulty, ManualClock, OpenError};

/// How to open a backend, and what it promises.
///
/// The suite stores `Vec<u8>`. To test a generic backend, instantiate it with that type.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
/// use cache_conformance::{Capabilities, Expiry, Harness, OpenError, Options};
/// # use cache_core::{CacheBackend, CachedValue, Result};
/// # #[derive(Clone, Default)] struct Memory(Arc<Mutex<HashMap<String, CachedValue<Vec<u8>>>>>);
/// # impl CacheBackend for Memory {
/// #   type Value = Vec<u8>;
/// #   async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> { Ok(self.0.lock().unwrap().get(key).cloned()) }
/// #   async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> { self.0.lock().unwrap().insert(key.into(), value); Ok(()) }
/// #   async fn delete(&self, key: &str) -> Result<()> { self.0.lock().unwrap().remove(key); Ok(()) }
/// # }
///
/// struct MemoryHarness;
///
/// impl Harness for MemoryHarness {
///     type Backend = Memory;
///
///     fn capabilities(&self) -> Capabilities {
///         Capabilities::default().with_expiry(Expiry::None)
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

    /// Returns what the backend supports and promises. The default is [`Capabilities::default`].
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Opens the backend with these options.
    ///
    /// Each rule opens its own instance in its own Tokio runtime and works on keys that no other
    /// rule uses, so stores may be shared and need not be empty. Keep a server that the tests start
    /// in a `static OnceLock`, so that all tests share it.
    ///
    /// # Errors
    ///
    /// If the backend cannot be opened. `basic::the_backend_can_be_reached` shows the error, and
    /// the other rules are not run.
    fn open(
        &self,
        options: &Options,
    ) -> impl Future<Output = Result<Self::Backend, OpenError>> + Send;

    /// Opens a second instance on the store that `backend` uses.
    ///
    /// The default implementation calls [`open`](Self::open), which is correct if the store is a
    /// server. If the backend *is* the store, return another handle to it, usually a clone.
    fn again(
        &self,
        backend: &Self::Backend,
        options: &Options,
    ) -> impl Future<Output = Result<Self::Backend, OpenError>> + Send {
        let _ = backend;
        self.open(options)
    }

    /// Opens the backend on servers into which faults can be injected and that no other rule uses;
    /// [`Capabilities::faults`] lists the faults. The default implementation returns an error,
    /// which is correct for backends without servers.
    ///
    /// The servers may be those that [`open`](Self::open) uses, behind their own proxy.
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
        async {
            Err(
                "the harness declares `faults`, but does not override `Harness::open_faulty`"
                    .into(),
            )
        }
    }

    /// Stores a value that the backend cannot decode, such as one of another program, where the
    /// backend stores `key`. It is only called if [`Capabilities::unreadable_values`] is declared.
    /// The default implementation returns an error.
    fn make_unreadable(
        &self,
        backend: &Self::Backend,
        key: &str,
    ) -> impl Future<Output = Result<(), OpenError>> + Send {
        let _ = (backend, key);
        async {
            Err(
                "the harness declares `unreadable_values`, but does not override \
                 `Harness::make_unreadable`"
                    .into(),
            )
        }
    }

    /// Returns how many values the backend holds for calls that have not ended, if it can be
    /// counted. The default is `None`. It is needed for the rule about
    /// [`Capabilities::no_values_left`].
    fn values_held(&self, backend: &Self::Backend) -> Option<usize> {
        let _ = backend;
        None
    }
}

/// How to open the backend.
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
    /// The lifetime of values without their own TTL. Zero: they do not expire.
    pub default_ttl: Duration,
    /// The clock of a backend that declares [`Clock::Manual`](crate::Clock::Manual); others
    /// leave it alone.
    pub clock: ManualClock,
}

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A backend that was opened, its type hidden.
pub(crate) struct Opened {
    pub(crate) backend: DynBackend<Vec<u8>>,
    typed: Arc<dyn Typed>,
}

impl Opened {
    fn new<H: Harness>(harness: Arc<H>, backend: H::Backend) -> Self {
        let backend = Arc::new(backend);
        Self {
            backend: DynBackend::new(Arc::clone(&backend)),
            typed: Arc::new(OfHarness { harness, backend }),
        }
    }

    /// The same backend, with keys in a namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Self {
        let inner = self.backend.clone();
        Self {
            backend: DynBackend::new(MapKeys::namespace(inner, namespace)),
            typed: Arc::clone(&self.typed),
        }
    }

    pub(crate) async fn again(&self, options: Options) -> Result<Self, OpenError> {
        Arc::clone(&self.typed).again(options).await
    }

    pub(crate) async fn make_unreadable(&self, key: &str) -> Result<(), OpenError> {
        Arc::clone(&self.typed)
            .make_unreadable(key.to_owned())
            .await
    }

    /// How many values the backend holds for calls that have not ended.
    pub(crate) fn values_held(&self) -> Option<usize> {
        self.typed.values_held()
    }

    /// The operations that do not end at their first poll.
    pub(crate) fn pending_at_first_poll(&self, key: &str) -> Vec<&'static str> {
        self.typed.pending_at_first_poll(key)
    }
}

/// The calls that need the type of the backend.
trait Typed: Send + Sync {
    fn again(self: Arc<Self>, options: Options) -> BoxFuture<'static, Result<Opened, OpenError>>;
    fn make_unreadable(self: Arc<Self>, key: String) -> BoxFuture<'static, Result<(), OpenError>>;
    fn values_held(&self) -> Option<usize>;
    fn pending_at_first_poll(&self, key: &str) -> Vec<&'static str>;
}

struct OfHarness<H: Harness> {
    harness: Arc<H>,
    backend: Arc<H::Backend>,
}

impl<H: Harness> Typed for OfHarness<H> {
    fn again(self: Arc<Self>, options: Options) -> BoxFuture<'static, Result<Opened, OpenError>> {
        Box::pin(async move {
            let second = self.harness.again(&self.backend, &options).await?;
            Ok(Opened::new(Arc::clone(&self.harness), second))
        })
    }

    fn make_unreadable(self: Arc<Self>, key: String) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move { self.harness.make_unreadable(&self.backend, &key).await })
    }

    fn values_held(&self) -> Option<usize> {
        self.harness.values_held(&self.backend)
    }

    fn pending_at_first_poll(&self, key: &str) -> Vec<&'static str> {
        let backend = &self.backend;
        let value = || CachedValue::new(b"value".to_vec());
        let polled = [
            ("get", is_pending(backend.get(key))),
            ("set", is_pending(backend.set(key, value()))),
            ("delete", is_pending(backend.delete(key))),
            ("get_multi", is_pending(backend.get_multi(&[key, key]))),
            (
                "set_multi",
                is_pending(backend.set_multi(vec![(key, value()), (key, value())])),
            ),
            (
                "delete_multi",
                is_pending(backend.delete_multi(&[key, key])),
            ),
        ];
        let pending = polled.into_iter().filter(|(_, pending)| *pending);
        pending.map(|(operation, _)| operation).collect()
    }
}

fn is_pending(call: impl Future) -> bool {
    pin!(call)
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

/// A harness whose type is erased, so that rules are plain functions.
pub(crate) trait Subject: Send + Sync {
    fn capabilities(&self) -> Capabilities;
    fn is_immediate(&self) -> bool;
    fn open(&self, options: Options) -> BoxFuture<'static, Result<Opened, OpenError>>;
    fn open_faulty(&self, options: Options) -> BoxFuture<'static, Result<OpenedFaulty, OpenError>>;
}

type OpenedFaulty = (Opened, Box<dyn FaultControl>);

pub(crate) struct Erased<H>(pub(crate) Arc<H>);

impl<H: Harness> Subject for Erased<H> {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn is_immediate(&self) -> bool {
        H::Backend::IMMEDIATE
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
