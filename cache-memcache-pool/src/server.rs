//! One server: its connections, and its life and death.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use cache_core::{Error, ErrorKind, Result};
use tokio::runtime::{Handle, Id};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use crate::NAME;
use crate::address::Address;
use crate::answer::Expect;
use crate::command::Outgoing;
use crate::connection::{Connection, Exchange, Failure, State, Waiter};
use crate::driver::Driver;
use crate::health::{Admission, Death, Health};
use crate::settings::Settings;
use crate::stats::{Counters, ServerEvent, ServerStats, add, read};
use crate::stream::{ConnectError, Stream, cannot_connect, odd};

/// So many connections are opened as soon as there is work for them.
const EAGER: usize = 2;

/// And so many when values are large: one of them holds up all that stands behind it.
const EAGER_FOR_LARGE: usize = 6;

/// Further ones when each has so much to do.
const BUSY: usize = 256;

/// A connection with so much to do takes no more.
const FULL: usize = 1024;

/// How long after a connection could not be added the next attempt is made.
const GROW_AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct Server {
    pub(crate) name: String,
    address: Address,
    pub(crate) settings: Arc<Settings>,
    pub(crate) health: Health,
    pub(crate) counters: Counters,
    connections: RwLock<Vec<Arc<Connection>>>,
    has_large: AtomicBool,
    /// When a connection was last lost.
    lost: Mutex<Option<Instant>>,
    /// When a connection could last not be added to others.
    not_grown: Mutex<Option<Instant>>,
    /// Callers that wait for room on any connection.
    waiting: AtomicUsize,
    room: Notify,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What came of an attempt to queue an exchange.
enum Attempt {
    Queued(Waiter),
    /// Every connection has its fill.
    Full,
}

/// Which connection to use.
enum Pick<'a> {
    Use {
        connection: &'a Arc<Connection>,
        and_grow: bool,
    },
    /// A new one.
    Open,
    Full,
}

/// The time after `wait`; beyond the clock's range, a century.
pub(crate) fn after(wait: Duration) -> tokio::time::Instant {
    let now = tokio::time::Instant::now();
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    now.checked_add(wait).unwrap_or_else(|| now + century)
}

impl Server {
    pub(crate) fn new(address: Address, settings: Arc<Settings>) -> Self {
        Self {
            name: address.to_string(),
            address,
            settings,
            health: Health::new(),
            counters: Counters::default(),
            connections: RwLock::default(),
            has_large: AtomicBool::new(false),
            lost: Mutex::default(),
            not_grown: Mutex::default(),
            waiting: AtomicUsize::new(0),
            room: Notify::new(),
        }
    }

    /// Opens a connection; see [`Stream::open`].
    pub(crate) async fn open(&self) -> Result<Stream, ConnectError> {
        let stream = Stream::open(&self.address, &self.settings).await?;
        add(&self.counters.connects, 1);
        Ok(stream)
    }

