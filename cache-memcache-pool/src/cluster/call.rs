//! [`Call`]: routing, retries and failover of one call, within its deadline and retry budget.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::{Cluster, Farm, Server};
use crate::NAME;
use crate::connection::{Exchange, Failure, Unanswered, Waiter};
use crate::later::later;
use crate::protocol::{Expected, Outgoing, Response};

/// How long a call waits before each retry that it makes because its connection ended: a server that
/// is killed may close some connections before it refuses new ones. The first retry is immediate,
/// since the server may only have closed an idle connection.
const PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(50),
];

/// The state of a call. Without failures it costs nothing.
pub(crate) struct Call<'a> {
    cluster: &'a Cluster,
    pub(crate) farm: &'a Farm,
    attempts: Attempts,
    /// A request that was written is not retried.
    is_once: bool,
    /// The last failure, for the error of the call.
    last: Option<Failure>,
    is_timeout: bool,
    /// The probes that this call started.
    probes: Vec<JoinHandle<()>>,
    has_waited: bool,
    /// The deadline for room on connections, once the call has to wait for it.
    room_by: Option<Instant>,
}

impl<'a> Call<'a> {
    /// A call to the current servers, `farm`.
    pub(crate) fn new(cluster: &'a Cluster, farm: &'a Farm) -> Self {
        Self {
            cluster,
            farm,
            attempts: Attempts::new(cluster.settings.timeouts.socket),
            is_once: false,
            last: None,
            is_timeout: false,
            probes: Vec::new(),
            has_waited: false,
            room_by: None,
        }
    }

    /// Continues after a first attempt with the server `index`, which failed.
    pub(super) fn first_failed(
        &mut self,
        index: usize,
        begun: Instant,
        unanswered: Unanswered,
    ) -> Result<()> {
        self.attempts.begin(begun);
        let Some(server) = self.farm.server(index) else {
            return Err(self.nobody());
        };
        self.settle(server, Err(unanswered)).map(drop)
    }

    /// The request is not idempotent: an attempt that may have reached the server is the last, and
    /// its error is a `Timeout` that says so.
    pub(crate) fn once(mut self) -> Self {
        self.is_once = true;
        self
    }

    /// Begins a round of attempts, to be made after the returned pause. An error if the retry budget
    /// is exhausted.
    pub(crate) fn begin_round(&mut self) -> Result<Duration> {
        let pause = self.attempts.begin_round();
        pause.ok_or_else(|| self.given_up())
    }

    /// The server for `key`.
    #[inline]
    pub(crate) fn choose(&mut self, key: &str) -> Option<usize> {
        let farm = self.farm;
        let probes = RefCell::new(Vec::new());
        let has_waited = self.has_waited;
        let is_up = |index: usize| {
            let Some(server) = farm.server(index) else {
                return false;
            };
            if !server.is_up() && !has_waited {
                probes.borrow_mut().extend(server.probe_if_due());
            }
            server.is_up()
        };
        let chosen = if self.cluster.settings.failover {
            farm.router.pick(key, &is_up)
        } else {
            farm.router
                .pick(key, &|_| true)
                .filter(|&first| is_up(first))
        };
        let mut probes = probes.into_inner();
        if !probes.is_empty() {
            self.probes.append(&mut probes);
        }
        chosen.filter(|&index| index < farm.len())
    }

    /// Waits for the probes that this call started, each within `socket_timeout` and all within
    /// the call's deadline. `false`: it started none, or has waited before.
    pub(crate) async fn probed(&mut self) -> bool {
        if self.probes.is_empty() || self.has_waited {
            return false;
        }
        self.has_waited = true;
        self.attempts.on_wait(Instant::now());
        let deadline = self.attempts.deadline();
        for probe in self.probes.drain(..) {
            // A probe that panicked has no outcome.
            let _ = match deadline {
                None => probe.await.is_ok(),
                Some(deadline) => timeout_at(deadline, probe).await.is_ok(),
            };
        }
        true
    }

    /// Sends a request and waits for its response. `None`: the attempt failed and may be retried.
    pub(super) async fn exchange<F>(
        &mut self,
        server: &Arc<Server>,
        exchange: &Exchange<F>,
    ) -> Result<Option<Response>>
    where
        F: Fn(&mut Outgoing) -> Result<Expected>,
    {
        match self.submit(server, exchange).await? {
            Some(waiter) => self.response(server, waiter).await,
            None => Ok(None),
        }
    }

