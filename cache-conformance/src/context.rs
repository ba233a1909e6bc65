//! [`Context`], what a rule is given.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::Written;
use crate::failure::{Failure, Trace, fail};
use crate::harness::{OpenError, Opened, Options, Subject};
use crate::rng::Rng;
use crate::{Capabilities, Clock, ManualClock};

pub(crate) use crate::cache::{Cache, Outcome, Value};
pub(crate) use crate::faults::Faults;

/// One run of one rule: a backend to open, keys that nobody else uses, a clock, a seed.
#[derive(Clone)]
pub(crate) struct Context {
    subject: Arc<dyn Subject>,
    capabilities: Capabilities,
    clock: ManualClock,
    namespace: Arc<str>,
    trace: Trace,
    rng: Rng,
    written: Written,
    pace: Duration,
}

impl Context {
    /// `pace` is what a call to this backend takes.
    pub(crate) fn new(subject: Arc<dyn Subject>, rng: Rng, trace: Trace, pace: Duration) -> Self {
        Self {
            capabilities: subject.capabilities(),
            subject,
            clock: ManualClock::new(),
            namespace: format!("{:08x}", rng.next() & 0xffff_ffff).into(),
            trace,
            rng,
            written: Written::default(),
            pace,
        }
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn rng(&self) -> &Rng {
        &self.rng
    }

    /// The same with a clock of its own, so that time passes for nobody else.
    pub(crate) fn with_own_clock(&self) -> Self {
        Self {
            clock: ManualClock::new(),
            ..self.clone()
        }
    }

    /// How often to do something of some calls in a row: `most`, or less where calls are slow,
    /// but `least`.
    pub(crate) fn scaled(&self, most: usize, least: usize) -> usize {
        const BUDGET: Duration = Duration::from_secs(4);
        let calls = BUDGET.as_micros() / self.pace.as_micros().max(1);
        usize::try_from(calls).unwrap_or(most).clamp(least, most)
    }

    /// `count`, or fewer where the backend declares to keep no more.
    pub(crate) fn within_capacity(&self, count: usize) -> usize {
        self.capabilities
            .capacity
            .map_or(count, |most| most.min(count))
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

    fn options(&self, default_ttl: Duration) -> Options {
        Options {
            default_ttl,
            clock: self.clock.clone(),
        }
    }

    /// Opens the backend without a default TTL.
    pub(crate) async fn open(&self) -> Outcome<Cache> {
        self.open_with(Duration::ZERO).await
    }

    pub(crate) async fn open_with(&self, default_ttl: Duration) -> Outcome<Cache> {
        let options = self.options(default_ttl);
        let opening = self.subject.open(options.clone());
        Ok(self.cache(self.opened(opening).await?, options))
    }

    /// A backend whose servers can be made to fail.
    pub(crate) async fn open_faulty(&self) -> Outcome<(Cache, Faults)> {
        let options = self.options(Duration::ZERO);
        let opening = self.subject.open_faulty(options.clone());
        let (opened, control) = self.opened(opening).await?;
        let faults = Faults::new(control, self.trace.clone());
        Ok((self.cache(opened, options), faults))
    }

    /// A second instance on the store of `cache`.
    pub(crate) async fn again(&self, cache: &Cache) -> Outcome<Cache> {
        let opening = cache.opened.again(cache.options.clone());
        Ok(self.cache(self.opened(opening).await?, cache.options.clone()))
    }

    /// Puts something under the key that the backend cannot read.
    pub(crate) async fn make_unreadable(&self, cache: &Cache, key: &str) -> Outcome {
        cache.will_write(key);
        let making = cache.opened.make_unreadable(key);
        let what = format!("make_unreadable {key:?}");
        match cache.call(what, making, |_| "done".to_owned()).await? {
            Ok(()) => Ok(()),
            Err(error) => fail!("the harness failed to make {key:?} unreadable: {error}"),
        }
    }

    async fn opened<T>(&self, opening: impl Future<Output = Result<T, OpenError>>) -> Outcome<T> {
        let limit = self.capabilities.call_limit;
        match tokio::time::timeout(limit, opening).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => Err(Failure::unopened(format!(
                "the backend could not be opened: {error}"
            ))),
            Err(_) => Err(Failure::unopened(format!(
                "the backend was not opened within {limit:?}, the call_limit"
            ))),
        }
    }

    fn cache(&self, opened: Opened, options: Options) -> Cache {
        Cache {
            opened: Arc::new(opened),
            options,
            limit: self.capabilities.call_limit,
            trace: self.trace.clone(),
            written: self.written.clone(),
        }
    }

    /// Removes what was written. That it fails is not the rule's matter: servers may be dead.
    pub(crate) async fn clean_up(&self) {
        const AT_ONCE: usize = 1_000;
        let keys = self.written.take();
        let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        keys.sort_unstable();
        if keys.is_empty() {
            return;
        }
        let Ok(cache) = self.open().await else { return };
        for keys in keys.chunks(AT_ONCE) {
            cache.try_delete_multi(keys).await.ok();
        }
    }

    /// The time, by the clock that values expire by.
    pub(crate) fn now(&self) -> Instant {
        match self.capabilities.clock {
            Clock::Real => Instant::now(),
            Clock::Manual => self.clock.now(),
        }
    }

    /// The clock of a backend that goes by the suite's.
    pub(crate) fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Lets time pass, by the clock that values expire by.
    pub(crate) async fn wait(&self, time: Duration) {
        match self.capabilities.clock {
            Clock::Real => tokio::time::sleep(time).await,
            Clock::Manual => self.clock.advance(time),
        }
        self.trace.note(&format!("waited {time:?}"));
    }

    /// Lets time pass until that moment.
    pub(crate) async fn wait_until(&self, moment: Instant) {
        self.wait(moment.saturating_duration_since(self.now()))
            .await;
    }
}
