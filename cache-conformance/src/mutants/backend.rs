//! [`Backend`], which keeps the contract, except for operations that are replaced.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheBackend, Error, ErrorKind, Result};

use super::store::{SERVERS, Store, Value, server_of};
use crate::{Capabilities, Clock, Fault, FaultControl, Faulty, Harness, OpenError, Options};

type Found = Result<Option<Value>>;
type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Operation<A, T> = Box<dyn Fn(Store, A) -> Call<T> + Send + Sync>;
type Check = Box<dyn Fn(&'static str, &str) -> Result<()> + Send + Sync>;

pub(super) const MAX_KEY: usize = 250;
pub(super) const MAX_VALUE: usize = 4096;
/// More than the rules need.
const CAPACITY: usize = 10_000;

pub(super) fn error(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, "mutant", message)
}

/// The check of a correct backend.
pub(super) fn check_key(key: &str) -> Result<()> {
    match key.len() {
        1..=MAX_KEY => Ok(()),
        len => {
            let message = format!("the key has {len} bytes; 1 to {MAX_KEY} are allowed");
            Err(error(ErrorKind::InvalidKey, message).with_key(key))
        }
    }
}

pub(super) fn too_large(key: &str, value: &Value) -> Result<()> {
    if value.payload().len() > MAX_VALUE {
        let message = format!("more than {MAX_VALUE} bytes");
        return Err(error(ErrorKind::ValueTooLarge, message).with_key(key));
    }
    Ok(())
}

/// `set` of a correct backend.
pub(super) fn set(store: &Store, key: &str, value: Value) -> Result<()> {
    if let Err(error) = too_large(key, &value) {
        store.remove(key);
        return Err(error);
    }
    store.write(key, value);
    Ok(())
}

/// `set_multi` of a correct backend.
pub(super) fn set_multi(store: &Store, entries: Vec<(String, Value)>) -> Result<()> {
    each(last_of_each(entries), |key, value| set(store, key, value))
}

/// Only the last value of a repeated key counts.
pub(super) fn last_of_each(mut entries: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let mut seen = HashSet::new();
    entries.reverse();
    entries.retain(|(key, _)| seen.insert(key.clone()));
    entries.reverse();
    entries
}

/// Does the same to each entry, and names those for which it fails.
pub(super) fn each(
    entries: Vec<(String, Value)>,
    write: impl Fn(&str, Value) -> Result<()>,
) -> Result<()> {
    let total = entries.len();
    let mut failed = Vec::new();
    let mut cause = None;
    for (key, value) in entries {
        if let Err(error) = write(&key, value) {
            failed.push(key);
            cause = cause.or(Some(error));
        }
    }
    cause.map_or(Ok(()), |cause| Err(Error::partial(cause, failed, total)))
}

/// The same failure of each key.
fn failed(keys: &[String], error: &Error) -> Vec<Found> {
    keys.iter()
        .map(|key| Err(error.clone().with_key(key)))
        .collect()
}

/// The faults that a call to a server meets.
pub(super) async fn pass(store: Store) -> Result<()> {
    match store.fault() {
        None => Ok(()),
        Some(Fault::Down) => Err(error(ErrorKind::Unavailable, "connection refused")),
        Some(Fault::Silent) => {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Err(error(ErrorKind::Timeout, "no response within 60 ms"))
        }
        Some(_) => Err(error(ErrorKind::Protocol, "the response is invalid")),
    }
}

