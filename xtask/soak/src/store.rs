//! What is soaked: stores, the backends that reach them, and what these promise.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Result;
use cache_core::DynBackend;

use crate::time::{Expiry, nanos};

/// Which order of reads and writes a backend claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Each key is an atomic register, whatever happens.
    Always,
    /// The same, but a write that a fault touched may be applied a second time until the fault
    /// is recovered from, since the backend repeats what it got no answer to.
    ButForRepeats,
    /// Atomic between faults. A fault may bring back what was there before it, since keys move to
    /// other servers and back.
    BetweenFaults,
}

#[derive(Clone, Debug)]
pub(crate) struct Promises {
    pub(crate) order: Order,
    /// A space where values may go before their time, since the number of entries is bounded.
    pub(crate) evicting: Option<u32>,
    /// No call takes longer.
    pub(crate) bound: Duration,
    /// A call that took longer without any fault may have been repeated inside the backend.
    pub(crate) slow: Duration,
    /// The time after a fault within which calls succeed again, on all servers.
    pub(crate) settle: Duration,
    /// The lifetime of values without one of their own.
    pub(crate) default_ttl: Duration,
    /// The largest payload.
    pub(crate) max_value: usize,
    /// What is judged and what is not, and why: for the summary.
    pub(crate) why: &'static [&'static str],
}

impl Promises {
    /// The longest that a call is waited for: long enough to tell a late end from none.
    pub(crate) fn patience(&self) -> Duration {
        self.bound * 2 + Duration::from_secs(5)
    }

    pub(crate) fn settle(&self) -> u64 {
        nanos(self.settle)
    }
}

/// How a backend is opened.
pub(crate) trait Store: Send + Sync {
    fn promises(&self) -> Promises;

    /// All stores with their backends. Within a runtime.
    fn spaces(&self) -> Result<Vec<Space>>;

    /// Another backend that reaches the same store; `None` if only the first one can, as it is
    /// the store.
    fn again(&self) -> Option<Result<Opened>> {
        None
    }
}

/// A backend under test.
pub(crate) struct Opened {
    pub(crate) backend: DynBackend<Vec<u8>>,
    /// What it says of itself that must not be while nobody uses it: a call in flight, say.
    pub(crate) busy: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// A store that knows nothing of the others, and the backends that reach it.
pub(crate) struct Space {
    pub(crate) expiry: Expiry,
    pub(crate) instances: Vec<RwLock<Arc<Opened>>>,
}

impl Space {
    pub(crate) fn new(expiry: Expiry, instances: Vec<Opened>) -> Self {
        let instances = instances.into_iter().map(Arc::new).map(RwLock::new);
        Self {
            expiry,
            instances: instances.collect(),
        }
    }

    pub(crate) fn instance(&self, index: usize) -> Option<Arc<Opened>> {
        let slot = self.instances.get(index)?;
        Some(Arc::clone(
            &slot.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    /// Puts another backend in place of one of them; calls that use the old one go on.
    pub(crate) fn replace(&self, index: usize, by: Opened) {
        if let Some(slot) = self.instances.get(index) {
            *slot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(by);
        }
    }
}
