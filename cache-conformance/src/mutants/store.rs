//! [`Store`], the map of the backends in this module.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use cache_core::{CachedValue, Error, ErrorKind, Result, Ttl};

use crate::{Fault, ManualClock};

/// What is kept.
pub type Value = CachedValue<Vec<u8>>;

pub(super) fn value(payload: impl Into<Vec<u8>>) -> Value {
    Value::new(payload.into())
}

/// A value with its deadline.
pub type Entry = (Value, Option<Instant>);

/// The number of simulated servers. Each holds a part of the keys.
pub(super) const SERVERS: usize = 3;

/// A store that keeps the contract unless a backend interferes. Clones share it.
///
/// ```
/// use std::time::Duration;
/// use cache_conformance::mutants::Store;
/// use cache_core::CachedValue;
///
/// let store = Store::new(Duration::ZERO, None);
/// store.write("k", CachedValue::new(b"v".to_vec()));
/// assert!(store.read("k").is_some());
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    /// Keys whose values cannot be decoded.
    unreadable: Arc<Mutex<HashSet<String>>>,
    /// The private entries of one instance.
    local: Arc<Mutex<HashMap<String, Option<Value>>>>,
    /// State of bugs.
    marks: Arc<Mutex<HashSet<String>>>,
    list: Arc<Mutex<Vec<(Instant, String)>>>,
    count: Arc<Mutex<usize>>,
    faults: Arc<Mutex<[Option<Fault>; SERVERS]>>,
    passes: Arc<AtomicU64>,
    bytes_answered: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    /// Values of calls that have not ended.
    held: Arc<AtomicUsize>,
    /// The server that a call goes to.
    server: usize,
    is_first: bool,
    default_ttl: Duration,
    clock: Option<ManualClock>,
    began: (Instant, SystemTime),
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Creates an empty store. Values without their own TTL live for `default_ttl`; zero means no
    /// expiry. Without a manual clock, it uses the clock of the machine.
    pub fn new(default_ttl: Duration, clock: Option<ManualClock>) -> Self {
        let began = clock.as_ref().map_or_else(
            || (Instant::now(), SystemTime::now()),
            |clock| (clock.now(), clock.system_now()),
        );
        Self {
            entries: Arc::default(),
            unreadable: Arc::default(),
            local: Arc::default(),
            marks: Arc::default(),
            list: Arc::default(),
            count: Arc::default(),
            faults: Arc::default(),
            passes: Arc::default(),
            bytes_answered: Arc::default(),
            connections: Arc::default(),
            held: Arc::default(),
            server: 0,
            is_first: true,
            default_ttl,
            clock,
            began,
        }
    }

    /// Returns another instance on the same entries.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            local: Arc::default(),
            is_first: false,
            ..self.clone()
        }
    }

    /// Returns the same instance with the entries of another.
    #[must_use]
    pub fn sharing(self, other: &Self) -> Self {
        Self {
            entries: Arc::clone(&other.entries),
            ..self
        }
    }

    /// The same as seen by a call that goes to the server of `key`.
    pub(super) fn for_key(&self, key: &str) -> Self {
        Self {
            server: server_of(key),
            ..self.clone()
        }
    }

    /// Returns whether this is the instance that was opened first.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Returns the lifetime of values without their own TTL.
    pub fn default_ttl(&self) -> Duration {
        self.default_ttl
    }

    /// Returns the time of the clock by which values expire.
    pub fn now(&self) -> Instant {
        self.clock
            .as_ref()
            .map_or_else(Instant::now, ManualClock::now)
    }

    /// Returns the time of the wall clock, without its steps.
    pub(super) fn now_by_the_wall_clock(&self) -> Instant {
        let (start, date) = self.began;
        let now = match &self.clock {
            Some(clock) => clock.system_now(),
            None => SystemTime::now(),
        };
        match now.duration_since(date) {
            Ok(passed) => start + passed,
            Err(back) => start.checked_sub(back.duration()).unwrap_or(start),
        }
    }

    /// Returns all entries, expired or not.
    pub fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        lock(&self.entries)
    }

    pub(super) fn local(&self) -> MutexGuard<'_, HashMap<String, Option<Value>>> {
        lock(&self.local)
    }

    pub(super) fn list(&self) -> MutexGuard<'_, Vec<(Instant, String)>> {
        lock(&self.list)
    }

    pub(super) fn count(&self) -> MutexGuard<'_, usize> {
        lock(&self.count)
    }

    /// Reads as a correct backend does: the value, a miss, or an error if it cannot be decoded.
    pub fn fetch(&self, key: &str) -> Result<Option<Value>> {
        if lock(&self.unreadable).contains(key) {
            let message = "the value has no metadata; another program wrote it";
            return Err(Error::new(ErrorKind::Decode, "mutant", message).with_key(key));
        }
        Ok(self.read(key))
    }

    pub(super) fn make_unreadable(&self, key: &str) {
        self.write_until(key, CachedValue::new(b"garbage".to_vec()), None);
        lock(&self.unreadable).insert(key.to_owned());
    }

    /// Returns the value with the time it has left, unless it has expired.
    pub fn read(&self, key: &str) -> Option<Value> {
        let entry = self.entry(key)?;
        self.unless_expired(entry)
    }

    pub(super) fn unless_expired(&self, (value, deadline): Entry) -> Option<Value> {
        let bare = CachedValue::new(value.payload().clone()).with_cached_at(value.cached_at());
        match deadline {
            None => Some(bare.with_ttl(Ttl::Never)),
            Some(deadline) => {
                let left = deadline.checked_duration_since(self.now())?;
                (!left.is_zero()).then(|| bare.with_ttl(left))
            }
        }
    }

    /// What is kept, expired or not.
    pub fn entry(&self, key: &str) -> Option<Entry> {
        self.entries().get(key).cloned()
    }

    /// Returns the deadline of a value that is written now.
    pub fn deadline(&self, value: &Value) -> Option<Instant> {
        let lifetime = value.ttl().or_default(self.default_ttl);
        lifetime.and_then(|ttl| self.now().checked_add(ttl))
    }

    /// Stores the value with its deadline.
    pub fn write(&self, key: &str, value: Value) {
        let deadline = self.deadline(&value);
        self.write_until(key, value, deadline);
    }

    /// Stores the value with this deadline.
    pub fn write_until(&self, key: &str, value: Value, deadline: Option<Instant>) {
        lock(&self.unreadable).remove(key);
        self.entries().insert(key.to_owned(), (value, deadline));
    }

    /// Removes the entry. Returns whether there was one.
    pub fn remove(&self, key: &str) -> bool {
        lock(&self.unreadable).remove(key);
        self.entries().remove(key).is_some()
    }

    /// Removes the entry.
    pub(super) fn discard(&self, key: &str) {
        self.remove(key);
    }

    pub(super) fn remove_where(&self, which: impl Fn(&str) -> bool) {
        self.entries().retain(|key, _| !which(key));
    }

    pub(super) fn mark(&self, mark: &str) -> bool {
        lock(&self.marks).insert(mark.to_owned())
    }

    pub(super) fn is_marked(&self, mark: &str) -> bool {
        lock(&self.marks).contains(mark)
    }

    pub(super) fn unmark(&self, mark: &str) -> bool {
        lock(&self.marks).remove(mark)
    }

    /// Returns the next number, starting from one.
    pub(super) fn next(&self) -> usize {
        let mut count = self.count();
        *count += 1;
        *count
    }

    /// Returns the fault of the server that the call goes to.
    pub fn fault(&self) -> Option<Fault> {
        lock(&self.faults).get(self.server).copied().flatten()
    }

    pub(super) fn has_somewhere(&self, fault: Fault) -> bool {
        lock(&self.faults).contains(&Some(fault))
    }

    pub(super) fn server(&self) -> usize {
        self.server
    }

    pub(super) fn set_faults(&self, server: Option<usize>, fault: Option<Fault>) {
        let mut faults = lock(&self.faults);
        for (number, current) in faults.iter_mut().enumerate() {
            if server.is_none_or(|server| server == number) {
                *current = fault;
            }
        }
    }

    pub(super) fn pass_once(&self) {
        self.passes.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn connect(&self) {
        self.connections.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn answer(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes_answered.fetch_add(bytes, Ordering::SeqCst);
    }

    pub(super) fn bytes_answered(&self) -> u64 {
        self.bytes_answered.load(Ordering::SeqCst)
    }

    pub(super) fn hold(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn let_go(&self) {
        self.held.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    pub(super) fn passes(&self) -> u64 {
        self.passes.load(Ordering::SeqCst)
    }
}

/// The server of the key.
pub(super) fn server_of(key: &str) -> usize {
    let sum = key.bytes().fold(7_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    sum % SERVERS
}
