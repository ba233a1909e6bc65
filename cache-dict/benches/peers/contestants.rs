//! cache-dict and its alternatives, each in its default configuration.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::Result;
use cache_core::CachedValue;
use cache_dict::DictBackend;
use comparison::measure::{Contestant, Sample};
use comparison::report::Role;

use crate::load::Keys;

/// Long enough that nothing expires during a measurement.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// cache-dict with the feature `coarse-clock`.
pub(crate) const COARSE: &str = "cache-dict";
/// cache-dict without `coarse-clock`.
pub(crate) const EXACT: &str = "cache-dict, exact clock";

/// The peer with lock-free reads.
pub(crate) const PAPAYA: &str = "papaya + deadlines";

/// The bounded peer without expiry: it evicts old entries, so its user does not remove expired
/// ones.
pub(crate) const QUICK_CACHE: &str = "quick_cache + deadlines";

pub(crate) const PEERS: &[&str] = &[
    "moka",
    QUICK_CACHE,
    "dashmap + deadlines",
    PAPAYA,
    "scc + deadlines",
    "RwLock<HashMap> + deadlines",
];

/// The operations of all contestants. Expired keys are misses.
pub(crate) trait Cache<V>: Send + Sync {
    fn get(&self, key: &str) -> Option<V>;
    fn set(&self, key: &str, value: V);

    /// Collects the values of all keys, as cache-dict does, and returns how many there are. The
    /// default is what a user would write for a cache without this operation.
    fn get_multi(&self, keys: &[&str]) -> usize {
        found(keys.iter().map(|key| self.get(key)).collect())
    }

    fn set_multi(&self, keys: &[&str], value: &V);

    /// The number of entries held, including expired ones.
    fn len(&self) -> usize;

    /// Removes expired entries, if the cache does not do so on its own.
    fn purge(&self) {}
}

/// How many of the values there are.
fn found<V>(values: Vec<Option<V>>) -> usize {
    black_box(values).iter().flatten().count()
}

pub(crate) trait Payload: Clone + Send + Sync + 'static {}

impl<V: Clone + Send + Sync + 'static> Payload for V {}

pub(crate) struct Named<V> {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) cache: Box<dyn Cache<V>>,
}

/// All variants of cache-dict and all peers.
pub(crate) fn all<V: Payload>(capacity: usize, ttl: Duration) -> Result<Vec<Named<V>>> {
    let names = [COARSE, EXACT].into_iter().chain(PEERS.iter().copied());
    names.map(|name| make(name, capacity, ttl)).collect()
}

/// A cache for up to `capacity` entries that live for `ttl`.
pub(crate) fn make<V: Payload>(
    name: &'static str,
    capacity: usize,
    ttl: Duration,
) -> Result<Named<V>> {
    let role = if [COARSE, EXACT].contains(&name) {
        Role::Ours
    } else {
        Role::Peer
    };
    let cache: Box<dyn Cache<V>> = match name {
        COARSE | EXACT => {
            let builder = DictBackend::<V>::builder().expiration_time(ttl);
            Box::new(builder.coarse_clock(name == COARSE).build()?)
        }
        "moka" => {
            let builder = moka::sync::Cache::<String, V>::builder().max_capacity(capacity as u64);
            Box::new(builder.time_to_live(ttl).build())
        }
        QUICK_CACHE => timed(
            quick_cache::sync::Cache::<String, Stored<V>>::new(capacity),
            ttl,
        ),
        "dashmap + deadlines" => timed(dashmap::DashMap::<String, Stored<V>>::new(), ttl),
        PAPAYA => timed(papaya::HashMap::<String, Stored<V>>::new(), ttl),
        "scc + deadlines" => timed(scc::HashMap::<String, Stored<V>>::new(), ttl),
        _ => timed(RwLock::new(HashMap::<String, Stored<V>>::new()), ttl),
    };
    Ok(Named { name, role, cache })
}

impl<V: Payload> Cache<V> for DictBackend<V> {
    fn get(&self, key: &str) -> Option<V> {
        self.get_sync(key).map(CachedValue::into_payload)
    }

    fn set(&self, key: &str, value: V) {
        self.set_sync(key, CachedValue::new(value));
    }

    fn get_multi(&self, keys: &[&str]) -> usize {
        found(self.get_multi_sync(keys))
    }

