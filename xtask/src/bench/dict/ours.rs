//! cache-dict, called in each way that there is.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::Result;
use cache_core::{CacheBackend, CachedValue, DynBackend};
use cache_dict::DictBackend;

use super::{Cache, Named};

/// With the feature `coarse-clock`.
pub(super) const COARSE: &str = "cache-dict";
/// As it is without.
pub(super) const EXACT: &str = "cache-dict, exact clock";
const ASYNC: &str = "cache-dict, async";
const ERASED: &str = "cache-dict, DynBackend";

/// The ways to call it, of which a line has the first at least.
pub(super) const NAMES: &[&str] = &[COARSE, EXACT, ASYNC, ERASED];

pub(super) fn make<V: Clone + Send + Sync + 'static>(
    name: &str,
    ttl: Duration,
) -> Result<Option<Named<V>>> {
    let Some(name) = NAMES.iter().copied().find(|own| *own == name) else {
        return Ok(None);
    };
    let backend = DictBackend::builder()
        .expiration_time(ttl)
        .coarse_clock(name != EXACT)
        .build()?;
    Ok(Some((
        name,
        match name {
            COARSE | EXACT => Box::new(backend),
            ASYNC => Box::new(Async(backend.clone(), backend)),
            _ => Box::new(Async(DynBackend::new(backend.clone()), backend)),
        },
    )))
}

impl<V: Clone + Send + Sync + 'static> Cache<V> for DictBackend<V> {
    fn get(&self, key: &str) -> Option<V> {
        let found = self.get_sync(key).ok()?;
        found.map(CachedValue::into_payload)
    }

    fn set(&self, key: &str, value: V) {
        let _ = self.set_sync(key, CachedValue::new(value));
    }

    fn get_multi(&self, keys: &[&str]) -> usize {
        let found = self.get_multi_sync(keys).unwrap_or_default();
        found.iter().flatten().count()
    }

    fn set_multi(&self, keys: &[&str], value: &V) {
        // Each is made as its user would make it, which reads the clock once more.
        let entries = keys
            .iter()
            .map(|key| (*key, CachedValue::new(value.clone())));
        let _ = self.set_multi_sync(entries.collect());
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// Through the trait, and what it stands on.
struct Async<B, V>(B, DictBackend<V>);

impl<B, V> Cache<V> for Async<B, V>
where
    B: CacheBackend<Value = V>,
    V: Clone + Send + Sync + 'static,
{
    fn get(&self, key: &str) -> Option<V> {
        let found = now(self.0.get(key)).ok()?;
        found.map(CachedValue::into_payload)
    }

    fn set(&self, key: &str, value: V) {
        let _ = now(self.0.set(key, CachedValue::new(value)));
    }

    fn get_multi(&self, keys: &[&str]) -> usize {
        let found = now(self.0.get_multi(keys));
        found.iter().flatten().flatten().count()
    }

    fn set_multi(&self, keys: &[&str], value: &V) {
        // Each is made as its user would make it, which reads the clock once more.
        let entries = keys
            .iter()
            .map(|key| (*key, CachedValue::new(value.clone())));
        let _ = now(self.0.set_multi(entries.collect()));
    }

    fn len(&self) -> usize {
        self.1.len()
    }
}

/// The answer of a future that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            return answer;
        }
    }
}
