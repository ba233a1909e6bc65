//! [`Load`], many clients that make random calls to a backend and check the results.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Result, bail};
use cache_conformance::checker::{Action, Operation, Span};
use cache_core::{CacheBackend as _, CachedValue, DynBackend, ErrorKind, Ttl};
use fastrand::Rng;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::judge::{Judge, Key, ROUND, micros, now};

/// How many keys each client writes per round. Every client reads the keys of all clients.
const OWN_KEYS: usize = 8;

/// The maximum number of keys in a multi operation.
const MOST_KEYS: usize = 24;

/// The fraction of calls that are dropped before they complete.
const DROPPED: f64 = 0.03;

/// The tolerance for deadlines, which are stored as floating-point seconds.
const ROUNDING: Duration = Duration::from_micros(10);

/// How long tasks may outlive dropped backends: HTTP/2 clients notice a dead connection after 15 s.
const TASKS_END_WITHIN: Duration = Duration::from_secs(30);

/// A store and the backends that use it.
pub(crate) struct Space {
    /// The clock that determines expiry.
    clock: fn() -> Duration,
    backends: Vec<RwLock<DynBackend<Vec<u8>>>>,
    last_version: AtomicU64,
}

impl Space {
    pub(crate) fn new(clock: fn() -> Duration, backends: Vec<DynBackend<Vec<u8>>>) -> Self {
        Self {
            clock,
            backends: backends.into_iter().map(RwLock::new).collect(),
            last_version: AtomicU64::new(0),
        }
    }

    /// A unique version for a write: the time in microseconds, or one more than the last version.
    fn version(&self) -> u64 {
        let next = |last: u64| micros((self.clock)()).max(last + 1);
        let order = Ordering::SeqCst;
        let last = &self.last_version;
        last.fetch_update(order, order, |last| Some(next(last)))
            .map_or(0, next)
    }
}

/// Opens another backend for the first space.
pub(crate) type Open = Box<dyn Fn() -> Result<DynBackend<Vec<u8>>> + Send + Sync>;

/// Running clients.
pub(crate) struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    judge: Arc<Judge>,
    spaces: Vec<Space>,
    /// Part of every key, to keep runs apart.
    run: u64,
    clients: usize,
    /// Calls per second, of all clients together.
    rate: f64,
    stop: AtomicBool,
}

impl Load {
    pub(crate) fn start(
        judge: &Arc<Judge>,
        spaces: Vec<Space>,
        open: Option<Open>,
        (seed, clients, rate): (u64, usize, f64),
    ) -> Self {
        let shared = Arc::new(Shared {
            judge: Arc::clone(judge),
            spaces,
            run: fastrand::u64(..),
            clients,
            rate,
            stop: AtomicBool::new(false),
        });
        let mut seeds = Rng::with_seed(seed);
        let client = |number| Client {
            shared: Arc::clone(&shared),
            rng: seeds.fork(),
            number,
            writers: BTreeMap::new(),
        };
        let clients: Vec<Client> = (0..clients).map(client).collect();
        let mut tasks: Vec<_> = clients
            .into_iter()
            .map(|one| tokio::spawn(one.run()))
            .collect();
        if let Some(open) = open {
            tasks.push(tokio::spawn(reopen(Arc::clone(&shared), open, seeds)));
        }
        Self { shared, tasks }
    }

    /// Stops the clients, drops the backends, and checks that they leave no tasks behind.
    pub(crate) async fn finish(self) {
        let judge = Arc::clone(&self.shared.judge);
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            match timeout(judge.promises.patience() * 2, task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => judge.wrong("panic", &format!("a client ended: {error}")),
                Err(_) => judge.wrong("bound", "a client did not stop"),
            }
        }
        drop(self.shared);
        let dropped = Instant::now();
        let tasks = || Handle::current().metrics().num_alive_tasks();
        while tasks() > 0 && dropped.elapsed() < TASKS_END_WITHIN {
            sleep(Duration::from_millis(50)).await;
        }
        if tasks() > 0 {
            judge.wrong("leak", &format!("dropped backends left {} tasks", tasks()));
        }
    }
}

/// Replaces a backend every few seconds, while calls to the old one continue.
async fn reopen(shared: Arc<Shared>, open: Open, mut rng: Rng) {
    loop {
        for _ in 0..rng.u32(20..60) {
            sleep(Duration::from_millis(200)).await;
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
        }
        let slots = shared
            .spaces
            .first()
            .map_or(&[][..], |space| &space.backends);
        match (open(), rng.choice(slots)) {
            (Ok(backend), Some(slot)) => {
                *slot.write().unwrap_or_else(PoisonError::into_inner) = backend;
            }
            (Err(error), _) => shared
                .judge
                .wrong("error", &format!("cannot open: {error:#}")),
            (Ok(_), None) => return,
        }
    }
}

