//! [`Context`] and [`Cache`], what a rule works with.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, CachedValue, DynBackend, Ttl};

use crate::failure::{Failure, Trace, fail};
use crate::harness::{OpenError, Opened, Options, Subject};
use crate::rng::{self, Rng};
use crate::{Capabilities, Clock, Fault, FaultControl, ManualClock};

pub(crate) type Outcome<T = ()> = Result<T, Failure>;
pub(crate) type Value = CachedValue<Vec<u8>>;

/// One run of one rule: a backend to open, keys that nobody else uses, a clock, a seed.
#[derive(Clone)]
pub(crate) struct Context {
    subject: Arc<dyn Subject>,
    capabilities: Capabilities,
    clock: ManualClock,
    namespace: Arc<str>,
    trace: Trace,
    rng: Rng,
}

impl Context {
    pub(crate) fn new(subject: Arc<dyn Subject>, rng: Rng, trace: Trace) -> Self {
        Self {
            capabilities: subject.capabilities(),
            subject,
            clock: ManualClock::new(),
            namespace: format!("{:08x}", rng::entropy() & 0xffff_ffff).into(),
            trace,
            rng,
        }
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn rng(&self) -> &Rng {
        &self.rng
    }

    /// A key of this rule alone. Backends may be choosy: outside the rules about keys, names are
    /// visible ASCII.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.namespace)
    }

    /// `count` different keys of this rule alone.
    pub(crate) fn keys(&self, count: usize) -> Vec<String> {
        (0..count).map(|i| self.key(&format!("k{i}"))).collect()
    }

    /// Opens the backend without a default TTL.
    pub(crate) async fn open(&self) -> Outcome<Cache> {
        self.open_with(Duration::ZERO).await
    }

    pub(crate) async fn open_with(&self, default_ttl: Duration) -> Outcome<Cache> {
        let options = Options {
            default_ttl,
            clock: self.clock.clone(),
        };
        let opening = self.subject.open(options.clone());
        Ok(self.cache(self.opened(opening).await?, options))
    }

    /// A backend whose servers can be made to fail.
    pub(crate) async fn open_faulty(&self) -> Outcome<(Cache, Faults)> {
        let options = Options {
            default_ttl: Duration::ZERO,
            clock: self.clock.clone(),
        };
        let opening = self.subject.open_faulty(options.clone());
        let (opened, control) = self.opened(opening).await?;
        let faults = Faults {
            control: Arc::new(Mutex::new(control)),
            trace: self.trace.clone(),
        };
        Ok((self.cache(opened, options), faults))
    }

    /// A second instance on the store of `cache`.
    pub(crate) async fn again(&self, cache: &Cache) -> Outcome<Cache> {
        let opening = cache.opened.again(cache.options.clone());
        Ok(self.cache(self.opened(opening).await?, cache.options.clone()))
    }

    async fn opened<T>(&self, opening: impl Future<Output = Result<T, OpenError>>) -> Outcome<T> {
        match tokio::time::timeout(self.capabilities.call_limit, opening).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => fail!("the backend could not be opened: {error}"),
            Err(_) => fail!(
                "the backend was not opened within {:?}",
                self.capabilities.call_limit
            ),
        }
    }

    fn cache(&self, opened: Opened, options: Options) -> Cache {
        Cache {
            opened: Arc::new(opened),
            options,
            limit: self.capabilities.call_limit,
            trace: self.trace.clone(),
        }
    }

    /// The time, by the clock that values expire by.
    pub(crate) fn now(&self) -> Instant {
        match self.capabilities.clock {
            Clock::Real => Instant::now(),
            Clock::Manual => self.clock.now(),
        }
    }

    /// Lets time pass, by the clock that values expire by.
    pub(crate) async fn wait(&self, time: Duration) {
        let began = Instant::now();
        match self.capabilities.clock {
            Clock::Real => tokio::time::sleep(time).await,
            Clock::Manual => self.clock.advance(time),
        }
        self.trace
            .note(began, began.elapsed(), &format!("wait {time:?}"));
    }

    /// Lets time pass until that moment.
    pub(crate) async fn wait_until(&self, moment: Instant) {
        self.wait(moment.saturating_duration_since(self.now()))
            .await;
    }
}

/// The faults of the servers of one backend.
pub(crate) struct Faults {
    control: Arc<Mutex<Box<dyn FaultControl>>>,
    trace: Trace,
}

impl Faults {
    pub(crate) async fn inject(&self, fault: Fault) -> Outcome {
        self.change(&format!("the servers are {fault}"), move |control| {
            control.inject(fault)
        })
        .await
    }

