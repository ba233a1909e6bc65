//! A history: clients, servers and faults from one seed, and the invariants that must hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::{CacheBackend as _, CachedValue, Error, ErrorKind};
use cache_memcache_pool::{MemcachePoolBackend, Protocol};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::network::{Fault, Kind, Link, Timeline};
use crate::rng::Rng;
use crate::server::Farm;

const TIMEOUT: Duration = Duration::from_millis(500);
const DEAD_RETRY: Duration = Duration::from_secs(2);
const ROOM: Duration = Duration::from_millis(400);
const LENGTH: Duration = Duration::from_secs(6);

/// The parts of a history. Shrinking removes some of them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) servers: usize,
    pub(crate) processes: usize,
    pub(crate) tasks: usize,
    pub(crate) pool_maxsize: usize,
    pub(crate) is_classic: bool,
    pub(crate) flushes: bool,
    pub(crate) faults: Vec<Fault>,
    /// When all clients are paused, and for how long.
    pub(crate) pauses: Vec<(Duration, Duration)>,
    /// The percentage of calls that are dropped.
    pub(crate) given_up: u64,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let servers = match rng.below(10) {
            0..=2 => 1,
            3..=7 => rng.between(2, 5) as usize,
            _ => rng.between(6, 50) as usize,
        };
        let millis = |rng: &mut Rng, from, to| Duration::from_millis(rng.between(from, to));
        let mut faults = Vec::new();
        for _ in 0..rng.below(5) {
            let from = millis(&mut rng, 200, 3500);
            let (kind, length) = match rng.below(10) {
                0 | 1 => (Kind::Pause, millis(&mut rng, 10, 2000)),
                2 => (Kind::Partition, millis(&mut rng, 10, 2000)),
                3 | 4 => (Kind::Restart, millis(&mut rng, 1, 1500)),
                5 => (Kind::Reset, Duration::from_millis(1)),
                6 => (Kind::Garbage, millis(&mut rng, 10, 1000)),
                7 => (Kind::Foreign, millis(&mut rng, 10, 1000)),
                8 => (Kind::CloseEach, millis(&mut rng, 10, 1000)),
                _ if rng.percent(50) => (Kind::Drip, millis(&mut rng, 10, 1500)),
                _ => (Kind::SilentConnection, millis(&mut rng, 1500, 2500)),
            };
            faults.push(Fault {
                server: rng.below(servers as u64) as usize,
                kind,
                from,
                to: from + length,
            });
        }
        let pauses = match rng.percent(20) {
            true => vec![(millis(&mut rng, 500, 3000), millis(&mut rng, 100, 5000))],
            false => Vec::new(),
        };
        let tasks = match rng.below(20) {
            0 => rng.between(100, 300),
            _ => rng.between(1, 24),
        };
        let mut plan = Self {
            seed,
            servers,
            processes: 1 + usize::from(rng.percent(30)),
            tasks: tasks as usize,
            pool_maxsize: rng.between(1, 4) as usize,
            is_classic: rng.percent(15),
            flushes: rng.percent(30),
            faults,
            pauses,
            given_up: if rng.percent(50) { 20 } else { 0 },
        };
        // The classic protocol is that of old servers as well.
        if rng.percent(15) && !plan.is_classic {
            let from = millis(&mut rng, 200, 3500);
            plan.faults.push(Fault {
                server: rng.below(servers as u64) as usize,
                kind: Kind::Old,
                from,
                to: from + millis(&mut rng, 10, 1500),
            });
        }
        plan
    }

    /// Returns smaller plans.
    fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        for index in 0..self.faults.len() {
            let mut plan = self.clone();
            plan.faults.remove(index);
            smaller.push(plan);
        }
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            smaller.push(plan);
        };
        if !self.pauses.is_empty() {
            with(&|plan| plan.pauses.clear());
        }
        if self.processes > 1 {
            with(&|plan| plan.processes = 1);
        }
        if self.given_up > 0 {
            with(&|plan| plan.given_up = 0);
        }
        if self.tasks > 1 {
            with(&|plan| plan.tasks /= 2);
        }
        smaller
    }

    /// Runs the plan. Returns the events, one per line, or the failure.
    pub(crate) fn run(&self) -> Result<String, String> {
        let (plan, (ended, end)) = (self.clone(), mpsc::channel());
        let running = std::thread::spawn(move || ended.send(plan.run_here()));
        // A task that spins stops simulated time, so only real time can detect it. A history
        // takes well below a second.
        let patience = Duration::from_secs(crate::number("SIMULATION_PATIENCE", 300));
        match end.recv_timeout(patience) {
            Ok(ended) => ended,
            Err(mpsc::RecvTimeoutError::Timeout) => Err("a task spins".into()),
            Err(mpsc::RecvTimeoutError::Disconnected) => match running.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(_) => Err("the history was lost".into()),
            },
        }
    }

    fn run_here(&self) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let ended =
            runtime.block_on(async { timeout(Duration::from_secs(3600), history(self)).await });
        ended.unwrap_or_else(|_| Err("a call never ended".into()))
    }

    /// Returns a minimal failing plan and its failure.
    pub(crate) fn shrink(mut self, mut failure: String) -> (Self, String) {
        while let Some((plan, other)) = self
            .smaller()
            .into_iter()
            .find_map(|plan| Some((plan.clone(), plan.run().err()?)))
        {
            (self, failure) = (plan, other);
        }
        (self, failure)
    }

    pub(crate) fn links(&self, start: Instant, rng: &mut Rng) -> Vec<Link> {
        let link = |server: usize, rng: &mut Rng| {
            let own = self.faults.iter().filter(|fault| fault.server == server);
            Link {
                latency: Duration::from_micros(rng.between(50, 10_000)),
                per_kilobyte: Duration::from_micros(rng.between(1, 100)),
                think: Duration::ZERO,
                capacity: rng.between(4_000, 100_000) as usize,
                most: match rng.percent(20) {
                    true => rng.between(1, 50) as usize,
                    false => 64 * 1024,
                },
                timeline: Arc::new(Timeline::new(start, own.copied().collect())),
            }
        };
        (0..self.servers).map(|server| link(server, rng)).collect()
    }

    /// Whether the only fault is one silent server among several. Then a call has time to detect
    /// it and to fail over.
    fn is_one_server_silent(&self) -> bool {
        let [fault] = self.faults.as_slice() else {
            return false;
        };
        let is_silence = matches!(fault.kind, Kind::Pause | Kind::Partition);
        is_silence && self.servers > 1 && self.pauses.is_empty()
    }

    /// How much longer a call may take than without faults.
    fn allowance(&self) -> Duration {
        let paused: Duration = self.pauses.iter().map(|(_, length)| *length).sum();
        // Timers count whole milliseconds; slow links and large values need some time.
        paused + Duration::from_millis(60)
    }
}

