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

/// The capacity of a connection, by weight.
const ROOM: usize = 1024;

/// The pools of one server.
///
/// The lock is sharded, so that threads that only read do not contend for a lock's cache line.
pub(super) struct Pools {
    maxsize: usize,
    /// Connections are Tokio sockets, so a runtime needs I/O.
    needs_io: bool,
    members: ShardedLock<Vec<Members>>,
}

/// The connections of one runtime. Calls in other runtimes do not use them, since they would be
/// blocked while this one is not driven.
pub(super) struct Members {
    runtime: Id,
    maxsize: usize,
    pub(super) pool: Arc<Pool>,
    connections: Vec<Arc<Connection>>,
}

/// The connection to use.
pub(super) struct Pick<'m> {
    pub(super) connection: &'m Arc<Connection>,
    /// Another one would help.
    pub(super) and_grow: bool,
    /// No request is in flight on any connection.
    pub(super) is_alone: bool,
}

/// What the connections of one runtime share.
pub(super) struct Pool {
    /// The capacity of all connections. A request acquires its weight in permits, first come, first
    /// served; the connection returns them.
    pub(super) room: Arc<Semaphore>,
    /// Each task of a connection has a receiver.
    tasks: watch::Sender<()>,
}

impl Pools {
    pub(super) fn new(maxsize: usize, needs_io: bool) -> Self {
        Self {
            maxsize,
            needs_io,
            members: ShardedLock::new(Vec::new()),
        }
    }

    /// The members of all runtimes, to be searched by [`Members::of`].
    #[inline]
    pub(super) fn read(&self) -> ShardedLockReadGuard<'_, Vec<Members>> {
        self.members.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> ShardedLockWriteGuard<'_, Vec<Members>> {
        self.members.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The permits for a request of this weight, at most the total capacity.
    #[inline]
    pub(super) fn clamp(&self, weight: usize) -> u32 {
        let most = self.maxsize.saturating_mul(ROOM);
        u32::try_from(weight.min(most)).unwrap_or(u32::MAX)
    }

    /// The pool of the caller's runtime.
    pub(super) fn of(&self, runtime: &Handle) -> Result<Arc<Pool>> {
        if let Some(members) = Members::of(runtime, &self.read()) {
            return Ok(Arc::clone(&members.pool));
        }
        check(self.needs_io)?;
        let mut all = self.write();
        if let Some(members) = Members::of(runtime, &all) {
            return Ok(Arc::clone(&members.pool));
        }
        // Remove the pools of runtimes that have ended.
        all.retain(|members| Arc::strong_count(&members.pool) > 1);
        let room = self
            .maxsize
            .saturating_mul(ROOM)
            .min(Semaphore::MAX_PERMITS);
        let pool = Arc::new(Pool {
            room: Arc::new(Semaphore::new(room)),
            tasks: watch::Sender::new(()),
        });
        all.push(Members {
            runtime: runtime.id(),
            maxsize: self.maxsize,
            pool: Arc::clone(&pool),
            connections: Vec::new(),
        });
        Ok(pool)
    }

    /// Adds a connection to be opened, unless another one is being opened or the pool is full.
    /// `patience`: how long the first attempt of a call may take. `is_first`: only if the pool is
    /// empty.
    pub(super) fn add(
        &self,
        pool: &Arc<Pool>,
        dialect: Dialect,
        patience: Duration,
        is_first: bool,
    ) -> Option<Arc<Connection>> {
        let mut all = self.write();
        let members = all.iter_mut().find(|m| Arc::ptr_eq(&m.pool, pool))?;
        // `retire` closes it before `close_all` takes the connections.
        if pool.room.is_closed() {
            return None;
        }
        let connections = &mut members.connections;
        connections.retain(|connection| connection.state() != State::Closed);
        let is_enough =
            |connection: &Arc<Connection>| is_first || connection.state() == State::Connecting;
        if connections.iter().any(is_enough) || connections.len() >= members.maxsize {
            return None;
        }
        let room = Arc::clone(&pool.room);
        let connection = Arc::new(Connection::new(dialect, patience, room));
        connections.push(Arc::clone(&connection));
        Some(connection)
    }

