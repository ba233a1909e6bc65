//! [`Pools`]: the connections to one server, separate for each Tokio runtime, which needs the drivers
//! that connections use.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use tokio::runtime::{Handle, Id};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::NAME;
use crate::connection::{Connection, Failure, State};
use crate::protocol::Dialect;

/// How many connections are opened as soon as there is work for them.
const EAGER: usize = 2;

/// The same while values are large: a large value delays all responses after it.
const EAGER_FOR_LARGE: usize = 6;

/// Further connections are opened when each has this load.
const BUSY: usize = 256;

/// A connection with a smaller load is used before any other.
const FILLED: usize = 16;

/// The capacity of a connection, by weight.
const ROOM: usize = 1024;

/// The pools of one server.
///
/// Its locks are sharded, so that threads that only read do not contend for a lock's cache line.
pub(super) struct Pools {
    maxsize: usize,
    /// Connections are Tokio sockets, so a runtime needs I/O.
    needs_io: bool,
    of_runtimes: ShardedLock<Vec<Arc<Pool>>>,
}

/// The connections of one runtime. Calls in other runtimes do not use them, since they would be
/// blocked while this one is not driven.
pub(super) struct Pool {
    runtime: Id,
    maxsize: usize,
    /// The capacity of all connections. A request acquires its weight in permits, first come, first
    /// served; the connection returns them.
    pub(super) room: Arc<Semaphore>,
    connections: ShardedLock<Vec<Arc<Connection>>>,
    /// Each task of a connection has a receiver.
    tasks: watch::Sender<()>,
}

/// Which connection to use.
pub(super) enum Pick {
    Use {
        connection: Arc<Connection>,
        /// Another connection would help.
        and_grow: bool,
    },
    /// A new connection.
    Open,
}

impl Pools {
    pub(super) fn new(maxsize: usize, needs_io: bool) -> Self {
        Self {
            maxsize,
            needs_io,
            of_runtimes: ShardedLock::new(Vec::new()),
        }
    }

    /// Calls `act` with the pool of `runtime`, if there is one.
    pub(super) fn with<T>(
        &self,
        runtime: &Handle,
        act: impl FnOnce(&Arc<Pool>) -> Option<T>,
    ) -> Option<T> {
        let id = runtime.id();
        act(self.read().iter().find(|pool| pool.runtime == id)?)
    }

    /// The permits for a request of this weight, at most the total capacity.
    pub(super) fn clamp(&self, weight: usize) -> u32 {
        let most = self.maxsize.saturating_mul(ROOM);
        u32::try_from(weight.min(most)).unwrap_or(u32::MAX)
    }

    /// The pool of the caller's runtime.
    pub(super) fn of(&self, runtime: &Handle) -> Result<Arc<Pool>> {
        let id = runtime.id();
        if let Some(pool) = self.read().iter().find(|pool| pool.runtime == id) {
            return Ok(Arc::clone(pool));
        }
        check(self.needs_io)?;
        let mut pools = self
            .of_runtimes
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.iter().find(|pool| pool.runtime == id) {
            return Ok(Arc::clone(pool));
        }
        // Remove the pools of runtimes that have ended.
        pools.retain(|pool| Arc::strong_count(pool) > 1);
        let room = self
            .maxsize
            .saturating_mul(ROOM)
            .min(Semaphore::MAX_PERMITS);
        let pool = Arc::new(Pool {
            runtime: id,
            maxsize: self.maxsize,
            room: Arc::new(Semaphore::new(room)),
            connections: ShardedLock::new(Vec::new()),
            tasks: watch::Sender::new(()),
        });
        pools.push(Arc::clone(&pool));
        Ok(pool)
    }

    /// Whether a connection other than `silent` has received data since `since`.
    pub(super) fn has_heard_since(&self, silent: &Arc<Connection>, since: Instant) -> bool {
        let others = |connection: &Arc<Connection>| {
            !Arc::ptr_eq(connection, silent) && connection.has_heard_since(since)
        };
        let pools = self.read();
        pools.iter().any(|pool| pool.read().iter().any(others))
    }

    pub(super) fn close_all(&self, failure: &Failure) {
        for pool in self.read().iter() {
            let ended = std::mem::take(&mut *pool.write());
            for connection in ended {
                connection.close(failure.clone());
            }
        }
    }

    /// Fails the calls that wait for room.
    pub(super) fn retire(&self) {
        for pool in self.read().iter() {
            pool.room.close();
        }
    }