/// The observations of the tasks.
#[derive(Default)]
struct Seen {
    trace: String,
    wrong: Option<String>,
    calls: u64,
    errors: BTreeMap<ErrorKind, u64>,
}

struct World {
    plan: Plan,
    start: Instant,
    seen: Mutex<Seen>,
    /// Whether a server has ever been down for a backend.
    has_failed_over: Mutex<bool>,
}

impl World {
    fn fail(&self, what: impl std::fmt::Display) {
        let mut seen = self.seen.lock().unwrap();
        let at = self.start.elapsed();
        seen.wrong.get_or_insert(format!("{at:?}: {what}"));
    }
}

async fn history(plan: &Plan) -> Result<String, String> {
    let mut rng = Rng::new(plan.seed);
    let start = Instant::now();
    let metrics = tokio::runtime::Handle::current().metrics();
    let farm = Farm::start(plan.links(start, &mut rng), &plan.faults, start, &mut rng);
    let before = metrics.num_alive_tasks();
    let world = Arc::new(World {
        plan: plan.clone(),
        start,
        seen: Mutex::default(),
        has_failed_over: Mutex::new(false),
    });
    let mut backends = Vec::new();
    let mut tasks = Vec::new();
    for process in 0..plan.processes {
        let backend = backend(&farm, &world, process as u64);
        for task in 0..plan.tasks {
            let client = Client {
                name: format!("{process}-{task}"),
                world: Arc::clone(&world),
                backend: backend.clone(),
                rng: rng.fork(),
                keys: BTreeMap::new(),
            };
            tasks.push(tokio::spawn(client.run(plan.tasks)));
        }
        backends.push(backend);
    }
    for &(at, length) in &plan.pauses {
        sleep_until(start + at).await;
        tokio::time::advance(length).await;
    }
    for task in tasks {
        task.await
            .map_err(|error| format!("a task failed: {error}"))?;
    }
    settle(plan, &world, &backends).await;
    // Nothing is left behind.
    for backend in backends {
        for server in &backend.stats().servers {
            if server.in_flight > 0 {
                world.fail(format!("something is still in flight: {server:?}"));
            }
            // A pause of this process must not count as a fault.
            if plan.faults.is_empty() && server.downs > 0 {
                world.fail(format!("a server that is well was left alone: {server:?}"));
            }
        }
        drop(backend);
    }
    sleep(Duration::from_secs(30)).await;
    for (index, server) in farm.0.iter().enumerate() {
        if let [misread, ..] = server.misread().as_slice() {
            world.fail(format!("an old server received a value: {misread:?}"));
        }
        if server.open() > 0 {
            world.fail(format!(
                "server {index} still has {} connections",
                server.open()
            ));
        }
    }
    if metrics.num_alive_tasks() > before {
        let left = metrics.num_alive_tasks() - before;
        world.fail(format!("{left} tasks are left"));
    }
    let mut seen = world.seen.lock().unwrap();
    for (index, server) in farm.0.iter().enumerate() {
        let (connects, commands) = (server.connects(), server.commands());
        writeln!(
            seen.trace,
            "server {index}: {connects} connects, {commands} commands"
        )
        .unwrap();
        // Back-off bounds the number of connections even to a server that always fails.
        let bound = 300 * plan.processes as u64;
        if connects > bound {
            seen.wrong
                .get_or_insert(format!("{connects} connections to server {index}"));
        }
    }
    match seen.wrong.take() {
        None => Ok(std::mem::take(&mut seen.trace)),
        Some(wrong) => Err(wrong),
    }
}