    pub(super) fn remove(&self, connection: &Arc<Connection>) {
        for members in self.write().iter_mut() {
            let connections = &mut members.connections;
            connections.retain(|other| !Arc::ptr_eq(other, connection));
        }
    }

    /// Whether `pool` has another ready connection.
    pub(super) fn has_ready_besides(&self, pool: &Arc<Pool>, connection: &Arc<Connection>) -> bool {
        let is_other = |other: &Arc<Connection>| {
            other.state() == State::Ready && !Arc::ptr_eq(other, connection)
        };
        let all = self.read();
        let members = all.iter().find(|m| Arc::ptr_eq(&m.pool, pool));
        members.is_some_and(|members| members.connections.iter().any(is_other))
    }

    /// Whether a connection other than `silent` has received data since `since`.
    pub(super) fn has_heard_since(&self, silent: &Arc<Connection>, since: Instant) -> bool {
        let others = |connection: &Arc<Connection>| {
            !Arc::ptr_eq(connection, silent) && connection.has_heard_since(since)
        };
        let all = self.read();
        let mut connections = all.iter().flat_map(|members| &members.connections);
        connections.any(others)
    }

    pub(super) fn close_all(&self, failure: &Failure) {
        let mut ended = Vec::new();
        for members in self.write().iter_mut() {
            ended.append(&mut members.connections);
        }
        // Outside of the lock, since it wakes tasks.
        for connection in ended {
            connection.close(failure.clone());
        }
    }

    /// Fails the calls that wait for room. No connection is added afterwards.
    pub(super) fn retire(&self) {
        for members in self.read().iter() {
            members.pool.room.close();
        }
    }

    /// The state and the load of each connection.
    pub(super) fn loads(&self) -> Vec<(State, usize)> {
        let all = self.read();
        let connections = all.iter().flat_map(|members| &members.connections);
        connections.map(|c| (c.state(), c.load())).collect()
    }
}

impl Members {
    /// Those of `runtime`, if it has any.
    #[inline]
    pub(super) fn of<'m>(runtime: &Handle, all: &'m [Self]) -> Option<&'m Self> {
        let id = runtime.id();
        all.iter().find(|members| members.runtime == id)
    }

    /// The connection with the smallest load: while one waits for its responses, requests are
    /// written to the other. Those that only a burst needed are left idle, and close in time. `None`:
    /// a new one is needed.
    #[inline]
    pub(super) fn pick(&self, has_large: bool) -> Option<Pick<'_>> {
        let mut best: Option<(&Arc<Connection>, usize)> = None;
        let mut connecting = None;
        let eager = if has_large { EAGER_FOR_LARGE } else { EAGER };
        let mut open = 0;
        let mut total = 0;
        for connection in &self.connections {
            match connection.state() {
                State::Closed => continue,
                State::Connecting => connecting = Some(connection),
                State::Ready => {
                    let load = connection.load();
                    total += load;
                    let enough = if open < eager { 0 } else { BUSY };
                    if best.is_none_or(|(_, least)| load < least && enough <= least) {
                        best = Some((connection, load));
                    }
                }
            }
            open += 1;
        }
        let may_grow = open < self.maxsize && connecting.is_none();
        let (connection, and_grow) = match best {
            Some((connection, load)) => {
                let is_loaded = load >= if open < eager { 1 } else { BUSY };
                (connection, may_grow && is_loaded)
            }
            None => (connecting?, false),
        };
        Some(Pick {
            connection,
            and_grow,
            is_alone: total == 0,
        })
    }
}

impl Pool {
    /// To be held by the task of a connection.
    pub(super) fn task(&self) -> watch::Receiver<()> {
        self.tasks.subscribe()
    }

