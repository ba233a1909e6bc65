//! A backend that keeps the contract, but for the operations that are replaced.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cache_conformance::{
    Capabilities, Clock, Fault, FaultControl, Faulty, Harness, OpenError, Options,
};
use cache_core::{CacheBackend, Error, ErrorKind, Result};

use super::store::{Store, Value};

pub(crate) type Call<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;
type Operation<A, T> = Box<dyn Fn(Store, A) -> Call<T> + Send + Sync>;
type Check = Box<dyn Fn(&'static str, &str) -> Result<()> + Send + Sync>;

pub(crate) const MAX_KEY: usize = 250;
pub(crate) const MAX_VALUE: usize = 4096;

pub(crate) fn error(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, "mutant", message)
}

/// The check of a backend that does it right.
pub(crate) fn check_key(key: &str) -> Result<()> {
    match key.len() {
        1..=MAX_KEY => Ok(()),
        len => {
            let message = format!("the key has {len} bytes; 1 to {MAX_KEY} are allowed");
            Err(error(ErrorKind::InvalidKey, message).with_key(key))
        }
    }
}

pub(crate) fn too_large(key: &str, value: &Value) -> Result<()> {
    if value.payload().len() > MAX_VALUE {
        let message = format!("more than {MAX_VALUE} bytes");
        return Err(error(ErrorKind::ValueTooLarge, message).with_key(key));
    }
    Ok(())
}

/// `set` of a backend that does it right.
pub(crate) fn set(store: &Store, key: &str, value: Value) -> Result<()> {
    if let Err(error) = too_large(key, &value) {
        store.remove(key);
        return Err(error);
    }
    store.write(key, value);
    Ok(())
}

/// `set_multi` of a backend that does it right.
pub(crate) fn set_multi(store: &Store, entries: Vec<(String, Value)>) -> Result<()> {
    let total = entries.len();
    let mut failed = Vec::new();
    let mut cause = None;
    for (key, value) in entries {
        if let Err(error) = set(store, &key, value) {
            failed.push(key);
            cause = cause.or(Some(error));
        }
    }
    cause.map_or(Ok(()), |cause| Err(Error::partial(cause, failed, total)))
}

/// What happens to a call on its way to a server.
pub(crate) async fn pass(store: Store) -> Result<()> {
    match store.fault() {
        None => Ok(()),
        Some(Fault::Down) => Err(error(ErrorKind::Unavailable, "connection refused")),
        Some(Fault::Silent) => {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Err(error(ErrorKind::Timeout, "no answer within 60 ms"))
        }
        Some(_) => Err(error(ErrorKind::Protocol, "the answer makes no sense")),
    }
}

/// The operations of a backend. What is not replaced is right.
pub(crate) struct Mutant {
    get: Operation<String, Option<Value>>,
    set: Operation<(String, Value), ()>,
    delete: Operation<String, ()>,
    get_multi: Operation<Vec<String>, Vec<Option<Value>>>,
    set_multi: Operation<Vec<(String, Value)>, ()>,
    delete_multi: Operation<Vec<String>, ()>,
    check: Check,
    pass: Operation<&'static str, ()>,
    key: Box<dyn Fn(&str) -> String + Send + Sync>,
    on_open: fn(Store) -> Store,
    again: fn(&Store) -> Store,
    on_drop: fn(&Store),
}

fn ready<T: Send + 'static>(answer: Result<T>) -> Call<T> {
    Box::pin(std::future::ready(answer))
}

