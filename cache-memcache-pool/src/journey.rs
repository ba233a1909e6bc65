//! One call's way from server to server, within its time.

use std::cell::RefCell;
use std::sync::Arc;

use cache_core::{Error, ErrorKind, Result};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::NAME;
use crate::answer::{Answer, Expect};
use crate::backend::Inner;
use crate::command::Outgoing;
use crate::connection::{Exchange, Failure, Waiter};
use crate::server::{Server, after, no_answer};
use crate::stats::add;

/// How often a call is repeated because its connection ended.
const REPEATS: u32 = 2;

/// What a call has met with. A call that meets with nothing costs nothing.
#[derive(Default)]
pub(crate) struct Journey {
    /// By when the call ends, once it has met with a failure: the first attempt is bounded by
    /// the connection, all others together by this.
    deadline: Option<Instant>,
    /// How often a connection ended under it. A round of exchanges counts once.
    lost: u32,
    has_lost: bool,
    /// The servers that failed in the last round, and for how many keys.
    left: Vec<(Arc<Server>, usize)>,
    /// What the call says if it fails in the end.
    last: Option<Failure>,
    is_timeout: bool,
    /// Looking whether servers are back, begun by this call.
    probes: Vec<JoinHandle<()>>,
    has_waited: bool,
    /// Until when the call waits for room on connections, once it has to.
    room_by: Option<Instant>,
}

impl Journey {
    /// Begins a round. An error when there have been enough.
    pub(crate) fn sets_out(&mut self) -> Result<()> {
        let Some((server, _)) = self.left.first() else {
            return Ok(());
        };
        if std::mem::take(&mut self.has_lost) {
            self.lost += 1;
            if self.lost > REPEATS {
                return Err(self.error(server));
            }
        }
        for (server, keys) in self.left.drain(..) {
            if !server.health.is_up() {
                add(&server.counters.failovers, keys);
            }
        }
        Ok(())
    }

    /// The server for `key`.
    pub(crate) fn choose<'a>(
        &mut self,
        inner: &'a Inner,
        key: &str,
    ) -> Option<(usize, &'a Arc<Server>)> {
        let probes = RefCell::new(Vec::new());
        let has_waited = self.has_waited;
        let is_up = |index: usize| {
            let Some(server) = inner.servers.get(index) else {
                return false;
            };
            if server.health.is_up() {
                return true;
            }
            if has_waited {
                return false;
            }
            match server.admit() {
                Ok(()) => true,
                Err(begun) => {
                    probes.borrow_mut().extend(begun);
                    false
                }
            }
        };
        let chosen = if inner.failover {
            inner.router.pick(key, &is_up)
        } else {
            inner
                .router
                .pick(key, &|_| true)
                .filter(|&first| is_up(first))
        };
        self.probes.append(&mut probes.into_inner());
        let index = chosen?;
        Some((index, inner.servers.get(index)?))
    }

    /// Waits until the servers that this call probes have shown whether they are back, each
    /// within `socket_timeout`. `false`: this call probes none, or has waited before.
    pub(crate) async fn probed(&mut self) -> bool {
        if self.probes.is_empty() || self.has_waited {
            return false;
        }
        self.has_waited = true;
        for probe in self.probes.drain(..) {
            // One that panicked has found nothing.
            let _ = probe.await;
        }
        true
    }

    /// Sends an exchange on its way.
    pub(crate) async fn submit<F>(
        &mut self,
        server: &Arc<Server>,
        exchange: &Exchange<F>,
    ) -> Result<Waiter>
    where
        F: Fn(&mut Outgoing) -> Result<Expect>,
    {
        match self.deadline {
            None => server.submit(exchange, &mut self.room_by).await,
            Some(deadline) => {
                let submitted = server.submit(exchange, &mut self.room_by);
                match timeout_at(deadline, submitted).await {
                    Ok(submitted) => submitted,
                    Err(_) => Err(self.error(server)),
                }
            }
        }
    }

    /// The answer, or `None` when the exchange is to be sent again.
    pub(crate) async fn answer(
        &mut self,
        server: &Arc<Server>,
        waiter: Waiter,
        keys: usize,
    ) -> Result<Option<Answer>> {
        let answer = match self.deadline {
            None => waiter.await,
            Some(deadline) => {
                if let Ok(answer) = timeout_at(deadline, waiter).await {
                    answer
                } else {
                    self.is_timeout = true;
                    return Err(self.error(server));
                }
            }
        };
        // The driver tells all before it ends, unless it is torn down.
        let gone = || Err(Failure::Lost("the connection ended".into()));
        match answer.unwrap_or_else(|_| gone()) {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) => {
                self.meet(server, failure, keys)?;
                Ok(None)
            }
        }
    }

    /// Notes a failure; an error when nobody else could do better.
    fn meet(&mut self, server: &Arc<Server>, failure: Failure, keys: usize) -> Result<()> {
        let patience = server.settings.socket_timeout;
        self.deadline.get_or_insert_with(|| after(patience));
        match &failure {
            Failure::Final(kind, message) => {
                return Err(Error::new(*kind, NAME, message.as_ref()));
            }
            Failure::Lost(_) => self.has_lost = true,
            Failure::Dead(death) => self.is_timeout |= death.is_timeout,
        }
        self.last = Some(failure);
        self.left.push((Arc::clone(server), keys));
        Ok(())
    }

    /// The error of a call that ends at `server`.
    fn error(&self, server: &Server) -> Error {
        let patience = server.settings.socket_timeout;
        let name = &server.name;
        match &self.last {
            _ if self.is_timeout => Error::new(
                ErrorKind::Timeout,
                NAME,
                format!("{name}: {}", no_answer(patience)),
            ),
            Some(Failure::Lost(reason)) => Error::new(
                ErrorKind::Unavailable,
                NAME,
                format!("connections were lost {} times: {reason}", self.lost),
            ),
            _ => Error::new(ErrorKind::Timeout, NAME, format!("no time left for {name}")),
        }
    }

    /// The error of a call for which there is no server.
    pub(crate) fn nobody(&self, inner: &Inner) -> Error {
        let dead: Vec<String> = inner
            .servers
            .iter()
            .filter_map(|server| {
                let (death, left) = server.health.death()?;
                let left = left.as_secs_f64();
                Some(format!(
                    "{}: {} (tried again in {left:.1} s)",
                    server.name, death.reason
                ))
            })
            .collect();
        let dead = match dead.as_slice() {
            [] => "the routing names no server for this key".to_owned(),
            dead => format!(
                "no server for this key is up: {}; dead_retry is how long a dead one is left alone",
                dead.join("; ")
            ),
        };
        // What this call has sent may have been applied.
        let kind = if self.is_timeout {
            ErrorKind::Timeout
        } else {
            ErrorKind::Unavailable
        };
        Error::new(kind, NAME, dead)
    }
}