/// A task that acts like a service.
struct Client {
    shared: Arc<Shared>,
    rng: Rng,
    number: usize,
    /// The backend for writes to each space, and the round in which it is used. A set that arrives
    /// late may undo a delete, unless the same backend sent both.
    writers: BTreeMap<usize, (u64, DynBackend<Vec<u8>>)>,
}

/// The target of a call: the number of the space, the space, and one of its backends.
type Place<'a> = (usize, &'a Space, DynBackend<Vec<u8>>);

impl Client {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while !shared.stop.load(Ordering::Relaxed) {
            self.pause().await;
            let number = self.rng.usize(..shared.spaces.len());
            let Some(space) = shared.spaces.get(number) else {
                return;
            };
            let Some(backend) = self.any_backend(space) else {
                return;
            };
            let place = (number, space, backend);
            let many = self.rng.usize(2..=MOST_KEYS);
            match self.rng.u32(..100) {
                0..52 => self.read(&place, 1).await,
                52..72 => self.write(&place, 1).await,
                72..76 => self.delete(&place, 1).await,
                76..91 => self.read(&place, many).await,
                91..97 => self.write(&place, many).await,
                _ => self.delete(&place, many).await,
            }
        }
    }

    fn any_backend(&mut self, space: &Space) -> Option<DynBackend<Vec<u8>>> {
        let backend = self.rng.choice(&space.backends)?.read();
        Some(backend.unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The backend for writes of keys of this round.
    fn writer(&mut self, (number, _, backend): &Place<'_>, keys: &[Key]) -> DynBackend<Vec<u8>> {
        let round = keys.first().map_or(0, |key| key.round);
        let writer = self.writers.entry(*number);
        let writer = writer.or_insert_with(|| (round, backend.clone()));
        if writer.0 != round {
            *writer = (round, backend.clone());
        }
        writer.1.clone()
    }

    /// Waits at random; a third of the calls are aligned to common instants.
    async fn pause(&mut self) {
        const BEAT: u64 = 50_000;
        #[allow(clippy::cast_precision_loss)] // There are few clients.
        let mean = self.shared.clients as f64 / self.shared.rate.max(0.1);
        let seconds = (-(1.0 - self.rng.f64()).ln() * mean).min(5.0);
        let mut pause = Duration::from_secs_f64(seconds);
        if self.rng.f64() < 0.3 {
            pause += Duration::from_micros(BEAT - micros(now() + pause) % BEAT);
        }
        sleep(pause).await;
    }

    /// A random index; lower ones are more likely.
    fn skewed(&mut self, count: usize) -> usize {
        let most = self.rng.usize(..count);
        self.rng.usize(..=most)
    }

    /// A key to read, occasionally from an earlier round.
    fn key(&mut self, space: usize) -> Key {
        let earlier = if self.rng.f64() < 0.05 {
            self.rng.u64(1..9)
        } else {
            0
        };
        let round = now().as_secs() / ROUND.as_secs();
        Key {
            space,
            round: round.saturating_sub(earlier),
            index: self.skewed(self.shared.clients * OWN_KEYS),
        }
    }

    /// Keys that only this client writes. They are distinct, because a multi operation would write
    /// only the last value of a repeated key.
    fn own_keys(&mut self, space: usize, count: usize) -> Vec<Key> {
        let round = now().as_secs() / ROUND.as_secs();
        let mut own_key = || Key {
            space,
            round,
            index: self.skewed(OWN_KEYS) * self.shared.clients + self.number,
        };
        let keys: BTreeSet<Key> = (0..count).map(|_| own_key()).collect();
        keys.into_iter().collect()
    }

    fn names(&self, keys: &[Key]) -> Vec<String> {
        keys.iter().map(|key| name(self.shared.run, *key)).collect()
    }

    /// Makes a call and waits for its results, or drops it. Returns the operation for the history,
    /// with a placeholder as action, and the results.
    async fn call<T>(
        &mut self,
        space: &Space,
        name: &'static str,
        keys: usize,
        call: impl Future<Output = Vec<cache_core::Result<T>>>,
    ) -> (Operation, Option<Vec<cache_core::Result<T>>>) {
        let judge = &self.shared.judge;
        let is_dropped = self.rng.f64() < DROPPED;
        let limit = match (is_dropped, self.rng.bool()) {
            (false, _) => judge.promises.patience(),
            // Drops the call after the first poll.
            (true, false) => Duration::ZERO,
            (true, true) => Duration::from_micros(self.rng.u64(..5_000)),
        };
        let name = if keys == 1 {
            name.to_owned()
        } else {
            format!("{name}_multi")
        };
        let (called, began) = (now(), (space.clock)());
        let answers = timeout(limit, call).await.ok();
        let operation = Operation {
            task: self.number,
            action: Action::Read(None),
            called: micros(called),
            answered: Some(micros(now())),
            began,
            ended: (space.clock)(),
        };
        match &answers {
            Some(answers) => {
                let error = answers.iter().find_map(|answer| answer.as_ref().err());
                judge.call(&name, called, error);
            }
            None if is_dropped => judge.dropped(),
            None => judge.wrong("bound", &format!("{name} did not end within {limit:?}")),
        }
        (operation, answers)
    }

    async fn read(&mut self, (number, space, backend): &Place<'_>, count: usize) {
        let judge = Arc::clone(&self.shared.judge);
        let keys: Vec<Key> = (0..count).map(|_| self.key(*number)).collect();
        let names = self.names(&keys);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let get = async {
            match names.as_slice() {
                [name] => vec![backend.get(name).await],
                names => backend.get_multi(names).await,
            }
        };
        let (operation, answers) = self.call(space, "get", keys.len(), get).await;
        let Some(answers) = answers else { return };
        let (asked, answered) = (keys.len(), answers.len());
        if asked != answered {
            let text = format!("{asked} keys were requested, {answered} answered");
            judge.wrong("answer", &text);
        }
        for ((key, name), answer) in keys.into_iter().zip(names).zip(answers) {
            let Ok(found) = answer else { continue };
            let seen = found.map(|found| self.checked(name, operation.began, &found));
            match seen.transpose() {
                Ok(seen) => judge.operation(key, with(operation, Action::Read(seen))),
                Err(error) => judge.wrong("foreign", &format!("{name:?}: {error}")),
            }
        }
    }

    /// Returns the version of a value found by a read. The value itself shows whether it is the
    /// right one and has outlived its deadline, even without its history.
    fn checked(&self, name: &str, began: Duration, found: &CachedValue<Vec<u8>>) -> Result<u64> {
        let promises = &self.shared.judge.promises;
        let cached_at = found.cached_at().duration_since(UNIX_EPOCH)?;
        let version = micros(cached_at + Duration::from_nanos(500));
        let written = value(name, version, promises.largest);
        if written.payload() != found.payload() {
            let length = found.payload().len();
            bail!("{length} bytes that were never written as version {version}");
        }
        let lifetime = written
            .ttl()
            .or_default(promises.default_ttl)
            .unwrap_or(Duration::MAX);
        let latest = Duration::from_micros(version) + promises.patience();
        if began > latest.saturating_add(lifetime) {
            bail!("version {version} outlived its lifetime of {lifetime:?}");
        }
        Ok(version)
    }

    async fn write(&mut self, place: &Place<'_>, count: usize) {
        let (number, space, _) = place;
        let promises = self.shared.judge.promises.clone();
        let keys = self.own_keys(*number, count);
        let backend = self.writer(place, &keys);
        let names = self.names(&keys);
        let written = names.iter().map(|name| {
            let version = space.version();
            (version, value(name, version, promises.largest))
        });
        let written: Vec<(u64, CachedValue<Vec<u8>>)> = written.collect();
        let values = written.iter().map(|(_, value)| value.clone());
        let entries: Vec<(&str, _)> = names.iter().map(String::as_str).zip(values).collect();
        let set = async {
            vec![match <[_; 1]>::try_from(entries) {
                Ok([(name, value)]) => backend.set(name, value).await,
                Err(entries) => backend.set_multi(entries).await,
            }]
        };
        let (operation, answers) = self.call(space, "set", keys.len(), set).await;
        for ((key, name), (version, value)) in keys.into_iter().zip(&names).zip(written) {
            let ttl = value.ttl().or_default(promises.default_ttl);
            let span = ttl.map(|ttl| Span {
                sure: (operation.began + ttl).saturating_sub(ROUNDING),
                over: operation.ended + ttl + ROUNDING,
            });
            let operation = with(operation, Action::Set(version, span));
            self.written(key, name, operation, answers.as_deref());
        }
    }

    async fn delete(&mut self, place: &Place<'_>, count: usize) {
        let (number, space, _) = place;
        let keys = self.own_keys(*number, count);
        let backend = self.writer(place, &keys);
        let names = self.names(&keys);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let delete = async {
            vec![match names.as_slice() {
                [name] => backend.delete(name).await,
                names => backend.delete_multi(names).await,
            }]
        };
        let (operation, answers) = self.call(space, "delete", keys.len(), delete).await;
        for (key, name) in keys.into_iter().zip(names) {
            let operation = with(operation, Action::Delete);
            self.written(key, name, operation, answers.as_deref());
        }
    }

    /// Records a write, as given up unless it was certainly applied to this key.
    fn written(
        &self,
        key: Key,
        name: &str,
        mut operation: Operation,
        answer: Option<&[cache_core::Result<()>]>,
    ) {
        let is_applied = match answer {
            Some([Ok(())]) => true,
            Some([Err(error)]) if error.kind() == ErrorKind::Partial => {
                !error.keys().iter().any(|failed| failed == name)
            }
            _ => false,
        };
        operation.answered = operation.answered.filter(|_| is_applied);
        self.shared.judge.operation(key, operation);
    }
}

fn with(operation: Operation, action: Action) -> Operation {
    Operation {
        action,
        ..operation
    }
}

/// The key's name in the store. Some names challenge the protocol.
fn name(run: u64, key: Key) -> String {
    let Key {
        space,
        round,
        index,
    } = key;
    let name = format!("soak-{run:x}/{space}/{round}/{index}");
    match index % 16 {
        3 => format!("{name} with spaces"),
        5 => format!("{name}\r\nset injected 0 0 1\r\n"),
        7 => format!("{name}/żółć/日本"),
        9 => format!("{name}/{}", "long".repeat(40)),
        11 => format!("{name}\0\t\u{7f}"),
        _ => name,
    }
}

/// The value of a key at a version. Payload and lifetime are derived from both, so that a reader
/// can tell whether it found what was written.
fn value(name: &str, version: u64, largest: usize) -> CachedValue<Vec<u8>> {
    let mut hasher = DefaultHasher::new();
    (name, version).hash(&mut hasher);
    let mut rng = Rng::with_seed(hasher.finish());
    let ttl = match rng.u32(..100) {
        0..50 => Ttl::For(Duration::from_millis(rng.u64(1_000..5_000))),
        50..80 => Ttl::For(Duration::from_millis(rng.u64(5_000..60_000))),
        80..82 => Ttl::For(Duration::ZERO),
        _ => Ttl::Default,
    };
    let length = match rng.u32(..1000) {
        0..100 => 0,
        100..980 => rng.usize(..8_000),
        980..999 => rng.usize(..64_000),
        _ => largest - rng.usize(..100),
    };
    let mut payload = vec![0; length.min(largest)];
    rng.fill(&mut payload);
    CachedValue::new(payload)
        .with_cached_at(UNIX_EPOCH + Duration::from_micros(version))
        .with_ttl(ttl)
}

/// Runs the load in simulated time against backends with one bug each. The judge must find every
/// bug and report no false positives.
#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use cache_core::CacheBackend;
    use tokio::runtime::Builder;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::judge::{Linearizable, Promises, Tally};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Bug {
        None,
        /// Some reads return the previous value.
        StaleAnswer,
        /// A call that is dropped while waiting keeps its slot.
        LeakedSlot,
        /// Values expire half a second late.
        LateExpiry,
        /// Some calls wait forever.
        LostWakeUp,
        /// Multi reads return values for the wrong keys.
        MixedUp,
        /// Multi deletes delete only the first key.
        ForgottenDelete,
        /// Some writes are lost.
        LostValue,
        /// Some reads return a corrupted payload.
        Torn,
        /// A task outlives the backend.
        LeakedTask,
    }

    struct Entry {
        value: CachedValue<Vec<u8>>,
        deadline: Duration,
        before: Option<CachedValue<Vec<u8>>>,
    }

    /// Keeps values in memory, and limits concurrent calls like a connection pool.
    struct Planted {
        bug: Bug,
        entries: Mutex<HashMap<String, Entry>>,
        slots: Semaphore,
        calls: Mutex<u32>,
    }

    const DEFAULT_TTL: Duration = Duration::from_secs(5);

    impl Planted {
        /// Whether the bug shows in this call, which it does once every `every` calls.
        fn shows(&self, bug: Bug, every: u32) -> bool {
            let mut calls = self.calls.lock().unwrap();
            *calls += u32::from(self.bug == bug);
            self.bug == bug && calls.is_multiple_of(every)
        }

        /// Acquires a slot for the duration of a round trip.
        async fn round_trip(&self) {
            let slot = self.slots.acquire().await.unwrap();
            if self.bug == Bug::LeakedSlot {
                slot.forget();
                sleep(Duration::from_millis(1)).await;
                self.slots.add_permits(1);
            } else {
                sleep(Duration::from_millis(1)).await;
            }
            if self.shows(Bug::LostWakeUp, 500) {
                std::future::pending::<()>().await;
            }
        }

        fn read(&self, key: &str) -> Option<CachedValue<Vec<u8>>> {
            let entries = self.entries.lock().unwrap();
            let entry = entries.get(key)?;
            let late = u64::from(self.bug == Bug::LateExpiry) * 500;
            if entry.deadline + Duration::from_millis(late) <= now() {
                return None;
            }
            if self.shows(Bug::StaleAnswer, 50) {
                return entry.before.clone();
            }
            if self.shows(Bug::Torn, 50) {
                let mut payload = entry.value.payload().clone();
                *payload.first_mut()? ^= 1;
                return Some(entry.value.clone().map(|_| payload));
            }
            Some(entry.value.clone())
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
            let lifetime = value.ttl().or_default(DEFAULT_TTL).unwrap();
            let is_lost = self.shows(Bug::LostValue, 100);
            let mut entries = self.entries.lock().unwrap();
            let before = entries.remove(key).map(|entry| entry.value);
            if !is_lost {
                let deadline = now() + lifetime;
                let entry = Entry {
                    value,
                    deadline,
                    before,
                };
                entries.insert(key.to_owned(), entry);
            }
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
            if self.shows(Bug::MixedUp, 20) {
                found.reverse();
            }
            found.into_iter().map(Ok).collect()
        }

        async fn delete_multi(&self, keys: &[&str]) -> cache_core::Result<()> {
            self.round_trip().await;
            let forgets = self.bug == Bug::ForgottenDelete;
            let keys = keys.iter().take(if forgets { 1 } else { usize::MAX });
            let mut entries = self.entries.lock().unwrap();
            for key in keys {
                entries.remove(*key);
            }
            Ok(())
        }
    }

    async fn soak(bug: Bug) -> Tally {
        let promises = Promises {
            linearizable: Linearizable::Always,
            bound: Duration::from_secs(3),
            settle: Duration::ZERO,
            default_ttl: DEFAULT_TTL,
            largest: 10_000,
        };
        let judge = Arc::new(Judge::new(promises, None).unwrap());
        let backend = Arc::new(Planted {
            bug,
            entries: Mutex::default(),
            slots: Semaphore::new(8),
            calls: Mutex::new(0),
        });
        if bug == Bug::LeakedTask {
            tokio::spawn(std::future::pending::<()>());
        }
        let handles = (0..2).map(|_| DynBackend::new(Arc::clone(&backend)));
        let spaces = vec![Space::new(now, handles.collect())];
        let load = Load::start(&judge, spaces, None, (7, 32, 500.0));
        sleep(Duration::from_secs(20)).await;
        load.finish().await;
        judge.judge_rounds(true);
        judge.tally()
    }

    /// Runs the soak in a runtime with simulated time.
    fn tally(bug: Bug) -> Tally {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(soak(bug))
    }

    #[test]
    fn judge_finds_every_bug_and_nothing_else() {
        let sound = tally(Bug::None);
        assert!(sound.violations.is_empty(), "{:?}", sound.violations);
        assert_eq!(sound.calls.len(), 6, "{:?}", sound.calls);
        assert!(
            sound.judged > 1000 && sound.hits > 100 && sound.misses > 100,
            "{sound:?}"
        );
        assert!(sound.dropped > 10, "{sound:?}");
        for (bug, rule) in [
            (Bug::StaleAnswer, "history"),
            (Bug::LeakedSlot, "bound"),
            (Bug::LateExpiry, "history"),
            (Bug::LostWakeUp, "bound"),
            (Bug::MixedUp, "foreign"),
            (Bug::ForgottenDelete, "history"),
            (Bug::LostValue, "history"),
            (Bug::Torn, "foreign"),
            (Bug::LeakedTask, "leak"),
        ] {
            let found = tally(bug).violations;
            assert!(
                found.contains_key(rule),
                "{bug:?} breaks `{rule}`: {found:?}"
            );
        }
    }
}