    /// Waits until the tasks of all connections have ended.
    pub(super) async fn tasks_ended(&self) {
        self.tasks.closed().await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Exchange, Waiter};
    use crate::protocol::{Command, Outgoing, encode_one};

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap()
    }

    /// The pools of a server that is used by one runtime.
    struct One {
        pools: Pools,
        pool: Arc<Pool>,
        runtime: tokio::runtime::Runtime,
    }

    impl One {
        fn new(maxsize: usize) -> Self {
            let (pools, runtime) = (Pools::new(maxsize, false), runtime());
            let within = runtime.enter();
            let pool = pools.of(runtime.handle()).unwrap();
            drop(within);
            Self {
                pools,
                pool,
                runtime,
            }
        }

        fn add(&self, is_first: bool) -> Option<Arc<Connection>> {
            let patience = Duration::from_secs(1);
            self.pools
                .add(&self.pool, Dialect::Meta, patience, is_first)
        }

        /// Adds a connection that is ready.
        fn ready(&self) -> Arc<Connection> {
            let connection = self.add(false).unwrap();
            connection.set_ready();
            connection
        }

        /// Which of the connections is picked, and whether another one would help.
        fn picked(&self, of: &[&Arc<Connection>], has_large: bool) -> Option<(usize, bool)> {
            let all = self.pools.read();
            let members = Members::of(self.runtime.handle(), &all).unwrap();
            let pick = members.pick(has_large)?;
            let position = of.iter().position(|c| Arc::ptr_eq(c, pick.connection));
            Some((position.unwrap(), pick.and_grow))
        }
    }

    /// Queues a request of this weight.
    fn load(connection: &Arc<Connection>, weight: usize) -> Waiter {
        let exchange = Exchange {
            encode: |out: &mut Outgoing| Ok(encode_one(&Command::Get("k"), out)),
            weight,
            has_mark: false,
        };
        let submitted = connection.submit(&exchange, weight, None, None, false);
        let submitted = submitted.unwrap().unwrap();
        Arc::clone(connection).start(submitted).waiter
    }

    #[test]
    fn no_connection_is_added_after_the_end() {
        let pool = One::new(2);
        assert!(pool.add(false).is_some());
        pool.pools.retire();
        pool.pools.close_all(&Failure::Lost("the end".into()));
        assert!(pool.add(false).is_none());
    }

    #[test]
    fn a_runtime_without_io_is_refused_if_connections_are_sockets() {
        let runtime = runtime();
        let _within = runtime.enter();
        assert!(Pools::new(1, false).of(runtime.handle()).is_ok());
        let refused = Pools::new(1, true).of(runtime.handle());
        let message = refused.err().unwrap().to_string();
        assert!(message.contains("Builder::enable_all()"), "{message}");
    }

    #[test]
    fn runtimes_have_separate_pools_until_they_end() {
        let pools = Pools::new(10, false);
        let (first, second) = (runtime(), runtime());
        let _within = first.enter();
        let pool = pools.of(first.handle()).unwrap();
        assert!(Arc::ptr_eq(&pool, &pools.of(first.handle()).unwrap()));
        let other = pools.of(second.handle()).unwrap();
        assert!(!Arc::ptr_eq(&pool, &other));
        assert_eq!(pools.read().len(), 2, "the first is in use");
        drop(pool);
        pools.of(runtime().handle()).unwrap();
        assert_eq!(pools.read().len(), 2, "the first is removed");
        assert!(Arc::ptr_eq(&other, &pools.of(second.handle()).unwrap()));
    }

    #[test]
    fn a_connection_does_not_vouch_for_itself() {
        let pool = One::new(10);
        let (a, b) = (pool.ready(), pool.ready());
        let before = a.begun();
        let heard = before + Duration::from_secs(1);
        a.set_heard(heard, Duration::ZERO);
        let vouched = |silent, since| pool.pools.has_heard_since(silent, since);
        assert!(vouched(&b, before));
        assert!(!vouched(&b, heard), "nothing came after that");
        assert!(!vouched(&a, before), "only itself has heard");
    }

    #[test]
    fn requests_go_to_the_least_loaded_connection() {
        let pool = One::new(10);
        assert!(pool.picked(&[], false).is_none());
        let a = pool.ready();
        assert_eq!(pool.picked(&[&a], false), Some((0, false)));
        let _some = load(&a, 16);
        assert_eq!(pool.picked(&[&a], false), Some((0, true)), "two are eager");
        let b = pool.ready();
        assert_eq!(pool.picked(&[&a, &b], false), Some((1, false)));
        let _more = load(&b, 17);
        assert_eq!(pool.picked(&[&a, &b], false), Some((0, false)));
        let _busy = [load(&a, BUSY), load(&b, BUSY - 17)];
        assert_eq!(
            pool.picked(&[&a, &b], false),
            Some((1, true)),
            "all are busy"
        );
        // Closed ones are not used.
        b.close(Failure::Lost("closed".into()));
        assert_eq!(pool.picked(&[&a, &b], false), Some((0, true)));
    }

    #[test]
    fn the_connections_of_a_burst_are_left_idle() {
        let pool = One::new(10);
        let [a, b, c] = std::array::from_fn(|_| pool.ready());
        let all = [&a, &b, &c];
        let _some = (load(&a, 2), load(&b, 1));
        assert_eq!(pool.picked(&all, false), Some((1, false)));
        let more = load(&b, BUSY);
        assert_eq!(pool.picked(&all, false), Some((0, false)));
        let _more = load(&a, BUSY);
        assert_eq!(pool.picked(&all, false), Some((2, false)));
        drop(more);
        assert_eq!(pool.picked(&all, false), Some((1, false)));
        // Large values delay what is behind them.
        assert_eq!(pool.picked(&all, true), Some((2, false)));
    }

    #[test]
    fn large_values_get_more_connections() {
        let pool = One::new(10);
        let mut all = Vec::new();
        let mut loads = Vec::new();
        for n in 1..=EAGER_FOR_LARGE {
            let connection = pool.ready();
            loads.push(load(&connection, 1));
            all.push(connection);
            let of: Vec<_> = all.iter().collect();
            let grows = n < EAGER_FOR_LARGE;
            assert_eq!(pool.picked(&of, true), Some((0, grows)), "{n}");
        }
    }

    #[test]
    fn one_connection_is_opened_at_a_time_up_to_the_maximum() {
        let pool = One::new(2);
        let a = pool.add(true).unwrap();
        assert!(pool.add(false).is_none(), "one is being opened");
        assert_eq!(
            pool.picked(&[&a], false),
            Some((0, false)),
            "calls wait for it"
        );
        a.set_ready();
        assert!(pool.add(true).is_none(), "it is not the first");
        let b = pool.add(false).unwrap();
        let _some = load(&a, 1);
        assert_eq!(pool.picked(&[&a, &b], false), Some((0, false)));
        b.set_ready();
        assert!(pool.add(false).is_none(), "there are two");
        let _filled = load(&b, BUSY);
        let _busy = load(&a, BUSY);
        assert_eq!(
            pool.picked(&[&a, &b], false),
            Some((1, false)),
            "there are two"
        );
        // A closed one makes room.
        a.close(Failure::Lost("closed".into()));
        assert!(pool.add(false).is_some());
        pool.pool.room.close();
        b.close(Failure::Lost("closed".into()));
        assert!(pool.add(false).is_none(), "the pool is closed");
    }

    #[test]
    fn a_removed_connection_is_gone_and_the_others_stay() {
        let pool = One::new(10);
        let (a, b) = (pool.ready(), pool.ready());
        let has_ready_besides = |one| pool.pools.has_ready_besides(&pool.pool, one);
        assert!(has_ready_besides(&a) && has_ready_besides(&b));
        pool.pools.remove(&a);
        assert!(has_ready_besides(&a) && !has_ready_besides(&b));
        let _some = load(&b, 1);
        assert_eq!(pool.picked(&[&b], false), Some((0, true)));
    }

    #[test]
    fn closing_waits_for_the_tasks_of_connections() {
        let pool = One::new(10);
        let task = pool.pool.task();
        let mut ended = Box::pin(pool.pool.tasks_ended());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(ended.as_mut().poll(&mut cx).is_pending());
        drop(task);
        assert!(ended.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_request_takes_at_most_the_whole_capacity() {
        let clamp = |maxsize, weight| Pools::new(maxsize, false).clamp(weight);
        assert_eq!(clamp(2, 5), 5);
        assert_eq!(clamp(2, usize::MAX), 2 * 1024);
        assert_eq!(clamp(usize::MAX, usize::MAX), u32::MAX);
    }
}
