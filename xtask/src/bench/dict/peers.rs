//! What a user could take instead, in its default configuration. What knows no expiry stores a
//! deadline beside each payload, as its user would.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::{Cache, Named};

pub(super) const NAMES: &[&str] = &[
    "moka",
    "quick_cache + deadlines",
    "dashmap + deadlines",
    PAPAYA,
    "scc + deadlines",
    "RwLock<HashMap> + deadlines",
];

/// The one whose reads take no lock.
pub(super) const PAPAYA: &str = "papaya + deadlines";

pub(super) fn make<V: Clone + Send + Sync + 'static>(
    name: &str,
    capacity: usize,
    ttl: Duration,
) -> Option<Named<V>> {
    let name = NAMES.iter().copied().find(|own| *own == name)?;
    Some((
        name,
        match name {
            "moka" => Box::new(
                moka::sync::Cache::<String, V>::builder()
                    .max_capacity(capacity as u64)
                    .time_to_live(ttl)
                    .build(),
            ),
            "quick_cache + deadlines" => Box::new(With {
                map: quick_cache::sync::Cache::<String, Stored<V>>::new(capacity),
                ttl,
            }),
            "dashmap + deadlines" => Box::new(With {
                map: dashmap::DashMap::<String, Stored<V>>::new(),
                ttl,
            }),
            PAPAYA => Box::new(With {
                map: papaya::HashMap::<String, Stored<V>>::new(),
                ttl,
            }),
            "scc + deadlines" => Box::new(With {
                map: scc::HashMap::<String, Stored<V>>::new(),
                ttl,
            }),
            _ => Box::new(With {
                map: RwLock::new(HashMap::<String, Stored<V>>::new()),
                ttl,
            }),
        },
    ))
}

impl<V: Clone + Send + Sync + 'static> Cache<V> for moka::sync::Cache<String, V> {
    fn get(&self, key: &str) -> Option<V> {
        self.get(key)
    }

    fn set(&self, key: &str, value: V) {
        self.insert(key.to_owned(), value);
    }

    fn len(&self) -> usize {
        usize::try_from(self.entry_count()).unwrap_or_default()
    }
}

#[derive(Clone)]
struct Stored<V> {
    payload: V,
    deadline: Instant,
}

impl<V: Clone> Stored<V> {
    fn live(&self, now: impl FnOnce() -> Instant) -> Option<V> {
        (now() < self.deadline).then(|| self.payload.clone())
    }
}

/// A map that knows no expiry.
struct With<M> {
    map: M,
    ttl: Duration,
}

/// What is needed of it.
trait Map<V>: Send + Sync {
    fn live(&self, key: &str, now: impl FnOnce() -> Instant) -> Option<V>;
    fn insert(&self, key: String, stored: Stored<V>);
    fn len(&self) -> usize;
    fn retain(&self, now: Instant);
    /// Whether it has a bound, and so removes what is old by itself.
    const BOUNDED: bool = false;
}

impl<V: Clone, M: Map<V>> Cache<V> for With<M> {
    fn get(&self, key: &str) -> Option<V> {
        self.map.live(key, Instant::now)
    }

    fn set(&self, key: &str, payload: V) {
        let deadline = Instant::now() + self.ttl;
        self.map
            .insert(key.to_owned(), Stored { payload, deadline });
    }

    fn get_multi(&self, keys: &[&str]) -> usize {
        // Their user can read the clock once, as we do.
        let now = Instant::now();
        let found = keys.iter().filter_map(|key| self.map.live(key, || now));
        found.count()
    }

    fn set_multi(&self, keys: &[&str], value: &V) {
        let deadline = Instant::now() + self.ttl;
        for key in keys {
            let payload = value.clone();
            self.map
                .insert((*key).to_owned(), Stored { payload, deadline });
        }
    }

    fn len(&self) -> usize {
        self.map.len()
    }

    fn purge(&self) {
        self.map.retain(Instant::now());
    }

    fn needs_purge(&self) -> bool {
        !M::BOUNDED
    }
}

impl<V: Clone + Send + Sync> Map<V> for quick_cache::sync::Cache<String, Stored<V>> {
    fn live(&self, key: &str, now: impl FnOnce() -> Instant) -> Option<V> {
        self.get(key)?.live(now)
    }

    fn insert(&self, key: String, stored: Stored<V>) {
        self.insert(key, stored);
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn retain(&self, now: Instant) {
        self.retain(|_, stored| now < stored.deadline);
    }

    const BOUNDED: bool = true;
}

impl<V: Clone + Send + Sync> Map<V> for dashmap::DashMap<String, Stored<V>> {
    fn live(&self, key: &str, now: impl FnOnce() -> Instant) -> Option<V> {
        self.get(key)?.live(now)
    }

    fn insert(&self, key: String, stored: Stored<V>) {
        self.insert(key, stored);
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn retain(&self, now: Instant) {
        self.retain(|_, stored| now < stored.deadline);
    }
}

impl<V: Clone + Send + Sync> Map<V> for papaya::HashMap<String, Stored<V>> {
    fn live(&self, key: &str, now: impl FnOnce() -> Instant) -> Option<V> {
        self.pin().get(key)?.live(now)
    }

    fn insert(&self, key: String, stored: Stored<V>) {
        self.pin().insert(key, stored);
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn retain(&self, now: Instant) {
        self.pin().retain(|_, stored| now < stored.deadline);
    }
}

impl<V: Clone + Send + Sync> Map<V> for scc::HashMap<String, Stored<V>> {
    fn live(&self, key: &str, now: impl FnOnce() -> Instant) -> Option<V> {
        self.read_sync(key, |_, stored| stored.live(now)).flatten()
    }

    fn insert(&self, key: String, stored: Stored<V>) {
        self.upsert_sync(key, stored);
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn retain(&self, now: Instant) {
        self.retain_sync(|_, stored| now < stored.deadline);
    }
}

impl<V: Clone + Send + Sync> Map<V> for RwLock<HashMap<String, Stored<V>>> {
    fn live(&self, key: &str, now: impl FnOnce() -> Instant) -> Option<V> {
        let map = self.read().unwrap_or_else(PoisonError::into_inner);
        map.get(key)?.live(now)
    }

    fn insert(&self, key: String, stored: Stored<V>) {
        let mut map = self.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(key, stored);
    }

    fn len(&self) -> usize {
        self.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn retain(&self, now: Instant) {
        let mut map = self.write().unwrap_or_else(PoisonError::into_inner);
        map.retain(|_, stored| now < stored.deadline);
    }
}