impl Mutant {
    pub(crate) fn new() -> Self {
        Self {
            get: Box::new(|store, key| ready(Ok(store.read(&key)))),
            set: Box::new(|store, (key, value)| ready(set(&store, &key, value))),
            delete: Box::new(|store, key| {
                store.remove(&key);
                ready(Ok(()))
            }),
            get_multi: Box::new(|store, keys| {
                ready(Ok(keys.iter().map(|key| store.read(key)).collect()))
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
            on_drop: |_| {},
        }
    }

    pub(crate) fn get(
        self,
        get: impl Fn(&Store, &str) -> Result<Option<Value>> + Send + Sync + 'static,
    ) -> Self {
        self.async_get(move |store, key| ready(get(&store, &key)))
    }

    /// The same mistake in `get` and `get_multi`.
    pub(crate) fn read(
        mut self,
        read: impl Fn(&Store, &str) -> Result<Option<Value>> + Send + Sync + Copy + 'static,
    ) -> Self {
        self.get_multi =
            Box::new(move |store, keys| ready(keys.iter().map(|key| read(&store, key)).collect()));
        self.get(read)
    }

    pub(crate) fn set(
        self,
        set: impl Fn(&Store, &str, Value) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.async_set(move |store, key, value| ready(set(&store, &key, value)))
    }

    /// The same mistake in `set` and `set_multi`.
    pub(crate) fn write(
        mut self,
        write: impl Fn(&Store, &str, Value) -> Result<()> + Send + Sync + Copy + 'static,
    ) -> Self {
        self.set_multi = Box::new(move |store, entries| {
            let mut entries = entries.into_iter();
            ready(entries.try_for_each(|(key, value)| write(&store, &key, value)))
        });
        self.set(write)
    }

    pub(crate) fn delete(
        self,
        delete: impl Fn(&Store, &str) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.async_delete(move |store, key| ready(delete(&store, &key)))
    }

    pub(crate) fn get_multi(
        mut self,
        get: impl Fn(&Store, Vec<String>) -> Result<Vec<Option<Value>>> + Send + Sync + 'static,
    ) -> Self {
        self.get_multi = Box::new(move |store, keys| ready(get(&store, keys)));
        self
    }

    pub(crate) fn set_multi(
        mut self,
        set: impl Fn(&Store, Vec<(String, Value)>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.set_multi = Box::new(move |store, entries| ready(set(&store, entries)));
        self
    }

    pub(crate) fn delete_multi(
        mut self,
        delete: impl Fn(&Store, Vec<String>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.delete_multi = Box::new(move |store, keys| ready(delete(&store, keys)));
        self
    }

    pub(crate) fn async_get<F>(
        mut self,
        get: impl Fn(Store, String) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Option<Value>>> + Send + 'static,
    {
        self.get = Box::new(move |store, key| Box::pin(get(store, key)));
        self
    }

    pub(crate) fn async_set<F>(
        mut self,
        set: impl Fn(Store, String, Value) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.set = Box::new(move |store, (key, value)| Box::pin(set(store, key, value)));
        self
    }

    pub(crate) fn async_delete<F>(
        mut self,
        delete: impl Fn(Store, String) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.delete = Box::new(move |store, key| Box::pin(delete(store, key)));
        self
    }

    pub(crate) fn async_get_multi<F>(
        mut self,
        get: impl Fn(Store, Vec<String>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Vec<Option<Value>>>> + Send + 'static,
    {
        self.get_multi = Box::new(move |store, keys| Box::pin(get(store, keys)));
        self
    }

    pub(crate) fn async_set_multi<F>(
        mut self,
        set: impl Fn(Store, Vec<(String, Value)>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.set_multi = Box::new(move |store, entries| Box::pin(set(store, entries)));
        self
    }

    pub(crate) fn async_delete_multi<F>(
        mut self,
        delete: impl Fn(Store, Vec<String>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.delete_multi = Box::new(move |store, keys| Box::pin(delete(store, keys)));
        self
    }

    /// What is done with keys before anything else; it is told the operation.
    pub(crate) fn check(
        mut self,
        check: impl Fn(&'static str, &str) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.check = Box::new(check);
        self
    }

    /// What happens on the way to the server; it is told the operation.
    pub(crate) fn pass<F>(
        mut self,
        pass: impl Fn(Store, &'static str) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.pass = Box::new(move |store, operation| Box::pin(pass(store, operation)));
        self
    }

    /// What every key is turned into.
    pub(crate) fn keys(mut self, key: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.key = Box::new(key);
        self
    }

    pub(crate) fn on_open(mut self, on_open: fn(Store) -> Store) -> Self {
        self.on_open = on_open;
        self
    }

    pub(crate) fn again(mut self, again: fn(&Store) -> Store) -> Self {
        self.again = again;
        self
    }

    pub(crate) fn on_drop(mut self, on_drop: fn(&Store)) -> Self {
        self.on_drop = on_drop;
        self
    }
}

/// One instance of the backend.
pub(crate) struct Instance {
    mutant: Arc<Mutant>,
    store: Store,
}

impl Drop for Instance {
    fn drop(&mut self) {
        (self.mutant.on_drop)(&self.store);
    }
}

impl CacheBackend for Instance {
    type Value = Vec<u8>;

    fn check_key(&self, key: &str) -> Result<()> {
        (self.mutant.check)("check_key", key)
    }

    async fn get(&self, key: &str) -> Result<Option<Value>> {
        let mutant = &self.mutant;
        (mutant.check)("get", key)?;
        (mutant.pass)(self.store.clone(), "get").await?;
        (mutant.get)(self.store.clone(), (mutant.key)(key)).await
    }

    async fn set(&self, key: &str, value: Value) -> Result<()> {
        let mutant = &self.mutant;
        (mutant.check)("set", key)?;
        (mutant.pass)(self.store.clone(), "set").await?;
        (mutant.set)(self.store.clone(), ((mutant.key)(key), value)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let mutant = &self.mutant;
        (mutant.check)("delete", key)?;
        (mutant.pass)(self.store.clone(), "delete").await?;
        (mutant.delete)(self.store.clone(), (mutant.key)(key)).await
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Value>>> {
        let mutant = &self.mutant;
        keys.iter()
            .try_for_each(|key| (mutant.check)("get_multi", key))?;
        (mutant.pass)(self.store.clone(), "get_multi").await?;
        let keys = keys.iter().map(|key| (mutant.key)(key)).collect();
        (mutant.get_multi)(self.store.clone(), keys).await
    }

    async fn set_multi(&self, entries: Vec<(&str, Value)>) -> Result<()> {
        let mutant = &self.mutant;
        entries
            .iter()
            .try_for_each(|(key, _)| (mutant.check)("set_multi", key))?;
        (mutant.pass)(self.store.clone(), "set_multi").await?;
        let entries = entries.into_iter();
        let entries = entries.map(|(key, value)| ((mutant.key)(key), value));
        (mutant.set_multi)(self.store.clone(), entries.collect()).await
    }

    async fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        let mutant = &self.mutant;
        keys.iter()
            .try_for_each(|key| (mutant.check)("delete_multi", key))?;
        (mutant.pass)(self.store.clone(), "delete_multi").await?;
        let keys = keys.iter().map(|key| (mutant.key)(key)).collect();
        (mutant.delete_multi)(self.store.clone(), keys).await
    }
}

/// Runs the suite against a mutant, by a manual clock.
pub(crate) struct MutantHarness {
    mutant: Arc<Mutant>,
    patience: Duration,
    capabilities: fn(Capabilities) -> Capabilities,
}

impl MutantHarness {
    pub(crate) fn new(mutant: impl Into<Arc<Mutant>>) -> Self {
        Self {
            mutant: mutant.into(),
            patience: Duration::from_secs(1),
            capabilities: |capabilities| capabilities,
        }
    }

    /// For backends that are right, however slow the machine.
    pub(crate) fn patient(mutant: impl Into<Arc<Mutant>>) -> Self {
        Self {
            patience: Duration::from_secs(20),
            ..Self::new(mutant)
        }
    }

    /// Changes what is declared.
    pub(crate) fn declaring(self, capabilities: fn(Capabilities) -> Capabilities) -> Self {
        Self {
            capabilities,
            ..self
        }
    }

    fn instance(&self, store: Store) -> Instance {
        Instance {
            mutant: Arc::clone(&self.mutant),
            store,
        }
    }
}

pub(crate) const SECRET: &str = "hunter2";

impl Harness for MutantHarness {
    type Backend = Instance;

    fn capabilities(&self) -> Capabilities {
        let declared = Capabilities::default()
            .with_clock(Clock::Manual)
            .with_max_key(MAX_KEY)
            .with_max_value(MAX_VALUE)
            .with_faults(Fault::ALL)
            .with_secrets(&[SECRET])
            .with_call_limit(self.patience)
            .with_recovery(self.patience / 3);
        (self.capabilities)(declared)
    }

    async fn open(&self, options: &Options) -> Result<Instance, OpenError> {
        let manual = self.capabilities().clock == Clock::Manual;
        let clock = manual.then(|| options.clock.clone());
        let store = Store::new(options.default_ttl, clock);
        Ok(self.instance((self.mutant.on_open)(store)))
    }

    async fn again(&self, first: &Instance, _: &Options) -> Result<Instance, OpenError> {
        Ok(self.instance((self.mutant.again)(&first.store)))
    }

    async fn open_faulty(&self, options: &Options) -> Result<Faulty<Instance>, OpenError> {
        let instance = self.open(options).await?;
        let control = Control(instance.store.clone());
        Ok(Faulty::new(instance, control))
    }
}

struct Control(Store);

impl FaultControl for Control {
    fn inject(&mut self, fault: Fault) -> Result<(), OpenError> {
        *self.0.fault.lock().unwrap() = Some(fault);
        Ok(())
    }

    fn heal(&mut self) -> Result<(), OpenError> {
        *self.0.fault.lock().unwrap() = None;
        Ok(())
    }
}
