//! [`Context`], the argument of a rule.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::OpenError;
use crate::cache::Written;
use crate::failure::{Failure, Trace, describe_panic, fail};
use crate::harness::{Opened, Options, Subject};
use crate::rng::Rng;
use crate::{Capabilities, Clock, ManualClock};

pub(crate) use crate::cache::{Cache, Outcome, Value};
pub(crate) use crate::faults::Faults;

/// One run of one rule: a backend to open, keys that no other rule uses, a clock, a seed.
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
    /// `pace` is the duration of a call of this backend.
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

    /// The same with its own clock, so that time passes for no other context.
    pub(crate) fn with_own_clock(&self) -> Self {
        Self {
            clock: ManualClock::new(),
            ..self.clone()
        }
    }

    /// How often to repeat a sequence of calls: `most`, or less if calls are slow, but at least
    /// `least`.
    pub(crate) fn scaled(&self, most: usize, least: usize) -> usize {
        const BUDGET: Duration = Duration::from_secs(4);
        let calls = BUDGET.as_micros() / self.pace.as_micros().max(1);
        usize::try_from(calls).unwrap_or(most).clamp(least, most)
    }

    /// `count`, or fewer if the backend declares a lower capacity.
    pub(crate) fn within_capacity(&self, count: usize) -> usize {
        self.capabilities
            .capacity
            .map_or(count, |most| most.min(count))
    }

    /// A key that no other rule uses. Outside the rules about keys, names are visible ASCII,
    /// because backends may refuse others.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.namespace)
    }

    /// `count` different keys that no other rule uses.
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

    /// Opens a backend into whose servers faults can be injected.
    pub(crate) async fn open_faulty(&self) -> Outcome<(Cache, Faults)> {
        let options = self.options(Duration::ZERO);
        let opening = self.subject.open_faulty(options.clone());
        let (opened, control) = self.opened(opening).await?;
        let faults = Faults::new(control, self.trace.clone());
        Ok((self.cache(opened, options), faults))
    }

    /// Opens a second instance on the store of `cache`.
    pub(crate) async fn again(&self, cache: &Cache) -> Outcome<Cache> {
        let opening = cache.opened.again(cache.options.clone());
        Ok(self.cache(self.opened(opening).await?, cache.options.clone()))
    }

    /// Stores a value under the key that the backend cannot decode.
    pub(crate) async fn make_unreadable(&self, cache: &Cache, key: &str) -> Outcome {
        cache.will_write(key);
        let making = cache.opened.make_unreadable(key);
        let what = format!("make_unreadable {key:?}");
        match cache.call(what, making, |_| "done".to_owned()).await? {
            Ok(()) => Ok(()),
            Err(error) => fail!("the harness could not make {key:?} unreadable: {error}"),
        }
    }

    async fn opened<T>(&self, opening: impl Future<Output = Result<T, OpenError>>) -> Outcome<T> {
        let limit = self.capabilities.call_limit;
        match tokio::time::timeout(limit, without_panic(opening)).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => Err(Failure::unopened(format!(
                "the backend could not be opened: {error}"
            ))),
            Err(_) => Err(Failure::unopened(format!(
                "the backend was not opened within the call_limit of {limit:?}"
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

    /// Removes what the rule has written. Errors are ignored, because servers may be dead.
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

    /// The time of the clock by which values expire.
    pub(crate) fn now(&self) -> Instant {
        match self.capabilities.clock {
            Clock::Real => Instant::now(),
            Clock::Manual => self.clock.now(),
        }
    }

    /// The clock of a backend on a manual clock.
    pub(crate) fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Lets time pass on the clock by which values expire.
    pub(crate) async fn wait(&self, time: Duration) {
        match self.capabilities.clock {
            Clock::Real => {
                self.trace.pauses(time);
                tokio::time::sleep(time).await;
            }
            Clock::Manual => self.clock.advance(time),
        }
        self.trace.note(&format!("waited {time:?}"));
    }

    /// Lets time pass until this moment.
    pub(crate) async fn wait_until(&self, moment: Instant) {
        self.wait(moment.saturating_duration_since(self.now()))
            .await;
    }
}

/// A harness that cannot start its server often panics. That is an error as any other, which need
/// not be reported by each rule.
async fn without_panic<T>(
    opening: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    let mut opening = pin!(opening);
    std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| opening.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(describe_panic(&*panic).into())))
    })
    .await
}