fn backend(farm: &Farm, world: &Arc<World>, process: u64) -> MemcachePoolBackend {
    let plan = &world.plan;
    let (net, start, there) = (farm.clone(), world.start, Arc::downgrade(world));
    MemcachePoolBackend::builder()
        .url(farm.urls())
        .pool_maxsize(plan.pool_maxsize)
        .socket_timeout(TIMEOUT)
        .dead_retry(DEAD_RETRY)
        .pool_connection_get_timeout(ROOM)
        .pool_unused_timeout(Duration::from_secs(3))
        .pool_flush_on_reconnect(plan.flushes)
        .protocol(match plan.is_classic {
            true => Protocol::Classic,
            false => Protocol::Meta,
        })
        .jitter_seed(plan.seed ^ process)
        .clock(move || now(start))
        .connect_with(move |address| net.clone().connect(address.to_owned()))
        .on_server_event(move |_| {
            if let Some(world) = there.upgrade() {
                *world.has_failed_over.lock().unwrap() = true;
            }
        })
        .build()
        .unwrap()
}

/// The time of day.
fn now(start: Instant) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000) + start.elapsed()
}

/// After the last fault every server is in use again within the longest wait.
async fn settle(plan: &Plan, world: &World, backends: &[MemcachePoolBackend]) {
    let faults = plan.faults.iter().map(|fault| fault.to).max();
    let pauses = plan.pauses.iter().map(|(at, length)| *at + *length).max();
    let last = faults.max(pauses).unwrap_or_default();
    sleep_until(world.start + last).await;
    for backend in backends {
        // A server is tried when a call needs it, so the time counts from here.
        let by = Instant::now() + DEAD_RETRY + TIMEOUT * 4;
        loop {
            let down = backend
                .stats()
                .servers
                .into_iter()
                .find(|s| s.down_for.is_some());
            let Some(down) = down else { break };
            if Instant::now() > by {
                world.fail(format!(
                    "a server that is well is still left alone: {down:?}"
                ));
                return;
            }
            for key in 0..200 {
                let _ = backend.get(&format!("any-{key}")).await;
            }
            sleep(Duration::from_millis(50)).await;
        }
        sleep(TIMEOUT * 4).await;
        for key in 0..20 {
            if let Err(error) = backend.get(&format!("any-{key}")).await {
                world.fail(format!("all is well, and a call fails: {error}"));
            }
        }
    }
}

