//! The connections to one server. Each runtime has its own.

use std::sync::{Arc, PoisonError};

use cache_core::Result;
use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use tokio::runtime::{Handle, Id};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::runtime;
use crate::connection::{Connection, Failure, State};
use crate::protocol::Dialect;

/// So many connections are opened as soon as there is work for them.
const EAGER: usize = 2;

/// And so many while values are large: one of them holds up all that follow it.
const EAGER_FOR_LARGE: usize = 6;

/// Further ones when each has so much to do.
const BUSY: usize = 256;

/// While a connection has less to do than this, by weight, no other one is used.
const FILLED: usize = 16;

/// How much there is room for on a connection, by weight.
const ROOM: usize = 1024;

/// The pools of one server.
///
/// Its locks are sharded: calls on several threads, which all but never change anything, do not
/// take the cache line of a lock from each other.
pub(super) struct Pools {
    maxsize: usize,
    /// Connections are sockets of tokio.
    needs_io: bool,
    of_runtimes: ShardedLock<Vec<Arc<Pool>>>,
}

/// The connections of one runtime. Callers in another do not use them: they would wait for as
/// long as this one is not run, which is not theirs to say.
pub(super) struct Pool {
    runtime: Id,
    maxsize: usize,
    /// Who wants to use a connection takes as much of it as the request weighs, first come, first
    /// served; the connection gives it back.
    pub(super) room: Arc<Semaphore>,
    connections: ShardedLock<Vec<Arc<Connection>>>,
}

/// Which connection to use.
pub(super) enum Pick {
    Use {
        connection: Arc<Connection>,
        /// One more would do good.
        and_grow: bool,
    },
    /// A new one.
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

    /// Does something with the pool of `runtime`, if there is one.
    pub(super) fn with<T>(
        &self,
        runtime: &Handle,
        act: impl FnOnce(&Arc<Pool>) -> Option<T>,
    ) -> Option<T> {
        let id = runtime.id();
        act(self.read().iter().find(|pool| pool.runtime == id)?)
    }

    /// The part of the room that a request of this weight takes: never more than there is.
    pub(super) fn clamp(&self, weight: usize) -> u32 {
        let most = self.maxsize.saturating_mul(ROOM);
        u32::try_from(weight.min(most)).unwrap_or(u32::MAX)
    }

    /// The pool of `runtime`, which is the caller's.
    pub(super) fn of(&self, runtime: &Handle) -> Result<Arc<Pool>> {
        let id = runtime.id();
        if let Some(pool) = self.read().iter().find(|pool| pool.runtime == id) {
            return Ok(Arc::clone(pool));
        }
        runtime::check(self.needs_io)?;
        let mut pools = self
            .of_runtimes
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.iter().find(|pool| pool.runtime == id) {
            return Ok(Arc::clone(pool));
        }
        // Those of runtimes that have ended.
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
        });
        pools.push(Arc::clone(&pool));
        Ok(pool)
    }

    /// Whether something came since `since` over a connection other than `silent`.
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

    /// Nobody waits for room any more.
    pub(super) fn retire(&self) {
        for pool in self.read().iter() {
            pool.room.close();
        }
    }

    /// The load of each connection that can be used.
    pub(super) fn loads(&self) -> Vec<usize> {
        let mut loads = Vec::new();
        for pool in self.read().iter() {
            let connections = pool.read();
            let ready = connections.iter().filter(|c| c.state() == State::Ready);
            loads.extend(ready.map(|connection| connection.load()));
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
    /// The first connection that has little to do, so that few write much at once, else the one
    /// with the least.
    pub(super) fn pick(&self, has_large: bool) -> Pick {
        let mut best: Option<(&Arc<Connection>, usize)> = None;
        let mut connecting = None;
        let mut open = 0;
        // Whatever follows a large value waits for it.
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

    /// Adds a connection that is being opened, unless there is one of those, or as many as there
    /// may be. `is_first`: or any at all.
    pub(super) fn add(&self, dialect: Dialect, is_first: bool) -> Option<Arc<Connection>> {
        let mut connections = self.write();
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

    pub(super) fn remove(&self, connection: &Arc<Connection>) {
        self.write().retain(|other| !Arc::ptr_eq(other, connection));
    }

    /// Whether there is another connection that can be used.
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