    pub(crate) async fn heal(&self) -> Outcome {
        self.change("the servers are well", FaultControl::heal)
            .await
    }

    async fn change(
        &self,
        what: &str,
        change: impl FnOnce(&mut dyn FaultControl) -> Result<(), OpenError> + Send + 'static,
    ) -> Outcome {
        let began = Instant::now();
        let control = Arc::clone(&self.control);
        let changed = tokio::task::spawn_blocking(move || {
            let mut control = control.lock().unwrap_or_else(PoisonError::into_inner);
            change(control.as_mut())
        });
        let changed = changed.await;
        self.trace.note(began, began.elapsed(), what);
        match changed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => fail!("the harness failed ({what}): {error}"),
            Err(_) => fail!("the harness panicked ({what})"),
        }
    }
}

/// A backend whose operations are written down, bounded in time, and fail the rule when they
/// fail. Those named `try_…` leave it to the rule what an error means.
#[derive(Clone)]
pub(crate) struct Cache {
    opened: Arc<Opened>,
    options: Options,
    limit: Duration,
    trace: Trace,
}

impl Cache {
    /// The backend itself, for what need not be written down.
    pub(crate) fn raw(&self) -> &DynBackend<Vec<u8>> {
        &self.opened.backend
    }

    /// Runs a call, writes it down, and fails the rule when it does not end.
    async fn call<T>(
        &self,
        what: String,
        call: impl Future<Output = cache_core::Result<T>>,
        show: impl FnOnce(&T) -> String,
    ) -> Outcome<cache_core::Result<T>> {
        let began = Instant::now();
        let answer = tokio::time::timeout(self.limit, call).await;
        let shown = match &answer {
            Ok(Ok(answer)) => show(answer),
            Ok(Err(error)) => format!("error: {error}"),
            Err(_) => "no answer".to_owned(),
        };
        self.trace
            .note(began, began.elapsed(), &format!("{what} -> {shown}"));
        match answer {
            Ok(answer) => Ok(answer),
            Err(_) => fail!("{what} did not end within {:?}", self.limit),
        }
    }

    pub(crate) async fn try_get(&self, key: &str) -> Outcome<cache_core::Result<Option<Value>>> {
        let call = self.raw().get(key);
        self.call(format!("get {}", show_key(key)), call, |found| {
            show_found(found.as_ref())
        })
        .await
    }

    pub(crate) async fn try_set(&self, key: &str, value: Value) -> Outcome<cache_core::Result<()>> {
        let what = format!("set {} = {}", show_key(key), show_value(&value));
        let call = self.raw().set(key, value);
        self.call(what, call, show_done).await
    }

    pub(crate) async fn try_delete(&self, key: &str) -> Outcome<cache_core::Result<()>> {
        let call = self.raw().delete(key);
        self.call(format!("delete {}", show_key(key)), call, show_done)
            .await
    }

    pub(crate) async fn try_get_multi(
        &self,
        keys: &[&str],
    ) -> Outcome<cache_core::Result<Vec<Option<Value>>>> {
        let call = async {
            let found = self.raw().get_multi(keys).await;
            found.into_iter().collect::<cache_core::Result<Vec<_>>>()
        };
        self.call(format!("get_multi {}", show_keys(keys)), call, |found| {
            let mut shown = String::from("[");
            for found in found.iter().take(SHOWN) {
                let _ = write!(shown, "{}; ", show_found(found.as_ref()));
            }
            let _ = write!(shown, "{} in all]", found.len());
            shown
        })
        .await
    }

    pub(crate) async fn try_set_multi(
        &self,
        entries: Vec<(&str, Value)>,
    ) -> Outcome<cache_core::Result<()>> {
        let mut what = String::from("set_multi {");
        for (key, value) in entries.iter().take(SHOWN) {
            let _ = write!(what, "{} = {}; ", show_key(key), show_value(value));
        }
        let _ = write!(what, "{} in all}}", entries.len());
        let call = self.raw().set_multi(entries);
        self.call(what, call, show_done).await
    }

    pub(crate) async fn try_delete_multi(&self, keys: &[&str]) -> Outcome<cache_core::Result<()>> {
        let call = self.raw().delete_multi(keys);
        self.call(format!("delete_multi {}", show_keys(keys)), call, show_done)
            .await
    }

    pub(crate) async fn get(&self, key: &str) -> Outcome<Option<Value>> {
        succeeded("get", self.try_get(key).await?)
    }

    pub(crate) async fn set(&self, key: &str, value: Value) -> Outcome {
        succeeded("set", self.try_set(key, value).await?)
    }