/// What a client knows about one of its keys.
#[derive(Default)]
struct Known {
    /// The last write that was acknowledged; `None`: a delete, or none yet.
    acknowledged: Option<u64>,
    /// Writes that may have been applied, or may still be.
    open: Vec<Option<u64>>,
    /// A server has been down since the last write.
    is_doubtful: bool,
}

struct Client {
    name: String,
    world: Arc<World>,
    backend: MemcachePoolBackend,
    rng: Rng,
    keys: BTreeMap<String, Known>,
}

impl Client {
    async fn run(mut self, tasks: usize) {
        let keys = if tasks > 50 { 3 } else { 8 };
        for key in 0..keys {
            let odd = if self.world.plan.is_classic { "" } else { " " };
            let separator = if key % 4 == 3 { odd } else { "" };
            self.keys
                .insert(format!("{}{separator}-{key}", self.name), Known::default());
        }
        let think = if tasks > 50 { 400 } else { 60 };
        for turn in 1_u64.. {
            if self.world.start.elapsed() > LENGTH {
                return;
            }
            sleep(Duration::from_millis(self.rng.below(think))).await;
            if self.world.seen.lock().unwrap().wrong.is_some() {
                return;
            }
            self.turn(turn).await;
        }
    }

    async fn turn(&mut self, turn: u64) {
        let keys: Vec<String> = match self.rng.percent(30) {
            true => self.keys.keys().cloned().collect(),
            false => {
                let index = self.rng.below(self.keys.len() as u64) as usize;
                self.keys.keys().nth(index).cloned().into_iter().collect()
            }
        };
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let what = self.rng.below(10);
        let began = Instant::now();
        let patience = match self.rng.percent(self.world.plan.given_up) {
            true => Duration::from_micros(self.rng.below(60_000)),
            false => Duration::from_secs(600),
        };
        let backend = self.backend.clone();
        let is_multi = keys.len() > 1;
        match what {
            0..=4 => {
                let call = async {
                    match is_multi {
                        true => backend.get_multi(&names).await,
                        false => vec![backend.get(names[0]).await],
                    }
                };
                if let Ok(found) = timeout(patience, call).await {
                    self.took(
                        "get",
                        &keys,
                        began,
                        found.iter().find_map(|f| f.as_ref().err()),
                    );
                    for (key, found) in keys.iter().zip(found) {
                        if let Ok(found) = found {
                            self.read(key, found.as_ref());
                        }
                    }
                }
            }
            5..=8 => {
                let entries = names.iter().map(|key| (*key, self.value(key, turn)));
                let mut entries: Vec<_> = entries.collect();
                let call = async {
                    match is_multi {
                        true => backend.set_multi(entries).await,
                        false => {
                            let (key, value) = entries.remove(0);
                            backend.set(key, value).await
                        }
                    }
                };
                let outcome = timeout(patience, call).await.ok();
                self.wrote("set", &keys, Some(turn), began, outcome);
            }
            _ => {
                let call = async {
                    match is_multi {
                        true => backend.delete_multi(&names).await,
                        false => backend.delete(names[0]).await,
                    }
                };
                let outcome = timeout(patience, call).await.ok();
                self.wrote("delete", &keys, None, began, outcome);
            }
        }
    }

    fn value(&self, key: &str, turn: u64) -> CachedValue<Vec<u8>> {
        let value = CachedValue::new(payload(key, turn));
        value.with_cached_at(now(self.world.start))
    }