    /// Queues a request. `None`: the attempt failed and may be retried.
    pub(crate) async fn submit<F>(
        &mut self,
        server: &Arc<Server>,
        exchange: &Exchange<F>,
    ) -> Result<Option<Waiter>>
    where
        F: Fn(&mut Outgoing) -> Result<Expected>,
    {
        let deadline = self.attempts.deadline();
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(self.out_of_time(server));
        }
        let mut room = None;
        let failure = loop {
            match server.try_submit(exchange, deadline, None, room) {
                Ok(Some(queued)) => {
                    self.attempts.begin(queued.begun);
                    return Ok(Some(queued.waiter));
                }
                Ok(None) => {}
                Err(failure) => break failure,
            }
            let waiting = server.wait_for_room(exchange.weight, &mut self.room_by);
            // Boxed, since it is rare and would enlarge the future of every call.
            match Box::pin(timeout_or_none(deadline, waiting)).await {
                Some(Ok(found)) => room = Some(found),
                Some(Err(failure)) => break failure,
                None => return Err(self.out_of_time(server)),
            }
        };
        self.meet(server, failure)?;
        Ok(None)
    }

    /// Waits for the response to a request that was queued.
    pub(crate) async fn response(
        &mut self,
        server: &Arc<Server>,
        waiter: Waiter,
    ) -> Result<Option<Response>> {
        let response = match self.attempts.deadline() {
            None => waiter.await,
            Some(deadline) => match Box::pin(timeout_at(deadline, waiter)).await {
                Ok(response) => response,
                Err(_) => {
                    let error = self.out_of_time(server);
                    return Err(if self.is_once { unknown(&error) } else { error });
                }
            },
        };
        self.settle(server, response)
    }

    /// The response, or `None` if the request should be retried.
    fn settle(
        &mut self,
        server: &Server,
        response: Result<Response, Unanswered>,
    ) -> Result<Option<Response>> {
        match response {
            Ok(response) => Ok(Some(response)),
            Err(Unanswered { failure, was_sent }) if self.is_once && was_sent => {
                let error = match failure {
                    Failure::Final(error) | Failure::Down(error) => error,
                    Failure::Lost(reason) => server.error(ErrorKind::Timeout, &reason),
                    Failure::TooSlow => self.too_slow(server),
                };
                Err(unknown(&error))
            }
            Err(Unanswered { failure, .. }) => {
                self.meet(server, failure)?;
                Ok(None)
            }
        }
    }

    /// Records a failure. Returns an error if a retry would not help.
    fn meet(&mut self, server: &Server, failure: Failure) -> Result<()> {
        let setback = match &failure {
            Failure::Final(error) => return Err(error.clone()),
            Failure::TooSlow => return Err(self.too_slow(server)),
            Failure::Lost(_) => Setback::Lost,
            Failure::Down(reason) => {
                self.is_timeout |= reason.kind() == ErrorKind::Timeout;
                Setback::Down
            }
        };
        self.attempts.on_setback(Instant::now(), setback);
        self.last = Some(failure);
        Ok(())
    }

    /// Counts keys that failed over from the server `from`.
    pub(crate) fn failed_over(&self, from: usize, keys: usize) {
        if let Some(server) = self.farm.server(from) {
            let keys = u64::try_from(keys).unwrap_or(u64::MAX);
            server.counters.failovers.fetch_add(keys, Ordering::Relaxed);
        }
    }

    /// The error of a call that `server` did not answer in time. The first attempt has twice the
    /// time after which a silent server is down; a later one may have less.
    fn too_slow(&mut self, server: &Server) -> Error {
        if self.last.is_none() {
            server.too_slow()
        } else {
            self.out_of_time(server)
        }
    }

    /// The error of a call whose deadline passed before `server` responded.
    fn out_of_time(&mut self, server: &Server) -> Error {
        self.is_timeout = true;
        match &self.last {
            Some(Failure::Down(reason)) => {
                let message = format!("{}; no time left for {}", reason.message(), server.name);
                Error::new(ErrorKind::Timeout, NAME, message)
            }
            _ => server.no_answer(""),
        }
    }

    /// The error of a call whose retry budget is exhausted.
    fn given_up(&self) -> Error {
        let reason = match &self.last {
            Some(Failure::Lost(reason)) => reason,
            _ => "unknown reason",
        };
        let lost = self.attempts.lost();
        let message = format!("the connection was lost {lost} times: {reason}");
        Error::new(ErrorKind::Unavailable, NAME, message)
    }

    /// The error of a call without an available server.
    pub(crate) fn nobody(&self) -> Error {
        if self.farm.is_closed() {
            let message = "the backend was closed";
            return Error::new(ErrorKind::Unavailable, NAME, message);
        }
        let troubles = self.farm.servers().filter_map(|server| server.trouble());
        let down: Vec<String> = troubles
            .map(|(reason, left)| {
                let next = match left {
                    Duration::ZERO => "now".to_owned(),
                    left => format!("in {:.1} s", left.as_secs_f64()),
                };
                format!("{} (next attempt {next})", reason.message())
            })
            .collect();
        let message = match down.as_slice() {
            [] => "the routing chose no server for this key".to_owned(),
            down => format!("no server for this key is up: {}", down.join("; ")),
        };
        // A request that was sent may have been applied.
        let kind = if self.is_timeout {
            ErrorKind::Timeout
        } else {
            ErrorKind::Unavailable
        };
        Error::new(kind, NAME, message)
    }
}

/// Returns the output of `work`, or `None` if the deadline passes first.
async fn timeout_or_none<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        None => Some(work.await),
        Some(deadline) => timeout_at(deadline, work).await.ok(),
    }
}

