//! [`Space`], a store and the backends that reach it.

use std::sync::{Arc, PoisonError, RwLock};

use cache_core::DynBackend;

use super::time::Expiry;

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

    /// Puts another backend in place of one of them; who still uses the old one may go on.
    pub(crate) fn replace(&self, index: usize, by: Opened) {
        if let Some(slot) = self.instances.get(index) {
            *slot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(by);
        }
    }
}