    /// Checks a call that completed.
    fn took(&self, what: &str, keys: &[String], began: Instant, error: Option<&Error>) {
        let took = began.elapsed();
        let shown = error.map(Error::kind);
        let mut seen = self.world.seen.lock().unwrap();
        seen.calls += 1;
        let n = keys.len();
        writeln!(seen.trace, "{} {what} {n}: {took:?} {shown:?}", self.name).unwrap();
        if let Some(kind) = shown {
            *seen.errors.entry(kind).or_default() += 1;
        }
        drop(seen);
        let bound = TIMEOUT * 2 + ROOM + self.world.plan.allowance();
        if took > bound {
            self.world
                .fail(format!("{what} of {keys:?} took {took:?}: {error:?}"));
        }
        let Some(error) = error else { return };
        if self.world.plan.faults.is_empty() && self.world.plan.pauses.is_empty() {
            // The pool may be at capacity, but nothing else may fail.
            if error.kind() != ErrorKind::PoolExhausted {
                self.world
                    .fail(format!("nothing is wrong, and {what} fails: {error}"));
            }
        }
        if self.world.plan.is_one_server_silent() && error.kind() == ErrorKind::Timeout {
            self.world.fail(format!(
                "{what} waits for a silent server to the end: {error}"
            ));
        }
        if !error.is_transient() {
            self.world.fail(format!("{what} fails: {error}"));
        }
    }

    fn wrote(
        &mut self,
        what: &str,
        keys: &[String],
        version: Option<u64>,
        began: Instant,
        outcome: Option<cache_core::Result<()>>,
    ) {
        if let Some(outcome) = &outcome {
            self.took(what, keys, began, outcome.as_ref().err());
        }
        let failed: Option<Vec<String>> = match outcome {
            None => Some(keys.to_vec()),
            Some(Ok(())) => None,
            Some(Err(error)) => Some(error.keys().to_vec()),
        };
        for key in keys {
            let Some(known) = self.keys.get_mut(key) else {
                continue;
            };
            if failed.as_ref().is_some_and(|failed| failed.contains(key)) {
                known.open.push(version);
            } else {
                known.acknowledged = version;
                known.is_doubtful = false;
            }
        }
    }

    /// A read returns the last write, or one that may have been applied.
    fn read(&mut self, key: &str, found: Option<&CachedValue<Vec<u8>>>) {
        let version = match found {
            None => None,
            Some(found) => match version_of(key, found.payload()) {
                Ok(version) => Some(version),
                Err(wrong) => return self.world.fail(wrong),
            },
        };
        let Some(known) = self.keys.get_mut(key) else {
            return;
        };
        let is_miss = version.is_none();
        // A cache may lose values, but must not return replaced ones, unless a server was down.
        known.is_doubtful |= *self.world.has_failed_over.lock().unwrap();
        if is_miss && (known.is_doubtful || !self.world.plan.faults.is_empty()) {
            return;
        }
        let is_right = version == known.acknowledged || known.open.contains(&version);
        if !is_right && !known.is_doubtful {
            let (wanted, open) = (known.acknowledged, known.open.clone());
            self.world.fail(format!(
                "{key} has version {version:?}, and {wanted:?} was acknowledged (open: {open:?})"
            ));
        }
    }
}

/// The payload names its key, and is too long to match by chance.
fn payload(key: &str, version: u64) -> Vec<u8> {
    let mut rng = Rng::new(version);
    let len = match rng.below(20) {
        0 => rng.between(20_000, 40_000),
        _ => rng.between(0, 300),
    };
    let mut payload = format!("{key}|{version}|").into_bytes();
    payload.resize(payload.len() + len as usize, b'a' + (version % 26) as u8);
    payload
}

fn version_of(key: &str, found: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(found);
    let mut words = text.split('|');
    if words.next() != Some(key) {
        let shown: String = text.chars().take(60).collect();
        return Err(format!("{key} has a foreign value: {shown}"));
    }
    let version = words.next().and_then(|version| version.parse().ok());
    match version {
        Some(version) if payload(key, version) == found => Ok(version),
        _ => Err(format!("{key} has a torn value of {} bytes", found.len())),
    }
}