/// A faulty backend: each operation is correct until it is replaced.
///
/// ```
/// use cache_conformance::mutants::{Backend, BackendHarness};
/// use cache_conformance::Suite;
///
/// let forgetful = Backend::right().set(|_, _, _| Ok(()));
/// let report = Suite::new(BackendHarness::new(forgetful)).only("basic").run();
/// assert!(!report.is_ok());
/// ```
pub struct Backend {
    get: Operation<String, Found>,
    set: Operation<(String, Value), Result<()>>,
    delete: Operation<String, Result<()>>,
    get_multi: Operation<Vec<String>, Vec<Found>>,
    set_multi: Operation<Vec<(String, Value)>, Result<()>>,
    delete_multi: Operation<Vec<String>, Result<()>>,
    check: Check,
    pass: Operation<&'static str, Result<()>>,
    key: Box<dyn Fn(&str) -> String + Send + Sync>,
    on_open: fn(Store) -> Store,
    again: fn(&Store) -> Store,
    on_drop: fn(&Store),
    merge: fn(Merged) -> Result<()>,
    key_by_key: bool,
    each_time: bool,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

/// The outcome of a write of several keys.
pub(super) struct Merged {
    pub(super) total: usize,
    /// The keys that did not reach their server or were invalid, and why.
    pub(super) failed: Vec<(String, Error)>,
    /// The outcome of the others.
    pub(super) done: Result<()>,
}

impl Merged {
    /// As a correct backend reports it.
    pub(super) fn right(self) -> Result<()> {
        let mut failed = self.failed;
        if let Err(error) = self.done {
            let named: Vec<String> = error.keys().to_vec();
            failed.extend(named.into_iter().map(|key| (key, error.clone())));
            if failed.is_empty() {
                return Err(error);
            }
        }
        let keys: Vec<String> = failed.iter().map(|(key, _)| key.clone()).collect();
        match failed.into_iter().next() {
            None => Ok(()),
            Some((_, cause)) => Err(Error::partial(cause_of(cause), keys, self.total)),
        }
    }
}

/// The cause of a partial failure.
fn cause_of(error: Error) -> Error {
    let source = std::error::Error::source(&error);
    match source.and_then(|source| source.downcast_ref::<Error>()) {
        Some(cause) if error.kind() == ErrorKind::Partial => cause.clone(),
        _ => error,
    }
}

fn ready<T: Send + 'static>(answer: T) -> Call<T> {
    Box::pin(std::future::ready(answer))
}

impl Backend {
    /// Keeps the contract.
    pub fn right() -> Self {
        Self {
            get: Box::new(|store, key| ready(store.fetch(&key))),
            set: Box::new(|store, (key, value)| ready(set(&store, &key, value))),
            delete: Box::new(|store, key| {
                store.remove(&key);
                ready(Ok(()))
            }),
            get_multi: Box::new(|store, keys| {
                ready(keys.iter().map(|key| store.fetch(key)).collect())
            }),
            set_multi: Box::new(|store, entries| ready(set_multi(&store, entries))),
            delete_multi: Box::new(|store, keys| {
                for key in keys {
                    store.remove(&key);
                }
                ready(Ok(()))
            }),
            check: Box::new(|_, key| check_key(key)),
            pass: Box::new(|store, _| Box::pin(pass(store))),
            key: Box::new(str::to_owned),
            on_open: |store| store,
            again: Store::again,
            on_drop: Store::disconnect,
            merge: Merged::right,
            key_by_key: false,
            each_time: false,
        }
    }

    /// Replaces the operation.
    #[must_use]
    pub fn get(
        self,
        get: impl Fn(&Store, &str) -> Result<Option<Value>> + Send + Sync + 'static,
    ) -> Self {
        self.async_get(move |store, key| ready(get(&store, &key)))
    }

    /// Replaces `get` and `get_multi` with the same bug.
    #[must_use]
    pub fn read(
        mut self,
        read: impl Fn(&Store, &str) -> Result<Option<Value>> + Send + Sync + Copy + 'static,
    ) -> Self {
        self.get_multi = Box::new(move |store, keys| {
            let answers = keys.iter().map(|key| read(&store, key)).collect();
            Box::pin(std::future::ready(answers))
        });
        self.get(read)
    }

    /// Replaces the operation.
    #[must_use]
    pub fn set(
        self,
        set: impl Fn(&Store, &str, Value) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.async_set(move |store, key, value| ready(set(&store, &key, value)))
    }

    /// Replaces `set` and `set_multi` with the same bug.
    #[must_use]
    pub fn write(
        mut self,
        write: impl Fn(&Store, &str, Value) -> Result<()> + Send + Sync + Copy + 'static,
    ) -> Self {
        self.set_multi = Box::new(move |store, entries| {
            ready(each(entries, |key, value| write(&store, key, value)))
        });
        self.set(write)
    }

    /// Replaces the operation.
    #[must_use]
    pub fn delete(
        self,
        delete: impl Fn(&Store, &str) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.async_delete(move |store, key| ready(delete(&store, &key)))
    }

    /// Replaces `get_multi`; an error is that of each key.
    #[must_use]
    pub fn get_multi(
        self,
        get: impl Fn(&Store, Vec<String>) -> Result<Vec<Option<Value>>> + Send + Sync + 'static,
    ) -> Self {
        self.answers(move |store, keys| {
            let named = keys.clone();
            match get(store, keys) {
                Ok(found) => found.into_iter().map(Ok).collect(),
                Err(error) => failed(&named, &error),
            }
        })
    }

