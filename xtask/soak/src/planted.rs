//! The proof of the judge: backends with one bug each, under the load of a real soak. The judge
//! has to find the bug in each, and nothing in the one that has none. All in simulated time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use cache_core::{CacheBackend, CachedValue, DynBackend};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

use crate::book::{Book, Tally};
use crate::faults::FaultLog;
use crate::load::{Running, Settings};
use crate::store::{Opened, Order, Promises, Space, Store};
use crate::time::{Expiry, RunTime, nanos};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Now and then a read answers with what the key held before.
    StaleAnswer,
    /// A call that is dropped while it waits takes its slot with it.
    LeakedSlot,
    /// Values are served half a second too long.
    LateExpiry,
    /// Now and then a call waits for something that nobody will do.
    LostWakeUp,
    /// A value gets the payload of its neighbour in a multi read.
    MixedUp,
    /// A delete that is not the first of its call is forgotten.
    ForgottenDelete,
    /// Now and then a value is not kept.
    LostValue,
}

struct Entry {
    value: CachedValue<Vec<u8>>,
    deadline: u64,
    before: Option<CachedValue<Vec<u8>>>,
}

/// Keeps values in memory, and lets a few calls in at a time, as a pool of connections does.
struct Planted {
    bug: Bug,
    time: RunTime,
    entries: Mutex<HashMap<String, Entry>>,
    slots: Semaphore,
    calls: Mutex<u32>,
}

const SLOTS: usize = 8;
const DEFAULT_TTL: Duration = Duration::from_secs(5);

impl Planted {
    /// Every so many calls the bug shows.
    fn shows(&self, every: u32) -> bool {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        calls.is_multiple_of(every)
    }

    /// A slot, and the time that a round trip takes.
    async fn round_trip(&self) {
        let slot = self.slots.acquire().await.unwrap();
        if self.bug == Bug::LeakedSlot {
            slot.forget();
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.slots.add_permits(1);
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if self.bug == Bug::LostWakeUp && self.shows(500) {
            std::future::pending::<()>().await;
        }
    }

    fn read(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
        let entries = self.entries.lock().unwrap();
        let entry = entries.get(key)?;
        let late = if self.bug == Bug::LateExpiry {
            500_000_000
        } else {
            0
        };
        let now = self.time.now();
        if entry.deadline.saturating_add(late) <= now {
            return None;
        }
        let mut value = &entry.value;
        if self.bug == Bug::StaleAnswer && self.shows(50) {
            value = entry.before.as_ref()?;
        }
        let left = Duration::from_nanos(entry.deadline.saturating_sub(now));
        Some(value.clone().with_ttl(left))
    }

    fn write(&self, key: &str, value: CachedValue<Vec<u8>>) {
        let lifetime = value.ttl().or_default(DEFAULT_TTL).map_or(u64::MAX, nanos);
        let deadline = self.time.now().saturating_add(lifetime);
        let is_lost = self.bug == Bug::LostValue && self.shows(100);
        let mut entries = self.entries.lock().unwrap();
        let before = entries.remove(key).map(|entry| entry.value);
        let entry = Entry {
            value,
            deadline,
            before,
        };
        if !is_lost {
            entries.insert(key.to_owned(), entry);
        }
    }
}

impl CacheBackend for Planted {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> cache_core::Result<Option<CachedValue<Vec<u8>>>> {
        self.round_trip().await;
        Ok(self.read(key))
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> cache_core::Result<()> {
        self.round_trip().await;
        self.write(key, value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> cache_core::Result<()> {
        self.round_trip().await;
        self.entries.lock().unwrap().remove(key);
        Ok(())
    }

    async fn get_multi(
        &self,
        keys: &[&str],
    ) -> Vec<cache_core::Result<Option<CachedValue<Vec<u8>>>>> {
        self.round_trip().await;
        let mut found: Vec<_> = keys.iter().map(|key| self.read(key)).collect();
        if self.bug == Bug::MixedUp && self.shows(20) {
            found.reverse();
        }
        found.into_iter().map(Ok).collect()
    }

    async fn delete_multi(&self, keys: &[&str]) -> cache_core::Result<()> {
        self.round_trip().await;
        let keys = match self.bug {
            Bug::ForgottenDelete => keys.get(..1).unwrap_or_default(),
            _ => keys,
        };
        let mut entries = self.entries.lock().unwrap();
        for key in keys {
            entries.remove(*key);
        }
        Ok(())
    }
}

struct PlantedStore(Arc<Planted>);

impl Store for PlantedStore {
    fn promises(&self) -> Promises {
        Promises {
            order: Order::Always,
            evicting: None,
            bound: Duration::from_secs(3),
            slow: Duration::from_secs(2),
            settle: Duration::ZERO,
            default_ttl: DEFAULT_TTL,
            max_value: 10_000,
            why: &[],
        }
    }

    fn spaces(&self) -> Result<Vec<Space>> {
        let opened = || {
            let watched = Arc::clone(&self.0);
            Opened {
                backend: DynBackend::new(Arc::clone(&self.0)),
                busy: Box::new(move || {
                    let taken = SLOTS - watched.slots.available_permits();
                    let told = (taken > 0).then(|| format!("{taken} slots are taken"));
                    told.into_iter().collect()
                }),
            }
        };
        Ok(vec![Space::new(Expiry::Run, vec![opened(), opened()])])
    }
}

/// A soak of some rounds.
async fn soak(bug: Bug) -> Tally {
    let time = RunTime::start();
    let store: Arc<dyn Store> = Arc::new(PlantedStore(Arc::new(Planted {
        bug,
        time,
        entries: Mutex::default(),
        slots: Semaphore::new(SLOTS),
        calls: Mutex::new(0),
    })));
    let faults = Arc::new(FaultLog::new(time, 0));
    let book = Arc::new(Book::new(store.promises(), faults).unwrap());
    let settings = Settings {
        seed: 7,
        rate: 500.0,
        clients: 32,
    };
    let running = Running::start(&store, Arc::clone(&book), &settings).unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    running.finish().await;
    book.judge(true);
    book.tally()
}

fn tally(bug: Bug) -> Tally {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(soak(bug))
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let tally = tally(Bug::None);
    assert!(tally.violations.is_empty(), "{:?}", tally.violations);
    // And it was looked at.
    assert_eq!(tally.calls.len(), 6, "{:?}", tally.calls);
    assert!(tally.events_judged > 1000 && tally.hits > 100 && tally.misses > 100);
    assert!(tally.dropped > 10);
}

#[test]
fn each_bug_is_found() {
    for (bug, rule) in [
        (Bug::StaleAnswer, "order"),
        (Bug::LeakedSlot, "leak"),
        (Bug::LateExpiry, "served after its deadline"),
        (Bug::LostWakeUp, "bound"),
        (Bug::MixedUp, "never written"),
        (Bug::ForgottenDelete, "order"),
        (Bug::LostValue, "lost"),
    ] {
        let found = tally(bug).violations;
        assert!(
            found.contains_key(rule),
            "{bug:?} breaks `{rule}`: {found:?}"
        );
    }
}
