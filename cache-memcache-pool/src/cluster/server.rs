//! [`Server`]: the connections to one server, and its health.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result, ServerEvent};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::TryAcquireError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::breaker::{Breaker, Fault, SETTLED, Verdict};
use super::mark::{Mark, encode_mark};
use super::pool::{Members, Pick, Pool, Pools, current_runtime};
use super::within::within;
use crate::NAME;
use crate::config::{Address, Settings};
use crate::connection::{
    ConnectError, Connection, Driver, End, Ended, Exchange, Failure, Gauges, Queued, State, Stream,
    cannot_connect, drive,
};
use crate::later::later;
use crate::protocol::{Expected, Outgoing, Reply, Violation};
use crate::stats::ServerStats;

pub(crate) struct Server {
    pub(crate) name: String,
    address: Address,
    settings: Arc<Settings>,
    /// A [`Status`]: all that most calls have to check.
    status: AtomicU8,
    health: Mutex<Health>,
    pools: Pools,
    gauges: Arc<Gauges>,
    pub(crate) counters: Counters,
    /// When it last went down, and when it last returned.
    pub(super) went: Mark,
    pub(super) returned: Mark,
}

/// The counters behind [`ServerStats`] that drivers do not maintain.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    timeouts: AtomicU64,
    downs: AtomicU64,
    pub(crate) failovers: AtomicU64,
    connects: AtomicU64,
    denied: AtomicU64,
}

