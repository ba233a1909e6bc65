//! The map that the backends of these tests keep their values in.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache_conformance::{Fault, ManualClock};
use cache_core::CachedValue;

pub(crate) type Value = CachedValue<Vec<u8>>;

/// A value with its deadline.
pub(crate) type Entry = (Value, Option<Instant>);

/// Keeps the contract, but for what the backends around it do to it.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) entries: Arc<Mutex<HashMap<String, Entry>>>,
    /// What one instance keeps to itself.
    pub(crate) local: Arc<Mutex<HashMap<String, Option<Value>>>>,
    /// Room for mistakes.
    pub(crate) marks: Arc<Mutex<HashSet<String>>>,
    pub(crate) list: Arc<Mutex<Vec<(Instant, String)>>>,
    pub(crate) count: Arc<Mutex<usize>>,
    pub(crate) fault: Arc<Mutex<Option<Fault>>>,
    /// Whether it is the instance that was opened first.
    pub(crate) is_first: bool,
    pub(crate) default_ttl: Duration,
    pub(crate) clock: Option<ManualClock>,
}

impl Store {
    pub(crate) fn new(default_ttl: Duration, clock: Option<ManualClock>) -> Self {
        Self {
            entries: Arc::default(),
            local: Arc::default(),
            marks: Arc::default(),
            list: Arc::default(),
            count: Arc::default(),
            fault: Arc::default(),
            is_first: true,
            default_ttl,
            clock,
        }
    }

    /// Another instance on the same entries.
    pub(crate) fn again(&self) -> Self {
        Self {
            local: Arc::default(),
            is_first: false,
            ..self.clone()
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock
            .as_ref()
            .map_or_else(Instant::now, ManualClock::now)
    }

    pub(crate) fn read(&self, key: &str) -> Option<Value> {
        let entry = self.entry(key)?;
        self.unless_expired(entry)
    }

    pub(crate) fn unless_expired(&self, (value, deadline): Entry) -> Option<Value> {
        let bare = CachedValue::new(value.payload().clone()).with_cached_at(value.cached_at());
        match deadline {
            None => Some(bare),
            Some(deadline) => {
                let left = deadline.checked_duration_since(self.now())?;
                (!left.is_zero()).then(|| bare.with_ttl(left))
            }
        }
    }

    /// What is kept, expired or not.
    pub(crate) fn entry(&self, key: &str) -> Option<Entry> {
        self.entries.lock().unwrap().get(key).cloned()
    }

    pub(crate) fn deadline(&self, value: &Value) -> Option<Instant> {
        let lifetime = value.lifetime(self.default_ttl);
        lifetime.and_then(|ttl| self.now().checked_add(ttl))
    }

    pub(crate) fn write(&self, key: &str, value: Value) {
        let deadline = self.deadline(&value);
        self.write_until(key, value, deadline);
    }

    pub(crate) fn write_until(&self, key: &str, value: Value, deadline: Option<Instant>) {
        let mut entries = self.entries.lock().unwrap();
        entries.insert(key.to_owned(), (value, deadline));
    }

    pub(crate) fn remove(&self, key: &str) -> bool {
        self.entries.lock().unwrap().remove(key).is_some()
    }

    /// `remove` for those who do not ask.
    pub(crate) fn discard(&self, key: &str) {
        self.remove(key);
    }

    pub(crate) fn remove_where(&self, which: impl Fn(&str) -> bool) {
        self.entries.lock().unwrap().retain(|key, _| !which(key));
    }

    pub(crate) fn mark(&self, mark: &str) -> bool {
        self.marks.lock().unwrap().insert(mark.to_owned())
    }

    pub(crate) fn is_marked(&self, mark: &str) -> bool {
        self.marks.lock().unwrap().contains(mark)
    }

    pub(crate) fn unmark(&self, mark: &str) -> bool {
        self.marks.lock().unwrap().remove(mark)
    }

    /// The next number, from one.
    pub(crate) fn next(&self) -> usize {
        let mut count = self.count.lock().unwrap();
        *count += 1;
        *count
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        *self.fault.lock().unwrap()
    }
}