/// The error of a request that may not be done twice, and was sent.
fn unknown(error: &Error) -> Error {
    let message = format!(
        "{}; the server may have executed the command, so it was not retried: read the key to \
         find out",
        error.message()
    );
    let kind = match error.kind() {
        ErrorKind::Unavailable => ErrorKind::Timeout,
        kind => kind,
    };
    Error::new(kind, NAME, message)
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setback {
    /// Its connection ended, and the server is still in use.
    Lost,
    /// The server is down.
    Down,
}

/// The deadline and the retry budget of a call. A plain type that takes the time as an argument.
#[derive(Debug)]
struct Attempts {
    socket_timeout: Duration,
    begun: Option<Instant>,
    /// The deadline of the call, set after the first failure.
    deadline: Option<Instant>,
    lost: usize,
    has_lost: bool,
}

impl Attempts {
    fn new(socket_timeout: Duration) -> Self {
        Self {
            socket_timeout,
            begun: None,
            deadline: None,
            lost: 0,
            has_lost: false,
        }
    }

    /// Records when the first attempt began.
    fn begin(&mut self, at: Instant) {
        self.begun.get_or_insert(at);
    }

    /// Begins a round of concurrent attempts after the returned pause, at most an eighth of
    /// `socket_timeout`. `None`: the retry budget is exhausted.
    fn begin_round(&mut self) -> Option<Duration> {
        if !std::mem::take(&mut self.has_lost) {
            return Some(Duration::ZERO);
        }
        let pause = PAUSES.get(self.lost).copied();
        self.lost += 1;
        Some(pause?.min(self.socket_timeout / 8))
    }

    /// Records a failed attempt. All further ones share one `socket_timeout`, and the call as a
    /// whole may take two.
    fn on_setback(&mut self, now: Instant, setback: Setback) {
        if self.deadline.is_none() {
            let begun = self.begun.unwrap_or(now);
            let all = later(begun, self.socket_timeout.saturating_mul(2));
            let rest = later(now, self.socket_timeout);
            self.deadline = Some(all.min(rest));
        }
        self.has_lost |= setback == Setback::Lost;
    }

    /// The call waits for a probe from `now` on, which counts towards its deadline.
    fn on_wait(&mut self, now: Instant) {
        let all = later(now, self.socket_timeout.saturating_mul(2));
        self.deadline = Some(self.deadline.map_or(all, |deadline| deadline.min(all)));
    }

    /// The deadline of the call, set after the first failure.
    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How often a connection ended during the call.
    fn lost(&self) -> usize {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    #[test]
    fn all_attempts_together_take_at_most_twice_the_timeout() {
        let begun = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        assert_eq!(attempts.deadline(), None, "the connection limits the first");
        attempts.begin(begun);
        attempts.on_setback(begun + TIMEOUT, Setback::Down);
        assert_eq!(attempts.deadline(), Some(begun + TIMEOUT * 2));
        attempts.begin(begun + TIMEOUT);
        attempts.on_setback(begun + TIMEOUT * 3 / 2, Setback::Down);
        assert_eq!(attempts.deadline(), Some(begun + TIMEOUT * 2));
    }

    #[test]
    fn an_early_failure_leaves_one_more_timeout() {
        let begun = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        attempts.begin(begun);
        attempts.on_setback(begun + TIMEOUT / 10, Setback::Lost);
        assert_eq!(attempts.deadline(), Some(begun + TIMEOUT * 11 / 10));
    }

    #[test]
    fn time_spent_waiting_for_a_probe_counts() {
        let begun = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        attempts.on_wait(begun);
        assert_eq!(attempts.deadline(), Some(begun + TIMEOUT * 2));
        attempts.begin(begun + TIMEOUT);
        attempts.on_setback(begun + TIMEOUT, Setback::Lost);
        assert_eq!(attempts.deadline(), Some(begun + TIMEOUT * 2));
    }

    #[test]
    fn a_round_of_lost_connections_counts_once() {
        let now = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        assert_eq!(attempts.begin_round(), Some(Duration::ZERO));
        for pause in PAUSES {
            for _ in 0..10 {
                attempts.on_setback(now, Setback::Lost);
            }
            assert_eq!(attempts.begin_round(), Some(pause));
        }
        attempts.on_setback(now, Setback::Lost);
        assert_eq!(attempts.begin_round(), None);
        assert_eq!(attempts.lost(), PAUSES.len() + 1);
    }

    #[test]
    fn a_pause_leaves_time_for_the_retry() {
        let now = Instant::now();
        let timeout = Duration::from_millis(40);
        let mut attempts = Attempts::new(timeout);
        for _ in PAUSES {
            attempts.on_setback(now, Setback::Lost);
            let pause = attempts.begin_round().unwrap();
            assert!(pause <= timeout / 8, "{pause:?}");
        }
    }

    #[test]
    fn any_number_of_down_servers_may_be_skipped() {
        let now = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        for _ in 0..50 {
            assert_eq!(attempts.begin_round(), Some(Duration::ZERO));
            attempts.on_setback(now, Setback::Down);
        }
        assert_eq!(attempts.lost(), 0);
    }
}