    /// Queues an exchange on a connection. All exchanges of a call together wait for room no
    /// longer than `pool_connection_get_timeout`: until `room_by`, once one has waited.
    pub(crate) async fn submit<F>(
        self: &Arc<Self>,
        exchange: &Exchange<F>,
        room_by: &mut Option<tokio::time::Instant>,
    ) -> Result<Waiter>
    where
        F: Fn(&mut Outgoing) -> Result<Expect>,
    {
        if let Attempt::Queued(waiter) = self.try_submit(exchange)? {
            return Ok(waiter);
        }
        let patience = self.settings.pool_connection_get_timeout;
        let by = *room_by.get_or_insert_with(|| after(patience));
        let queued = timeout_at(by, self.submit_when_there_is_room(exchange)).await;
        queued.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::PoolExhausted,
                NAME,
                format!(
                    "each of the {} connections to {} had its fill for {patience:?}; raise \
                     pool_maxsize or send less",
                    self.settings.pool_maxsize, self.name
                ),
            ))
        })
    }

    async fn submit_when_there_is_room<F>(
        self: &Arc<Self>,
        exchange: &Exchange<F>,
    ) -> Result<Waiter>
    where
        F: Fn(&mut Outgoing) -> Result<Expect>,
    {
        let _waiting = Counted::new(&self.waiting);
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // From here on no notification is missed.
            room.as_mut().enable();
            if let Attempt::Queued(waiter) = self.try_submit(exchange)? {
                return Ok(waiter);
            }
            room.await;
        }
    }

    fn try_submit<F>(self: &Arc<Self>, exchange: &Exchange<F>) -> Result<Attempt>
    where
        F: Fn(&mut Outgoing) -> Result<Expect>,
    {
        let runtime = runtime()?;
        loop {
            let connections = self.read();
            match self.pick(&connections, runtime.id()) {
                Pick::Full => return Ok(Attempt::Full),
                Pick::Use {
                    connection,
                    and_grow,
                } => {
                    if let Some(waiter) = connection.submit(exchange)? {
                        drop(connections);
                        if and_grow {
                            self.grow(&runtime, State::Ready);
                        }
                        return Ok(Attempt::Queued(waiter));
                    }
                    // It was closed since; the next look passes over it.
                }
                Pick::Open => {
                    drop(connections);
                    if let Some((death, _)) = self.health.death() {
                        // It died since the caller chose it.
                        let (caller, waiter) = oneshot::channel();
                        let _ = caller.send(Err(Failure::Dead(death)));
                        return Ok(Attempt::Queued(waiter));
                    }
                    self.grow(&runtime, State::Closed);
                }
            }
        }
    }

    /// An idle connection if there is one, else the one with the least to do.
    fn pick<'a>(&self, connections: &'a [Arc<Connection>], runtime: Id) -> Pick<'a> {
        let mut best: Option<(&Arc<Connection>, usize)> = None;
        let mut connecting = None;
        let mut open = 0;
        for connection in connections {
            if connection.runtime() != runtime {
                continue;
            }
            match connection.state() {
                State::Closed => continue,
                State::Connecting => connecting = Some(connection),
                State::Ready => {
                    let load = connection.load();
                    if load == 0 {
                        return Pick::Use {
                            connection,
                            and_grow: false,
                        };
                    }
                    if best.is_none_or(|(_, least)| load < least) {
                        best = Some((connection, load));
                    }
                }
            }
            open += 1;
        }
        let may_grow = open < self.settings.pool_maxsize && connecting.is_none();
        let eager = if self.has_large.load(Ordering::Relaxed) {
            EAGER_FOR_LARGE
        } else {
            EAGER
        };
        let enough = |load: usize| open >= eager && load < BUSY;
        match (best, connecting) {
            (Some((connection, load)), _) if load < FULL => Pick::Use {
                connection,
                and_grow: may_grow && !enough(load) && self.may_grow_again(),
            },
            (_, Some(connection)) if connection.load() < FULL => Pick::Use {
                connection,
                and_grow: false,
            },
            (None, None) => Pick::Open,
            _ if may_grow && self.may_grow_again() => Pick::Open,
            _ => Pick::Full,
        }
    }

    fn may_grow_again(&self) -> bool {
        let failed = self.not_grown.lock();
        let failed = failed.unwrap_or_else(PoisonError::into_inner);
        failed.is_none_or(|failed| failed.elapsed() >= GROW_AGAIN)
    }

    /// Opens a connection in `runtime`, unless somebody else just did: one is connecting, or was picked
    /// because there was none in the state `unless`.
    fn grow(self: &Arc<Self>, runtime: &Handle, unless: State) {
        let mut connections = self.write();
        connections.retain(|connection| connection.state() != State::Closed);
        let own = || {
            let connections = connections.iter();
            connections.filter(|connection| connection.runtime() == runtime.id())
        };
        let is_connecting = own().any(|connection| connection.state() == State::Connecting);
        let is_found = unless == State::Closed && own().any(|connection| connection.load() < FULL);
        if is_connecting || is_found || own().count() >= self.settings.pool_maxsize {
            return;
        }
        let connection = Arc::new(Connection::new(runtime.id()));
        connections.push(Arc::clone(&connection));
        drop(connections);
        runtime.spawn(Driver::new(Arc::clone(self), connection).run(None));
    }

    /// For the driver: there is room for so much on a connection.
    pub(crate) fn has_room(&self, weight: usize) {
        for _ in 0..weight.min(self.waiting.load(Ordering::SeqCst)) {
            self.room.notify_one();
        }
    }

    /// For the driver: a large value has been read.
    pub(crate) fn has_large(&self) {
        self.has_large.store(true, Ordering::Relaxed);
    }

    /// For the driver: a connection is no more, and whoever waits for room looks again.
    pub(crate) fn has_changed(&self) {
        self.room.notify_waiters();
    }

    /// For the driver: a connection was lost. Whether none was since `created`.
    pub(crate) fn is_first_loss_since(&self, created: Instant) -> bool {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let before = lost.replace(Instant::now());
        before.is_none_or(|before| before > created)
    }

    /// For the driver: the connection is no more.
    pub(crate) fn remove(&self, connection: &Arc<Connection>) {
        self.write().retain(|other| !Arc::ptr_eq(other, connection));
    }

    /// For the driver: the server is found dead by this connection. All its connections end,
    /// and it is left alone for `dead_retry`.
    ///
    /// `false`: it is not. Either this connection is from a former life, or it is one more that
    /// was refused (`is_refused`) where others are well.
    pub(crate) fn die(
        &self,
        connection: &Arc<Connection>,
        death: &Arc<Death>,
        is_refused: bool,
    ) -> bool {
        let mut connections = self.write();
        if !connections
            .iter()
            .any(|other| Arc::ptr_eq(other, connection))
        {
            return false;
        }
        let is_well = |other: &Arc<Connection>| {
            // One that is driven elsewhere may not have noticed yet.
            other.runtime() == connection.runtime()
                && other.state() == State::Ready
                && !Arc::ptr_eq(other, connection)
        };
        if is_refused && connections.iter().any(is_well) {
            let failed = Some(Instant::now());
            *self
                .not_grown
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = failed;
            return false;
        }
        let ended = std::mem::take(&mut *connections);
        let was_up = self.health.die(Arc::clone(death), self.settings.dead_retry);
        drop(connections);
        add(&self.counters.timeouts, usize::from(death.is_timeout));
        for other in ended {
            other.close(Failure::Dead(Arc::clone(death)));
        }
        if was_up {
            add(&self.counters.deaths, 1);
            self.tell(&ServerEvent::Dead {
                server: self.name.clone(),
                reason: death.reason.clone(),
                retry_after: self.settings.dead_retry,
            });
        }
        true
    }

    /// Asks whether calls may go to this server. If it is dead and this call is the one to see
    /// whether it is back, that is under way.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<(), Option<JoinHandle<()>>> {
        // A probe connects and asks, each within `socket_timeout`.
        let lease = self.settings.socket_timeout.saturating_mul(3);
        match self.health.admit(lease) {
            Admission::Up => Ok(()),
            Admission::Dead => Err(None),
            Admission::Probe => Err(Handle::try_current()
                .ok()
                .map(|runtime| runtime.spawn(Arc::clone(self).probe()))),
        }
    }

    /// Looks whether the server is back.
    async fn probe(self: Arc<Self>) {
        let patience = self.settings.socket_timeout;
        let answer = timeout(patience, self.ask_for_a_sign()).await;
        let (reason, is_timeout) = match answer {
            Ok(Ok(stream)) => {
                self.revive(stream);
                return;
            }
            Ok(Err(ConnectError::Denied(reason))) => (reason, false),
            Ok(Err(ConnectError::Io(error))) => (cannot_connect(&error), false),
            Err(_) => (no_answer(patience), true),
        };
        let death = Arc::new(Death { reason, is_timeout });
        self.health.die(death, self.settings.dead_retry);
    }

    /// Connects, and flushes if that is wanted. Nobody else reaches the server before.
    async fn ask_for_a_sign(&self) -> Result<Stream, ConnectError> {
        let mut stream = self.open().await?;
        let (command, expected): (&[u8], _) = if self.settings.flush_on_reconnect {
            (b"flush_all\r\n", "OK")
        } else {
            (b"mn\r\n", "MN")
        };
        let answer = stream.ask(command).await?;
        if answer == expected {
            return Ok(stream);
        }
        Err(odd(&answer).into())
    }

    fn revive(self: &Arc<Self>, stream: Stream) {
        let connection = Arc::new(Connection::new(Handle::current().id()));
        connection.is_now_ready();
        self.write().push(Arc::clone(&connection));
        let driver = Driver::new(Arc::clone(self), connection);
        tokio::spawn(driver.run(Some(stream)));
        if self.health.revive() {
            self.tell(&ServerEvent::Back {
                server: self.name.clone(),
            });
        }
    }

    fn tell(&self, event: &ServerEvent) {
        if let Some(on_event) = &self.settings.on_event {
            on_event(event);
        }
    }

    /// Ends all connections.
    pub(crate) fn shut_down(&self) {
        let ended = std::mem::take(&mut *self.write());
        for connection in ended {
            connection.close(Failure::Lost("the backend was dropped".into()));
        }
    }

    pub(crate) fn stats(&self) -> ServerStats {
        let loads: Vec<usize> = self
            .read()
            .iter()
            .filter(|connection| connection.state() == State::Ready)
            .map(|connection| connection.load())
            .collect();
        let death = self.health.death();
        ServerStats {
            address: self.name.clone(),
            dead_for: death.as_ref().map(|(_, left)| *left),
            failure: death.map(|(death, _)| death.reason.clone()),
            connections: loads.len(),
            idle: loads.iter().filter(|&&load| load == 0).count(),
            in_flight: loads.iter().sum(),
            calls: read(&self.counters.calls),
            hits: read(&self.counters.hits),
            misses: read(&self.counters.misses),
            timeouts: read(&self.counters.timeouts),
            deaths: read(&self.counters.deaths),
            failovers: read(&self.counters.failovers),
            connects: read(&self.counters.connects),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<Connection>>> {
        self.connections
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<Connection>>> {
        self.connections
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said of a server that was silent for so long.
pub(crate) fn no_answer(patience: Duration) -> String {
    format!("no answer within {patience:?} (socket_timeout)")
}

/// The runtime of the caller.
fn runtime() -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        let message = "a call was made outside of a tokio runtime; make it in one, for example \
                       below #[tokio::main] or in Runtime::block_on";
        Error::new(ErrorKind::Backend, NAME, message).with_source(error)
    })
}

/// Counts as one for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