    fn set_multi(&self, keys: &[&str], value: &V) {
        // Create each value as a user would; this reads the wall clock.
        let value = || CachedValue::new(value.clone());
        self.set_multi_sync(keys.iter().map(|key| (*key, value())).collect());
    }

    fn len(&self) -> usize {
        self.len()
    }
}

impl<V: Payload> Cache<V> for moka::sync::Cache<String, V> {
    fn get(&self, key: &str) -> Option<V> {
        self.get(key)
    }

    fn set(&self, key: &str, value: V) {
        self.insert(key.to_owned(), value);
    }

    fn set_multi(&self, keys: &[&str], value: &V) {
        for key in keys {
            self.set(key, value.clone());
        }
    }

    fn len(&self) -> usize {
        usize::try_from(self.entry_count()).unwrap_or_default()
    }
}

/// A payload with its deadline, as users of a map without expiry would store it.
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

/// A map without expiry.
trait Map<V>: Send + Sync {
    fn live(&self, key: &str, now: impl FnOnce() -> Instant) -> Option<V>;
    fn insert(&self, key: String, stored: Stored<V>);
    fn len(&self) -> usize;
    fn retain(&self, now: Instant);
}

struct Timed<M> {
    map: M,
    ttl: Duration,
}

fn timed<V: Clone, M: Map<V> + 'static>(map: M, ttl: Duration) -> Box<dyn Cache<V>> {
    Box::new(Timed { map, ttl })
}

impl<V: Clone, M: Map<V>> Cache<V> for Timed<M> {
    fn get(&self, key: &str) -> Option<V> {
        self.map.live(key, Instant::now)
    }

    fn set(&self, key: &str, payload: V) {
        let deadline = Instant::now() + self.ttl;
        let stored = Stored { payload, deadline };
        self.map.insert(key.to_owned(), stored);
    }

    fn get_multi(&self, keys: &[&str]) -> usize {
        // Read the clock once for all keys, as cache-dict does.
        let now = Instant::now();
        let live = keys.iter().map(|key| self.map.live(key, || now));
        found(live.collect())
    }

    fn set_multi(&self, keys: &[&str], value: &V) {
        let deadline = Instant::now() + self.ttl;
        for key in keys {
            let payload = value.clone();
            let stored = Stored { payload, deadline };
            self.map.insert((*key).to_owned(), stored);
        }
    }

    fn len(&self) -> usize {
        self.map.len()
    }

    fn purge(&self) {
        self.map.retain(Instant::now());
    }
}

/// Implements [`Map`] for a type with the usual methods, optionally through a guard.
macro_rules! usual_map {
    ($map:ty $(, $guard:ident)?) => {
        impl<V: Clone + Send + Sync> Map<V> for $map {
            fn live(&self, key: &str, now: impl FnOnce() -> Instant) -> Option<V> {
                self$(.$guard())?.get(key)?.live(now)
            }

            fn insert(&self, key: String, stored: Stored<V>) {
                self$(.$guard())?.insert(key, stored);
            }

            fn len(&self) -> usize {
                self$(.$guard())?.len()
            }

            fn retain(&self, now: Instant) {
                self$(.$guard())?.retain(|_, stored| now < stored.deadline);
            }
        }
    };
}

usual_map!(quick_cache::sync::Cache<String, Stored<V>>);
usual_map!(dashmap::DashMap<String, Stored<V>>);
usual_map!(papaya::HashMap<String, Stored<V>>, pin);

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

/// All variants of ours and all peers, filled with `keys`.
pub(crate) fn filled<V: Payload>(keys: Keys, value: impl Fn() -> V) -> Result<Vec<Named<V>>> {
    let all = all(2 * keys.count as usize, LONG)?;
    for entry in &all {
        keys.each(|key| entry.cache.set(key, value()));
    }
    Ok(all)
}

/// The given variant of ours and all peers, each doing the same work.
pub(crate) fn contestants<'a, V: Payload>(
    all: &'a [Named<V>],
    ours: &str,
    work: impl Fn(&'a dyn Cache<V>) -> Sample + Copy + 'a,
) -> Vec<Contestant<'a>> {
    let takes_part = |entry: &&Named<V>| entry.role == Role::Peer || entry.name == ours;
    let entries = all.iter().filter(takes_part);
    let contestant = |entry: &'a Named<V>| {
        let round = move || Ok(work(entry.cache.as_ref()));
        Contestant::new(entry.name, entry.role, round)
    };
    entries.map(contestant).collect()
}