    /// Replaces `get_multi`; each key has its own result.
    #[must_use]
    pub fn answers(
        mut self,
        get: impl Fn(&Store, Vec<String>) -> Vec<Found> + Send + Sync + 'static,
    ) -> Self {
        self.get_multi =
            Box::new(move |store, keys| Box::pin(std::future::ready(get(&store, keys))));
        self
    }

    /// Replaces the operation.
    #[must_use]
    pub fn set_multi(
        mut self,
        set: impl Fn(&Store, Vec<(String, Value)>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.set_multi = Box::new(move |store, entries| ready(set(&store, entries)));
        self
    }

    /// Replaces the operation.
    #[must_use]
    pub fn delete_multi(
        mut self,
        delete: impl Fn(&Store, Vec<String>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.delete_multi = Box::new(move |store, keys| ready(delete(&store, keys)));
        self
    }

    /// Replaces the operation with an async one.
    #[must_use]
    pub fn async_get<F>(mut self, get: impl Fn(Store, String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<Value>>> + Send + 'static,
    {
        self.get = Box::new(move |store, key| Box::pin(get(store, key)));
        self
    }

    /// Replaces the operation with an async one.
    #[must_use]
    pub fn async_set<F>(
        mut self,
        set: impl Fn(Store, String, Value) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.set = Box::new(move |store, (key, value)| Box::pin(set(store, key, value)));
        self
    }

    /// Replaces the operation with an async one.
    #[must_use]
    pub fn async_delete<F>(
        mut self,
        delete: impl Fn(Store, String) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.delete = Box::new(move |store, key| Box::pin(delete(store, key)));
        self
    }

    /// Replaces the operation with an async one.
    #[must_use]
    pub fn async_get_multi<F>(
        mut self,
        get: impl Fn(Store, Vec<String>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Vec<Option<Value>>>> + Send + 'static,
    {
        self.get_multi = Box::new(move |store, keys| {
            let named = keys.clone();
            let call = get(store, keys);
            Box::pin(async move {
                match call.await {
                    Ok(found) => found.into_iter().map(Ok).collect(),
                    Err(error) => failed(&named, &error),
                }
            })
        });
        self
    }

    /// Replaces the operation with an async one.
    #[must_use]
    pub fn async_set_multi<F>(
        mut self,
        set: impl Fn(Store, Vec<(String, Value)>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.set_multi = Box::new(move |store, entries| Box::pin(set(store, entries)));
        self
    }

    /// Replaces the operation with an async one.
    #[must_use]
    pub fn async_delete_multi<F>(
        mut self,
        delete: impl Fn(Store, Vec<String>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.delete_multi = Box::new(move |store, keys| Box::pin(delete(store, keys)));
        self
    }

    /// Replaces the check of keys, which knows the operation.
    #[must_use]
    pub fn check(
        mut self,
        check: impl Fn(&'static str, &str) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.check = Box::new(check);
        self
    }

    /// Replaces the handling of faults, which knows the operation.
    #[must_use]
    pub fn pass<F>(
        mut self,
        pass: impl Fn(Store, &'static str) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.pass = Box::new(move |store, operation| Box::pin(pass(store, operation)));
        self
    }

    /// Replaces every key with another one.
    #[must_use]
    pub fn keys(mut self, key: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.key = Box::new(key);
        self
    }

    /// Replaces the store of each backend that is opened.
    #[must_use]
    pub fn on_open(mut self, on_open: fn(Store) -> Store) -> Self {
        self.on_open = on_open;
        self
    }

    /// Replaces the store of a second instance.
    #[must_use]
    pub fn again(mut self, again: fn(&Store) -> Store) -> Self {
        self.again = again;
        self
    }

    /// Sets what happens when an instance is dropped.
    #[must_use]
    pub fn on_drop(mut self, on_drop: fn(&Store)) -> Self {
        self.on_drop = on_drop;
        self
    }

    /// Replaces the result of a write of several keys.
    pub(super) fn merge(mut self, merge: fn(Merged) -> Result<()>) -> Self {
        self.merge = merge;
        self
    }

    /// Makes `get_multi` ask for one key after another.
    pub(super) fn key_by_key(mut self) -> Self {
        self.key_by_key = true;
        self
    }

    /// Makes `get_multi` fetch the value of a repeated key several times.
    pub(super) fn each_time(mut self) -> Self {
        self.each_time = true;
        self
    }
}

/// One instance of a [`Backend`].
#[derive(Debug)]
pub struct Instance<const IMMEDIATE: bool> {
    backend: Arc<Backend>,
    store: Store,
}

impl<const IMMEDIATE: bool> Drop for Instance<IMMEDIATE> {
    fn drop(&mut self) {
        (self.backend.on_drop)(&self.store);
    }
}

impl<const IMMEDIATE: bool> Instance<IMMEDIATE> {
    /// Sends the call to the server of the key.
    async fn reach(&self, operation: &'static str, key: &str) -> Result<Store> {
        let store = self.store.for_key(key);
        store.pass_once();
        let passed = (self.backend.pass)(store.clone(), operation).await;
        passed.map_err(|error| error.with_key(key))?;
        Ok(store)
    }

    /// The keys that reach their servers, with one request to each server.
    async fn reach_all(&self, operation: &'static str, keys: &[&str]) -> Vec<Result<()>> {
        let mut servers: [Option<Result<()>>; SERVERS] = [const { None }; SERVERS];
        let mut outcomes = Vec::with_capacity(keys.len());
        for key in keys {
            if let Err(refusal) = (self.backend.check)(operation, key) {
                outcomes.push(Err(refusal));
                continue;
            }
            let Some(server) = servers.get_mut(server_of(key)) else {
                continue;
            };
            if server.is_none() || self.backend.key_by_key {
                *server = Some(self.reach(operation, key).await.map(drop));
            }
            outcomes.push(match server {
                Some(Err(error)) => Err(error.clone().with_key(*key)),
                _ => Ok(()),
            });
        }
        outcomes
    }
}

impl<const IMMEDIATE: bool> CacheBackend for Instance<IMMEDIATE> {
    type Value = Vec<u8>;

    const IMMEDIATE: bool = IMMEDIATE;

    async fn get(&self, key: &str) -> Result<Option<Value>> {
        (self.backend.check)("get", key)?;
        let store = self.reach("get", key).await?;
        (self.backend.get)(store, (self.backend.key)(key)).await
    }

    async fn set(&self, key: &str, value: Value) -> Result<()> {
        (self.backend.check)("set", key)?;
        let store = self.reach("set", key).await?;
        (self.backend.set)(store, ((self.backend.key)(key), value)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        (self.backend.check)("delete", key)?;
        let store = self.reach("delete", key).await?;
        (self.backend.delete)(store, (self.backend.key)(key)).await
    }

    async fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<Value>>> {
        let outcomes = self.reach_all("get_multi", keys).await;
        let reached = keys.iter().zip(&outcomes);
        let reached = reached.filter(|(_, outcome)| outcome.is_ok());
        let reached: Vec<String> = reached.map(|(key, _)| (self.backend.key)(key)).collect();
        let all = reached.len() == keys.len();
        let found = (self.backend.get_multi)(self.store.clone(), reached.clone()).await;
        let mut seen = HashSet::new();
        for (key, found) in reached.into_iter().zip(&found) {
            if let (Ok(Some(value)), true) = (found, seen.insert(key) || self.backend.each_time) {
                self.store.answer(value.payload().len());
            }
        }
        if all {
            return found;
        }
        let mut found = found.into_iter();
        let in_place = outcomes.into_iter().map(|outcome| match outcome {
            Ok(()) => found.next().unwrap_or(Ok(None)),
            Err(error) => Err(error),
        });
        in_place.collect()
    }

    async fn set_multi(&self, entries: Vec<(&str, Value)>) -> Result<()> {
        let keys: Vec<&str> = entries.iter().map(|(key, _)| *key).collect();
        let outcomes = self.reach_all("set_multi", &keys).await;
        let total: HashSet<&str> = keys.iter().copied().collect();
        let mut failed = Vec::new();
        let mut failed_keys = HashSet::new();
        let mut reached = Vec::new();
        for ((key, value), outcome) in entries.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => reached.push(((self.backend.key)(key), value)),
                // A repeated key counts once.
                Err(error) if failed_keys.insert(key) => failed.push((key.to_owned(), error)),
                Err(_) => {}
            }
        }
        (self.backend.merge)(Merged {
            total: total.len(),
            failed,
            done: (self.backend.set_multi)(self.store.clone(), reached).await,
        })
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        let outcomes = self.reach_all("delete_multi", keys).await;
        let mut failed = Vec::new();
        let mut reached = Vec::new();
        for (key, outcome) in keys.iter().zip(outcomes) {
            match outcome {
                Ok(()) => reached.push((self.backend.key)(key)),
                Err(error) => failed.push(((*key).to_owned(), error)),
            }
        }
        (self.backend.merge)(Merged {
            total: keys.len(),
            failed,
            done: (self.backend.delete_multi)(self.store.clone(), reached).await,
        })
    }
}

/// Runs the suite against a [`Backend`] on a manual clock, with all capabilities and promises.
#[derive(Debug)]
pub struct BackendHarness<const IMMEDIATE: bool = false> {
    backend: Arc<Backend>,
    patience: Duration,
    capabilities: fn(Capabilities) -> Capabilities,
}

impl BackendHarness {
    /// Creates a harness with a call limit of a second, for faulty backends.
    pub fn new(backend: impl Into<Arc<Backend>>) -> Self {
        Self::with_patience(backend, Duration::from_secs(1))
    }

    /// Creates a harness with a longer call limit, for correct backends on slow machines.
    pub fn patient(backend: impl Into<Arc<Backend>>) -> Self {
        Self::with_patience(backend, Duration::from_secs(20))
    }
}

impl<const IMMEDIATE: bool> BackendHarness<IMMEDIATE> {
    pub(super) fn with_patience(backend: impl Into<Arc<Backend>>, patience: Duration) -> Self {
        Self {
            backend: backend.into(),
            patience,
            capabilities: |capabilities| capabilities,
        }
    }

    /// Changes the declared capabilities.
    #[must_use]
    pub fn declaring(self, capabilities: fn(Capabilities) -> Capabilities) -> Self {
        Self {
            capabilities,
            ..self
        }
    }

    fn instance(&self, store: Store) -> Instance<IMMEDIATE> {
        store.connect();
        Instance {
            backend: Arc::clone(&self.backend),
            store,
        }
    }
}

pub(super) const SECRET: &str = "hunter2";

impl<const IMMEDIATE: bool> Harness for BackendHarness<IMMEDIATE> {
    type Backend = Instance<IMMEDIATE>;

    fn capabilities(&self) -> Capabilities {
        let declared = Capabilities::default()
            .with_clock(Clock::Manual)
            .with_max_key(MAX_KEY)
            .with_max_value(MAX_VALUE)
            .with_capacity(CAPACITY)
            .with_faults(Fault::ALL)
            .with_servers(SERVERS)
            .with_secrets(&[SECRET])
            .with_unreadable_values()
            .with_batched_reads()
            .with_brief_polls()
            .with_no_tasks_left()
            .with_no_values_left()
            .with_distinct_reads()
            .with_no_connections_left()
            .with_steady_lifetimes()
            .with_call_limit(self.patience)
            .with_recovery(self.patience / 3);
        (self.capabilities)(declared)
    }

    async fn open(&self, options: &Options) -> Result<Instance<IMMEDIATE>, OpenError> {
        let manual = self.capabilities().clock == Clock::Manual;
        let clock = manual.then(|| options.clock.clone());
        let store = Store::new(options.default_ttl, clock);
        Ok(self.instance((self.backend.on_open)(store)))
    }

    async fn again(
        &self,
        first: &Instance<IMMEDIATE>,
        _: &Options,
    ) -> Result<Instance<IMMEDIATE>, OpenError> {
        Ok(self.instance((self.backend.again)(&first.store)))
    }

    async fn open_faulty(
        &self,
        options: &Options,
    ) -> Result<Faulty<Instance<IMMEDIATE>>, OpenError> {
        let instance = self.open(options).await?;
        let control = Control(instance.store.clone());
        Ok(Faulty::new(instance, control))
    }

    async fn make_unreadable(
        &self,
        backend: &Instance<IMMEDIATE>,
        key: &str,
    ) -> Result<(), OpenError> {
        backend.store.make_unreadable(key);
        Ok(())
    }

    fn values_held(&self, backend: &Instance<IMMEDIATE>) -> Option<usize> {
        Some(backend.store.held())
    }
}

struct Control(Store);

impl FaultControl for Control {
    fn inject(&mut self, fault: Fault) -> Result<(), OpenError> {
        self.0.set_faults(None, Some(fault));
        Ok(())
    }

    fn inject_into(&mut self, server: usize, fault: Fault) -> Result<(), OpenError> {
        self.0.set_faults(Some(server), Some(fault));
        Ok(())
    }

    fn heal(&mut self) -> Result<(), OpenError> {
        self.0.set_faults(None, None);
        Ok(())
    }

    fn round_trips(&mut self) -> Option<u64> {
        Some(self.0.passes())
    }

    fn bytes_answered(&mut self) -> Option<u64> {
        Some(self.0.bytes_answered())
    }

    fn connections(&mut self) -> Option<u64> {
        Some(self.0.connections())
    }
}