struct Health {
    breaker: Breaker,
    /// Why the server is out of use.
    reason: Option<Error>,
    /// Whether further connections may be opened.
    growth: Breaker,
    /// Until when a [check](Server::check) is in flight, and when the last one succeeded.
    checking: Option<Instant>,
    checked: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Up,
    /// Out of use. Its keys may go to other servers.
    Down,
    /// It refuses the credentials: calls fail immediately, without failover.
    Denied,
    /// The backend was closed, or the server removed from it.
    Closed,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Server {
    pub(crate) fn new(address: Address, settings: Arc<Settings>) -> Self {
        /// The longest wait before another connection is added.
        const GROWTH: Duration = Duration::from_secs(5);
        let name = address.to_string();
        let now = Instant::now();
        let seed = settings.jitter(&name);
        Self {
            status: AtomicU8::new(Status::Up as u8),
            health: Mutex::new(Health {
                breaker: Breaker::new(now, settings.dead_retry, seed),
                reason: None,
                growth: Breaker::new(now, GROWTH.min(settings.dead_retry), !seed),
                checking: None,
                checked: None,
            }),
            pools: Pools::new(settings.pool_maxsize, settings.connector.is_none()),
            name,
            address,
            settings,
            gauges: Arc::new(Gauges::new(now)),
            counters: Counters::default(),
            went: Mark::default(),
            returned: Mark::default(),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            0 => Status::Up,
            1 => Status::Down,
            2 => Status::Denied,
            _ => Status::Closed,
        }
    }

    /// Adds the name of the server to a refusal.
    pub(crate) fn name_refuser(&self, reply: &mut Reply) {
        if let Reply::Failed(reason) = reply {
            *reason = format!("{} refused: {reason}", self.name);
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.status() != Status::Down
    }

    /// Starts a probe, if the server is down and this call claims the probe.
    pub(crate) fn probe_if_due(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        // A probe connects and asks, each within `socket_timeout`.
        let lease = self.settings.timeouts.socket.saturating_mul(3);
        if !self.health().breaker.is_open() {
            return None;
        }
        let runtime = current_runtime().ok()?;
        self.pools.of(&runtime).ok()?;
        if !self.health().breaker.claim_probe(Instant::now(), lease) {
            return None;
        }
        Some(runtime.spawn(Arc::clone(self).probe()))
    }

    /// Queues a request, whose response wakes `waker`. `None`: the pool has no room for it, and the
    /// caller has to [wait for some](Self::wait_for_room), which is `room` then. The first attempt
    /// of a call has no `deadline`.
    #[inline]
    pub(super) fn try_submit<F>(
        self: &Arc<Self>,
        exchange: &Exchange<F>,
        deadline: Option<Instant>,
        waker: Option<&Waker>,
        mut room: Option<Arc<Pool>>,
    ) -> Result<Option<Queued>, Failure>
    where
        F: Fn(&mut Outgoing) -> Result<Expected>,
    {
        let runtime = current_runtime().map_err(Failure::Final)?;
        let permits = self.pools.clamp(exchange.weight);
        let weight = permits as usize;
        let failure = loop {
            if let Some(failure) = self.refusal() {
                break failure;
            }
            let all = self.pools.read();
            let Some(members) = Members::of(&runtime, &all) else {
                return Ok(None);
            };
            if room.is_none() {
                match members.pool.room.try_acquire_many(permits) {
                    Ok(room) => room.forget(),
                    Err(_) => return Ok(None),
                }
            }
            match members.pick(self.gauges.has_large_lately()) {
                Some(Pick {
                    connection,
                    and_grow,
                    is_alone,
                }) => {
                    match connection.submit(exchange, weight, deadline, waker, is_alone) {
                        Ok(Some(submitted)) => {
                            let connection = Arc::clone(connection);
                            let grows = and_grow.then(|| Arc::clone(&members.pool));
                            drop(all);
                            if let Some(pool) = grows.filter(|_| self.may_grow()) {
                                let _ = self.open(&pool, &runtime, false);
                            }
                            return Ok(Some(connection.start(submitted)));
                        }
                        // It was closed meanwhile; the next iteration skips it.
                        Ok(None) => room = Some(Arc::clone(&members.pool)),
                        Err(error) => {
                            members.pool.room.add_permits(weight);
                            return Err(Failure::Final(error));
                        }
                    }
                }
                None => {
                    let pool = &*room.insert(Arc::clone(&members.pool));
                    drop(all);
                    // A runtime that was shut down drops the task immediately.
                    let opened = self.open(pool, &runtime, true);
                    if let Some(failure) = opened.and_then(|connection| connection.failure()) {
                        break failure;
                    }
                }
            }
        };
        if let Some(pool) = room {
            pool.room.add_permits(weight);
        }
        Err(failure)
    }

    /// Waits for room for a request of this weight. All requests of a call together wait no longer
    /// than `pool_connection_get_timeout`: until `room_by`, once one has waited.
    pub(super) async fn wait_for_room(
        &self,
        weight: usize,
        room_by: &mut Option<Instant>,
    ) -> Result<Arc<Pool>, Failure> {
        let runtime = current_runtime().map_err(Failure::Final)?;
        let permits = self.pools.clamp(weight);
        let pool = self.pools.of(&runtime).map_err(Failure::Final)?;
        match pool.room.try_acquire_many(permits) {
            Ok(room) => room.forget(),
            Err(TryAcquireError::Closed) => return Err(Failure::Final(self.closed())),
            Err(TryAcquireError::NoPermits) => {
                let patience = self.settings.pool_connection_get_timeout;
                let by = *room_by.get_or_insert_with(|| later(Instant::now(), patience));
                match timeout_at(by, pool.room.acquire_many(permits)).await {
                    Ok(Ok(room)) => room.forget(),
                    Ok(Err(_)) => return Err(Failure::Final(self.closed())),
                    Err(_) => return Err(Failure::Final(self.exhausted())),
                }
            }
        }
        Ok(pool)
    }

    /// Why calls cannot use this server, if they cannot.
    #[inline]
    fn refusal(self: &Arc<Self>) -> Option<Failure> {
        let status = self.status();
        if status == Status::Up {
            return None;
        }
        if status == Status::Denied {
            drop(self.probe_if_due());
        }
        Some(self.left_alone())
    }

    /// The failure of a call to a server that is not up.
    fn left_alone(&self) -> Failure {
        let status = self.status();
        if status == Status::Closed {
            return Failure::Final(self.closed());
        }
        let reason = self.health().reason.clone();
        let reason =
            reason.unwrap_or_else(|| self.error(ErrorKind::Unavailable, "the server is down"));
        if status == Status::Denied {
            return Failure::Final(reason);
        }
        Failure::Down(reason)
    }

    fn may_grow(&self) -> bool {
        let lease = self.settings.timeouts.socket.saturating_mul(2);
        let growth = &mut self.health().growth;
        !growth.is_open() || growth.claim_probe(Instant::now(), lease)
    }

    /// Opens a connection, unless another call just did. `is_first`: the pool is empty.
    fn open(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        runtime: &Handle,
        is_first: bool,
    ) -> Option<Arc<Connection>> {
        let connection = self.add_to(pool, is_first)?;
        self.spawn(pool, runtime, Arc::clone(&connection), None);
        Some(connection)
    }

    /// See [`Pools::add`].
    fn add_to(&self, pool: &Arc<Pool>, is_first: bool) -> Option<Arc<Connection>> {
        let patience = self.settings.timeouts.socket.saturating_mul(2);
        self.pools
            .add(pool, self.settings.dialect, patience, is_first)
    }

    /// Spawns the task of a connection, which opens it first unless there is a `stream`.
    fn spawn(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        runtime: &Handle,
        connection: Arc<Connection>,
        stream: Option<Stream>,
    ) {
        // Created here, so that waiting calls fail even if the runtime never polls the task.
        let driver = Driver::new(
            Arc::clone(&connection),
            Arc::clone(&self.gauges),
            self.settings.timeouts,
            self.settings.decoder(),
            runtime.runtime_flavor() == RuntimeFlavor::CurrentThread,
        );
        let (server, pool, task) = (Arc::clone(self), Arc::clone(pool), pool.task());
        runtime.spawn(async move {
            server.serve(pool, connection, driver, stream).await;
            drop(task);
        });
    }

    async fn serve(
        self: Arc<Self>,
        pool: Arc<Pool>,
        connection: Arc<Connection>,
        mut driver: Driver,
        stream: Option<Stream>,
    ) {
        driver.begin();
        let stream = match stream {
            Some(stream) => Ok(Ok(stream)),
            None => driver.until_closed(self.connect()).await,
        };
        let (first, failure) = match stream {
            Err(failure) => (None, failure),
            Ok(Err(failure)) => (None, self.on_not_connected(&pool, &connection, &failure)),
            Ok(Ok(stream)) => {
                self.on_connected();
                let ended;
                (driver, ended) = drive(driver, stream, || self.check()).await;
                self.on_ended(&pool, &connection, ended)
            }
        };
        self.pools.remove(&connection);
        driver.fail(first.as_ref(), &failure);
    }

    /// Opens a connection and presents the credentials, within `socket_timeout`.
    async fn connect(&self) -> Result<Stream, ConnectError> {
        let opened = Stream::open(&self.address, &self.settings, || {
            self.counters.connects.fetch_add(1, Ordering::Relaxed);
        });
        let opened = within(self.settings.timeouts.socket, opened).await;
        opened.unwrap_or(Err(ConnectError::Silent))
    }

    fn on_connected(&self) {
        self.health().growth.on_probe_answered(Instant::now());
    }

    /// Judges a connection that could not be opened. Returns the failure for the calls on it.
    fn on_not_connected(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        connection: &Arc<Connection>,
        why: &ConnectError,
    ) -> Failure {
        let reason = self.reason_of(why);
        if matches!(why, ConnectError::Denied(_)) {
            self.counters.denied.fetch_add(1, Ordering::Relaxed);
            return self.judge(connection, Fault::Denied, false, reason);
        }
        self.on_refused(
            pool,
            connection,
            matches!(why, ConnectError::Silent),
            reason,
        )
    }

    /// A connection was refused. If others work, this only limits their number.
    fn on_refused(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        connection: &Arc<Connection>,
        is_timeout: bool,
        reason: Error,
    ) -> Failure {
        if self.pools.has_ready_besides(pool, connection) {
            let now = Instant::now();
            let growth = &mut self.health().growth;
            if growth.on_fault(now, Fault::NotConnected, now, false) == Verdict::StillOpen {
                growth.on_probe_failed(now);
            }
            return Failure::Lost(reason.message().into());
        }
        self.count_timeout(is_timeout);
        self.judge(connection, Fault::NotConnected, false, reason)
    }

    /// Judges a connection that ended. Returns the failure for the first waiting call, if that is
    /// a separate one, and the failure for all others.
    fn on_ended(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        connection: &Arc<Connection>,
        ended: Ended,
    ) -> (Option<Failure>, Failure) {
        let has_answered = ended.has_answered;
        let doubt = if has_answered { "" } else { DOUBT };
        let (fault, reason) = match ended.why {
            End::Closed(failure) => return (None, failure),
            End::Unused => return (None, Failure::Lost("the idle connection was closed".into())),
            // A server may close idle connections, but not right after they were opened.
            End::Lost(reason) if !ended.was_in_use && connection.begun().elapsed() >= SETTLED => {
                return (None, Failure::Lost(reason.into()));
            }
            End::Lost(reason) => {
                let reason = if has_answered {
                    reason
                } else {
                    format!("{reason} before the first response{DOUBT}")
                };
                (Fault::Broken, self.error(ErrorKind::Unavailable, &reason))
            }
            End::Silent | End::Slow => {
                let reason = self.no_answer(doubt);
                let lately = Instant::now().checked_sub(self.settings.timeouts.socket / 2);
                let since = lately.unwrap_or(connection.begun());
                let others_answer = self.pools.has_heard_since(connection, since)
                    || self.health().checked.is_some_and(|at| at > since);
                self.count_timeout(true);
                (Fault::Silent { others_answer }, reason)
            }
            End::Violated(Violation::Full(reason)) => {
                let reason = self.error(ErrorKind::Unavailable, &reason);
                return (None, self.on_refused(pool, connection, false, reason));
            }
            End::Violated(Violation::Unauthenticated) => {
                self.counters.denied.fetch_add(1, Ordering::Relaxed);
                let reason =
                    "the server requires authentication; configure `username` and `password`";
                let reason = self.error(ErrorKind::PermissionDenied, reason);
                (Fault::Denied, reason)
            }
            End::Violated(Violation::Other(reason)) => {
                let told = format!("{reason}; the connection was closed");
                let first = Failure::Final(self.error(ErrorKind::Protocol, &told));
                let reason = self.error(ErrorKind::Unavailable, &reason);
                let failure = self.judge(connection, Fault::Broken, has_answered, reason);
                return (Some(first), failure);
            }
        };
        (None, self.judge(connection, fault, has_answered, reason))
    }

    /// Reports a fault to the breaker, and applies its verdict.
    fn judge(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        fault: Fault,
        has_answered: bool,
        reason: Error,
    ) -> Failure {
        let now = Instant::now();
        let mut health = self.health();
        let begun = connection.begun();
        let verdict = health.breaker.on_fault(now, fault, begun, has_answered);
        if verdict == Verdict::Connection {
            return Failure::Lost(reason.message().into());
        }
        let (status, failure) = if fault == Fault::Denied {
            (Status::Denied, Failure::Final(reason.clone()))
        } else {
            (Status::Down, Failure::Down(reason.clone()))
        };
        if verdict == Verdict::StillOpen {
            return failure;
        }
        health.reason = Some(reason.clone());
        let retry_in = health.breaker.left(now).unwrap_or_default();
        let exchanged = self.status.compare_exchange(
            Status::Up as u8,
            status as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        drop(health);
        if exchanged.is_ok() {
            self.went.raise(self.settings.now());
            let downs = u64::from(status == Status::Down);
            self.counters.downs.fetch_add(downs, Ordering::Relaxed);
            self.pools.close_all(&failure);
            self.tell(&ServerEvent::down(&self.name, reason, retry_in));
        }
        failure
    }

    /// Checks over another connection whether a server responds that was silent on one.
    /// [`on_ended`](Self::on_ended) uses the outcome.
    fn check(self: &Arc<Self>) {
        let patience = self.settings.timeouts.socket / 2;
        let now = Instant::now();
        let mut health = self.health();
        if health.checking.is_some_and(|until| until > now) {
            return;
        }
        health.checking = Some(later(now, patience));
        drop(health);
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let asked = timeout(patience, async {
                server.connect().await?.greet(server.settings.dialect).await
            });
            if matches!(asked.await, Ok(Ok(()))) {
                server.health().checked = Some(Instant::now());
            }
        });
    }

    /// Probes the server.
    async fn probe(self: Arc<Self>) {
        let answer = within(self.settings.timeouts.socket, self.ask_for_a_sign()).await;
        match answer.unwrap_or(Err(ConnectError::Silent)) {
            Ok(stream) => self.revive(stream),
            Err(why) => {
                let is_denied = matches!(why, ConnectError::Denied(_));
                self.counters
                    .denied
                    .fetch_add(u64::from(is_denied), Ordering::Relaxed);
                let mut health = self.health();
                // Another probe may have succeeded meanwhile.
                if !health.breaker.is_open() {
                    return;
                }
                health.reason = Some(self.reason_of(&why));
                health.breaker.on_probe_failed(Instant::now());
                let (from, to) = if is_denied {
                    (Status::Down, Status::Denied)
                } else {
                    (Status::Denied, Status::Down)
                };
                let (order, other) = (Ordering::AcqRel, Ordering::Acquire);
                let _ = self
                    .status
                    .compare_exchange(from as u8, to as u8, order, other);
            }
        }
    }

    /// Connects, and flushes or marks the server as configured, before any call uses it.
    async fn ask_for_a_sign(&self) -> Result<Stream, ConnectError> {
        let mut stream = self.connect().await?;
        stream.greet(self.settings.dialect).await?;
        if self.settings.flush_on_reconnect {
            let answer = stream.ask(b"flush_all\r\n").await?;
            if answer != "OK" {
                return Err(refused_to("be flushed", "pool_flush_on_reconnect", &answer));
            }
        }
        if self.settings.expire_on_reconnect {
            let returned = self.settings.now();
            let mark = encode_mark(returned, Outgoing::new(self.settings.dialect));
            let answer = stream.ask(&mark).await?;
            if !answer.starts_with("HD") && answer != "STORED" {
                let setting = "pool_expire_on_reconnect";
                return Err(refused_to("store the time of its return", setting, &answer));
            }
            self.returned.raise(returned);
        }
        Ok(stream)
    }

    fn revive(self: &Arc<Self>, stream: Stream) {
        let runtime = Handle::current();
        let Ok(pool) = self.pools.of(&runtime) else {
            return;
        };
        let now = Instant::now();
        let mut health = self.health();
        let Some(after) = health.breaker.on_probe_answered(now) else {
            return;
        };
        health.growth.on_probe_answered(now);
        health.reason = None;
        if self.status() == Status::Closed {
            return;
        }
        if let Some(connection) = self.add_to(&pool, false) {
            self.spawn(&pool, &runtime, connection, Some(stream));
        }
        self.status.store(Status::Up as u8, Ordering::Release);
        drop(health);
        self.tell(&ServerEvent::up(&self.name, after));
    }

    /// Calls the listener. Its panics are caught, so that they do not end the connection.
    fn tell(&self, event: &ServerEvent) {
        if let Some(on_event) = &self.settings.on_event {
            let _ = catch_unwind(AssertUnwindSafe(|| on_event(event)));
        }
    }

    /// Checks over a temporary connection whether the server responds.
    pub(crate) async fn ping(&self) -> Result<()> {
        self.pools.of(&current_runtime()?)?;
        if self.status() == Status::Closed {
            return Err(self.closed());
        }
        let answer = timeout(self.settings.timeouts.socket, async {
            self.connect().await?.greet(self.settings.dialect).await
        });
        let answer = answer.await.unwrap_or(Err(ConnectError::Silent));
        answer.map_err(|why| self.reason_of(&why))
    }

    /// Opens a connection, unless there is one, and waits until it is ready.
    pub(crate) async fn warm_up(self: &Arc<Self>) -> Result<()> {
        let runtime = current_runtime()?;
        let pool = self.pools.of(&runtime)?;
        let stream = self.connect().await.map_err(|why| self.reason_of(&why))?;
        if let Some(failure) = self.refusal() {
            return Err(match failure {
                Failure::Final(error) | Failure::Down(error) => error,
                Failure::Lost(reason) => self.error(ErrorKind::Unavailable, &reason),
                Failure::TooSlow => self.no_answer(""),
            });
        }
        if let Some(connection) = self.add_to(&pool, true) {
            self.spawn(&pool, &runtime, connection, Some(stream));
        }
        Ok(())
    }

    /// Refuses further calls, and ends all connections.
    pub(crate) fn shut_down(&self) {
        // Not while a probe brings it back, which would overwrite the status.
        let health = self.health();
        self.status.store(Status::Closed as u8, Ordering::Release);
        drop(health);
        self.pools.retire();
        self.pools.close_all(&Failure::Final(self.closed()));
    }

    /// Waits until the connections of this runtime, which were told to close, are closed.
    pub(super) async fn disconnected(&self) {
        let pool = Handle::try_current()
            .ok()
            .and_then(|runtime| Some(Arc::clone(&Members::of(&runtime, &self.pools.read())?.pool)));
        if let Some(pool) = pool {
            pool.tasks_ended().await;
        }
    }

    pub(crate) fn stats(&self) -> ServerStats {
        let loads = self.pools.loads();
        let ready = || loads.iter().filter(|(state, _)| *state == State::Ready);
        let health = self.health();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServerStats {
            address: self.name.clone(),
            down_for: health.breaker.left(Instant::now()),
            failure: health.reason.as_ref().map(|e| e.message().to_owned()),
            connections: ready().count(),
            idle: ready().filter(|&&(_, load)| load == 0).count(),
            in_flight: loads.iter().map(|&(_, load)| load).sum(),
            calls: read(&self.gauges.calls),
            hits: read(&self.gauges.hits),
            misses: read(&self.gauges.misses),
            timeouts: read(&self.counters.timeouts),
            downs: read(&self.counters.downs),
            failovers: read(&self.counters.failovers),
            connects: read(&self.counters.connects),
            denied: read(&self.counters.denied),
        }
    }

    /// Why the server is out of use, and how long until it is tried again.
    pub(crate) fn trouble(&self) -> Option<(Error, Duration)> {
        let health = self.health();
        let left = health.breaker.left(Instant::now())?;
        Some((health.reason.clone()?, left))
    }

    fn count_timeout(&self, is_timeout: bool) {
        let n = u64::from(is_timeout);
        self.counters.timeouts.fetch_add(n, Ordering::Relaxed);
    }

    fn reason_of(&self, why: &ConnectError) -> Error {
        match why {
            ConnectError::Io(error) => {
                let is_ended = error.kind() == std::io::ErrorKind::UnexpectedEof;
                let doubt = if is_ended { DOUBT } else { "" };
                let reason = format!("{}{doubt}", cannot_connect(error));
                self.error(ErrorKind::Unavailable, &reason)
            }
            ConnectError::Silent => self.no_answer(DOUBT),
            ConnectError::Denied(reason) => {
                let reason = format!("{reason}; check `username` and `password`");
                self.error(ErrorKind::PermissionDenied, &reason)
            }
        }
    }

    pub(crate) fn no_answer(&self, doubt: &str) -> Error {
        let patience = self.settings.timeouts.socket;
        let reason = format!("no response within {patience:?} (`socket_timeout`){doubt}");
        self.error(ErrorKind::Timeout, &reason)
    }

    /// The error of a call that timed out although the server responds.
    pub(super) fn too_slow(&self) -> Error {
        let patience = self.settings.timeouts.socket.saturating_mul(2);
        let reason = format!(
            "the server responds, but not to this request in time: at most {patience:?} (twice \
             `socket_timeout`)"
        );
        self.error(ErrorKind::Timeout, &reason)
    }

    pub(crate) fn error(&self, kind: ErrorKind, reason: &str) -> Error {
        Error::new(kind, NAME, format!("{}: {reason}", self.name))
    }

    fn closed(&self) -> Error {
        self.error(ErrorKind::Unavailable, "the backend was closed")
    }

    fn exhausted(&self) -> Error {
        let patience = self.settings.pool_connection_get_timeout;
        let reason = format!(
            "all {} connections were at capacity for {patience:?} \
             (`pool_connection_get_timeout`); raise `pool_maxsize` or send fewer requests at once",
            self.settings.pool_maxsize
        );
        self.error(ErrorKind::PoolExhausted, &reason)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a server that cannot be used again, since it does not do what a setting requires.
fn refused_to(act: &str, setting: &str, answer: &str) -> ConnectError {
    ConnectError::Io(std::io::Error::other(format!(
        "the server refused to {act} ({answer:?}), which `{setting}` requires; allow it, or turn \
         the setting off"
    )))
}

/// Advice about a server that has never responded.
const DOUBT: &str = if cfg!(feature = "tls") {
    "; is it memcached, does it use TLS as `tls_enabled` says, and does it require `tls_certfile`?"
} else {
    "; is it memcached? TLS requires the feature `tls`"
};