    /// The state and the load of each connection.
    pub(super) fn loads(&self) -> Vec<(State, usize)> {
        let mut loads = Vec::new();
        for pool in self.read().iter() {
            let connections = pool.read();
            loads.extend(connections.iter().map(|c| (c.state(), c.load())));
        }
        loads
    }

    fn read(&self) -> ShardedLockReadGuard<'_, Vec<Arc<Pool>>> {
        self.of_runtimes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// The first connection with a small load, so that writes are batched on few connections;
    /// otherwise the one with the smallest load.
    pub(super) fn pick(&self, has_large: bool) -> Pick {
        let mut best: Option<(&Arc<Connection>, usize)> = None;
        let mut connecting = None;
        let mut open = 0;
        // Responses after a large value wait for it.
        let filled = if has_large { 1 } else { FILLED };
        let connections = self.read();
        for connection in connections.iter() {
            match connection.state() {
                State::Closed => continue,
                State::Connecting => connecting = Some(connection),
                State::Ready => {
                    let load = connection.load();
                    if load < filled {
                        return Pick::Use {
                            connection: Arc::clone(connection),
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
        let may_grow = open < self.maxsize && connecting.is_none();
        let eager = if has_large { EAGER_FOR_LARGE } else { EAGER };
        match (best, connecting) {
            (Some((connection, load)), _) => Pick::Use {
                connection: Arc::clone(connection),
                and_grow: may_grow && (open < eager || load >= BUSY),
            },
            (None, Some(connection)) => Pick::Use {
                connection: Arc::clone(connection),
                and_grow: false,
            },
            (None, None) => Pick::Open,
        }
    }

    /// Adds a connection to be opened, unless another one is being opened or the pool is full.
    /// `is_first`: only if the pool is empty.
    pub(super) fn add(&self, dialect: Dialect, is_first: bool) -> Option<Arc<Connection>> {
        let mut connections = self.write();
        // `retire` closes it before `close_all` takes the connections.
        if self.room.is_closed() {
            return None;
        }
        connections.retain(|connection| connection.state() != State::Closed);
        let is_enough =
            |connection: &Arc<Connection>| is_first || connection.state() == State::Connecting;
        if connections.iter().any(is_enough) || connections.len() >= self.maxsize {
            return None;
        }
        let room = Arc::clone(&self.room);
        let connection = Arc::new(Connection::new(dialect, room));
        connections.push(Arc::clone(&connection));
        Some(connection)
    }

    /// To be held by the task of a connection.
    pub(super) fn task(&self) -> watch::Receiver<()> {
        self.tasks.subscribe()
    }

    /// Waits until the tasks of all connections have ended.
    pub(super) async fn tasks_ended(&self) {
        self.tasks.closed().await;
    }

    pub(super) fn remove(&self, connection: &Arc<Connection>) {
        self.write().retain(|other| !Arc::ptr_eq(other, connection));
    }

    /// Whether there is another ready connection.
    pub(super) fn has_ready_besides(&self, connection: &Arc<Connection>) -> bool {
        self.read()
            .iter()
            .any(|other| other.state() == State::Ready && !Arc::ptr_eq(other, connection))
    }

    fn read(&self) -> ShardedLockReadGuard<'_, Vec<Arc<Connection>>> {
        self.connections
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> ShardedLockWriteGuard<'_, Vec<Arc<Connection>>> {
        self.connections
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The runtime of the caller.
pub(crate) fn current_runtime() -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        let message = "the call was made outside a Tokio runtime; make it inside one, for \
                       example under #[tokio::main] or in Runtime::block_on";
        Error::new(ErrorKind::Backend, NAME, message).with_source(error)
    })
}

/// Refuses a runtime that was built without time or, if that is needed, without I/O. Called once
/// per runtime, within it.
///
/// Tokio reports this only by a panic, which is caught here, before it could end a task. The panic
/// hook still prints it, and with `panic = "abort"` the process aborts.
fn check(needs_io: bool) -> Result<()> {
    let touch = || {
        drop(tokio::time::sleep(Duration::ZERO));
        if needs_io {
            touch_io();
        }
    };
    catch_unwind(AssertUnwindSafe(touch)).map_err(|_| {
        let message = "the Tokio runtime has no I/O or timer driver; build it with \
                       Builder::enable_all()";
        Error::new(ErrorKind::Backend, NAME, message)
    })
}

#[cfg(unix)]
fn touch_io() {
    drop(tokio::net::UnixDatagram::unbound());
}

#[cfg(not(unix))]
fn touch_io() {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0));
    let socket = socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    if let Ok(socket) = socket {
        drop(tokio::net::UdpSocket::from_std(socket));
    }
}