    /// `set` of a payload, cached now.
    pub(crate) async fn put(&self, key: &str, payload: impl Into<Vec<u8>>) -> Outcome {
        self.set(key, CachedValue::new(payload.into())).await
    }

    pub(crate) async fn delete(&self, key: &str) -> Outcome {
        succeeded("delete", self.try_delete(key).await?)
    }

    pub(crate) async fn get_multi(&self, keys: &[&str]) -> Outcome<Vec<Option<Value>>> {
        let found = succeeded("get_multi", self.try_get_multi(keys).await?)?;
        if found.len() != keys.len() {
            fail!(
                "get_multi of {} keys gave {} answers; one a key was expected",
                keys.len(),
                found.len()
            );
        }
        Ok(found)
    }

    pub(crate) async fn set_multi(&self, entries: Vec<(&str, Value)>) -> Outcome {
        succeeded("set_multi", self.try_set_multi(entries).await?)
    }

    /// `set_multi` of payloads, cached now.
    pub(crate) async fn put_multi(&self, entries: &[(&str, &[u8])]) -> Outcome {
        let entries = entries
            .iter()
            .map(|(key, payload)| (*key, CachedValue::new(payload.to_vec())))
            .collect();
        self.set_multi(entries).await
    }

    pub(crate) async fn delete_multi(&self, keys: &[&str]) -> Outcome {
        succeeded("delete_multi", self.try_delete_multi(keys).await?)
    }

    /// `get` must find this payload.
    pub(crate) async fn hit(&self, key: &str, payload: impl AsRef<[u8]>) -> Outcome<Value> {
        let payload = payload.as_ref();
        match self.get(key).await? {
            Some(found) if found.payload() == payload => Ok(found),
            found => fail!(
                "get {}: expected {}, got {}",
                show_key(key),
                show_payload(payload),
                show_found(found.as_ref())
            ),
        }
    }

    /// `get` must find nothing.
    pub(crate) async fn miss(&self, key: &str) -> Outcome {
        match self.get(key).await? {
            None => Ok(()),
            found => fail!(
                "get {}: expected a miss, got {}",
                show_key(key),
                show_found(found.as_ref())
            ),
        }
    }

    /// `get_multi` must answer exactly this.
    pub(crate) async fn answers(&self, keys: &[&str], expected: &[Option<&[u8]>]) -> Outcome {
        let found = self.get_multi(keys).await?;
        for (position, (key, (found, expected))) in
            keys.iter().zip(found.iter().zip(expected)).enumerate()
        {
            if found.as_ref().map(|found| found.payload().as_slice()) != *expected {
                fail!(
                    "get_multi, position {position} (key {}): expected {}, got {}",
                    show_key(key),
                    expected.map_or_else(|| "a miss".to_owned(), show_payload),
                    show_found(found.as_ref())
                );
            }
        }
        Ok(())
    }
}

fn succeeded<T>(operation: &str, answer: cache_core::Result<T>) -> Outcome<T> {
    answer.map_err(|error| Failure::new(format!("{operation} failed: {error}")))
}

/// How many entries of a multi operation a trace shows.
const SHOWN: usize = 6;

pub(crate) fn show_key(key: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    match key.char_indices().nth(SHOWN_CHARS) {
        None => format!("{key:?}"),
        Some((end, _)) => format!(
            "{:?}… of {} bytes",
            key.get(..end).unwrap_or(key),
            key.len()
        ),
    }
}

fn show_keys(keys: &[&str]) -> String {
    let shown: Vec<String> = keys.iter().take(SHOWN).map(|key| show_key(key)).collect();
    format!("[{}; {} in all]", shown.join(", "), keys.len())
}

fn show_payload(payload: &[u8]) -> String {
    const SHOWN_BYTES: usize = 40;
    let shown = payload.get(..SHOWN_BYTES).unwrap_or(payload);
    let more = if shown.len() < payload.len() {
        format!("… of {} bytes", payload.len())
    } else {
        String::new()
    };
    format!("\"{}\"{more}", shown.escape_ascii())
}

fn show_value(value: &Value) -> String {
    match value.ttl() {
        Ttl::For(ttl) => format!("{} with {ttl:?} to live", show_payload(value.payload())),
        Ttl::Default | Ttl::Never => show_payload(value.payload()),
    }
}

pub(crate) fn show_found(found: Option<&Value>) -> String {
    found.map_or_else(|| "a miss".to_owned(), show_value)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // It stands where others show larger answers.
fn show_done((): &()) -> String {
    "done".to_owned()
}
