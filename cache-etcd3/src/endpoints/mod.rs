//! [`Endpoints`]: sends a request and retries it, as [`Roster`] decides.

pub(crate) mod backoff;
mod breaker;
mod clusters;
mod detached;
mod endpoint;
mod pace;
mod response;
pub(crate) mod roster;

pub(crate) use breaker::Connection;
pub(crate) use endpoint::Connected;
pub(crate) use pace::Purpose;
pub(crate) use response::Response;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::GetOptions;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::Settings;
use crate::events::{Change, Events};
use crate::failure::{Failure, Fault, Next};
use crate::stats::{Counter, Counters, EndpointStats};
use crate::sync::lock;
use backoff::Backoff;
use clusters::ClusterId;
use endpoint::Endpoint;
use roster::{Choice, Roster};

/// How often a call authenticates again. A token may expire during the call, and users may change.
const MAX_AUTHENTICATIONS: u32 = 3;

/// The state of the endpoints, shared by all runtimes.
pub(crate) struct Health {
    roster: Mutex<Roster>,
    /// Notified when an endpoint is back or a probe has ended.
    heard: Notify,
    events: Events,
    connects: Vec<Arc<Counter>>,
}

impl Health {
    pub(crate) fn new(settings: &Settings, events: Events) -> Self {
        let urls = settings.endpoints.clone();
        let connects = urls.iter().map(|_| Arc::default()).collect();
        Self {
            roster: Mutex::new(Roster::new(urls, settings.call_timeout)),
            heard: Notify::new(),
            events,
            connects,
        }
    }

    pub(crate) fn stats(&self) -> Vec<EndpointStats> {
        let now = Instant::now();
        let roster = lock(&self.roster);
        let connects = self.connects.iter().enumerate();
        connects
            .map(|(at, connects)| {
                let open = roster.open(at);
                EndpointStats {
                    address: roster.url(at).to_owned(),
                    connects: connects.get(),
                    down_for: roster.probe_in(now, at),
                    failure: open.map(|open| open.message.clone()),
                }
            })
            .collect()
    }

    /// Applies an event to the roster, and reports a change to the listener.
    fn tell<T>(&self, at: usize, event: impl FnOnce(&mut Roster) -> (T, Option<Change>)) -> T {
        let (outcome, change, url) = {
            let mut roster = lock(&self.roster);
            let (outcome, change) = event(&mut roster);
            let url = change.as_ref().map(|_| roster.url(at).to_owned());
            (outcome, change, url)
        };
        if let (Some(change), Some(url)) = (change, url) {
            self.events.tell(url, change);
        }
        outcome
    }

    /// Records a response. Fails if it is from another cluster than the one that is used.
    fn answered(
        &self,
        at: usize,
        purpose: Purpose,
        sent: Instant,
        cluster: Option<ClusterId>,
    ) -> Result<(), Failure> {
        let (outcome, is_back) = self.tell(at, |roster| {
            let now = Instant::now();
            roster.ended(now, at, purpose, Some(now - sent));
            let (outcome, change) = roster.answered(now, at, cluster);
            let is_back = matches!(change, Some(Change::Up { .. }));
            ((outcome, is_back), change)
        });
        if is_back {
            self.heard.notify_waiters();
        }
        outcome
    }
}

/// The endpoints in one runtime.
pub(crate) struct Endpoints {
    health: Arc<Health>,
    clients: Vec<Endpoint>,
    counters: Arc<Counters>,
    runtime: Handle,
    /// Probes and other tasks that belong to no single call.
    background: Mutex<JoinSet<()>>,
    /// The key that probes read.
    probe_key: Vec<u8>,
    serializable: bool,
    call_timeout: Duration,
}

impl Endpoints {
    pub(crate) fn new(
        settings: &Settings,
        health: &Arc<Health>,
        counters: &Arc<Counters>,
        runtime: Handle,
    ) -> Self {
        let clients = settings.endpoints.iter().zip(&health.connects);
        let clients = clients.map(|(url, connects)| {
            Endpoint::new(
                url.clone(),
                settings.connect.clone(),
                settings.credentials.clone(),
                Arc::clone(connects),
            )
        });
        Self {
            clients: clients.collect(),
            health: Arc::clone(health),
            counters: Arc::clone(counters),
            runtime,
            background: Mutex::default(),
            probe_key: [settings.prefix.as_bytes(), b"probe"].concat(),
            serializable: settings.serializable,
            call_timeout: settings.call_timeout,
        }
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// Spawns a background task, which ends at the latest at
    /// [`end_background`](Self::end_background).
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut background = lock(&self.background);
        while background.try_join_next().is_some() {}
        background.spawn_on(work, &self.runtime);
    }

    /// Ends all background tasks: the backend was dropped.
    pub(crate) fn end_background(&self) {
        lock(&self.background).abort_all();
    }

    /// The failure of a call whose deadline passed before it was sent or answered.
    pub(crate) fn expired(&self, what: &str) -> Failure {
        let urls = lock(&self.health.roster).urls();
        let timeout = self.call_timeout;
        Failure::out_of_time(
            Next::Late,
            format!("{what} within {timeout:.1?} (`call_timeout`) by {urls}"),
        )
    }

    /// Sends a request until it succeeds, fails permanently, or `deadline` passes. The request
    /// must be idempotent. `request` builds it before each attempt, and returns `None` if no
    /// caller waits for it any longer.
    ///
    /// The failure names the endpoint of the last attempt.
    pub(crate) async fn call<T, F>(
        self: &Arc<Self>,
        purpose: Purpose,
        deadline: Instant,
        mut request: impl FnMut(Arc<Connected>) -> Option<F>,
    ) -> Result<T, Failure>
    where
        T: Response,
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut authentications = 0;
        let mut attempts = 0;
        let mut backoff: Option<Backoff> = None;
        let mut asked: Option<usize> = None;
        let mut last: Option<Failure> = None;
        loop {
            let at = self.choose(purpose, deadline, asked, last.as_ref()).await?;
            if let Some(previous) = asked {
                self.counters.retries.add(1);
                if previous != at {
                    self.counters.failovers.add(1);
                }
            }
            let attempt = self.attempt(at, purpose, attempts, deadline, &mut request);
            let failure = match attempt.await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let failure = self.at(at, &failure);
            match failure.next {
                Next::Nothing(_)
                | Next::Split(_)
                | Next::Full
                | Next::NewLease
                | Next::Mark
                | Next::Withdrawn => return Err(failure),
                Next::Authenticate => {
                    authentications += 1;
                    if authentications == MAX_AUTHENTICATIONS {
                        return Err(failure);
                    }
                }
                Next::Repeat | Next::Late | Next::Elsewhere(_) => {}
            }
            // Retries on the same endpoint, and those that the server asks for, wait first.
            let now = Instant::now();
            let waits = failure.next == Next::Repeat || asked == Some(at);
            let seed = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
            let pause_end = if waits {
                now + backoff.get_or_insert_with(|| Backoff::new(seed())).pause()
            } else {
                now
            };
            if pause_end >= deadline {
                return Err(self.out_of_time(&failure));
            }
            if waits {
                sleep_until(pause_end).await;
            }
            asked = Some(at);
            attempts += 1;
            last = Some(failure);
        }
    }

    /// The endpoint to use, waiting for one to become available if that may help.
    async fn choose(
        self: &Arc<Self>,
        purpose: Purpose,
        deadline: Instant,
        asked: Option<usize>,
        last: Option<&Failure>,
    ) -> Result<usize, Failure> {
        loop {
            let heard = self.health.heard.notified();
            let (probes, choice) = {
                let mut roster = lock(&self.health.roster);
                let now = Instant::now();
                (roster.begin_probes(now), roster.choose(now, purpose, asked))
            };
            for at in probes {
                self.spawn(Arc::clone(self).probe(at));
            }
            let until = match choice {
                Choice::Use(at) => return Ok(at),
                Choice::Refuse(failure) => return Err(failure),
                Choice::Wait(until) => until,
            };
            // A probe that has just begun may decide that this call fails.
            let _ = timeout_at(until.min(deadline), heard).await;
            if Instant::now() >= deadline {
                let urls = lock(&self.health.roster).urls();
                let none = Failure::new(Next::Late, format!("no endpoint was available: {urls}"));
                return Err(self.out_of_time(last.unwrap_or(&none)));
            }
        }
    }

    /// One request to one endpoint.
    async fn attempt<T, F>(
        &self,
        at: usize,
        purpose: Purpose,
        attempts: u32,
        deadline: Instant,
        request: &mut impl FnMut(Arc<Connected>) -> Option<F>,
    ) -> Result<T, Failure>
    where
        T: Response,
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let Some(endpoint) = self.clients.get(at) else {
            return Err(Failure::new(Next::Late, "the endpoint does not exist"));
        };
        let sent = Instant::now();
        let allowed = lock(&self.health.roster).begins(sent, at, purpose, attempts);
        let limit = deadline.min(sent + allowed);
        let mut open = Attempt {
            endpoints: self,
            endpoint,
            at,
            purpose,
            sent,
            requested: sent,
            used: None,
            answers: 0,
            is_open: true,
        };
        let client = match endpoint.connected() {
            Some(client) => client,
            None => match timeout_at(limit, endpoint.client(&self.runtime)).await {
                Ok(Ok(client)) => {
                    open.requested = Instant::now();
                    client
                }
                Ok(Err(failure)) => return Err(open.failed(failure)),
                Err(_) => return Err(open.late()),
            },
        };
        open.answers = client.answers();
        open.used = Some(Arc::clone(&client));
        let Some(request) = request(Arc::clone(&client)) else {
            open.withdrawn();
            let message = "the request was withdrawn: its callers are gone";
            return Err(Failure::new(Next::Withdrawn, message));
        };
        match timeout_at(limit, request).await {
            Ok(Ok(answer)) => open.answered(answer.cluster()).map(|()| answer),
            Ok(Err(error)) => Err(open.failed(Failure::of(&error))),
            Err(_) => Err(open.late()),
        }
    }

    /// Probes an endpoint that is out of use.
    async fn probe(self: Arc<Self>, at: usize) {
        let _probing = Probing {
            health: &self.health,
            at,
        };
        let limit = Instant::now() + lock(&self.health.roster).probe_limit();
        let request = |client: Arc<Connected>| {
            let mut kv = client.kv.clone();
            let key = self.probe_key.clone();
            let mut options = GetOptions::new().with_count_only();
            if self.serializable {
                options = options.with_serializable();
            }
            Some(async move { kv.get(key, Some(options)).await })
        };
        // The attempt records its outcome.
        let _ = self
            .attempt(at, Purpose::Read, u32::MAX, limit, &mut { request })
            .await;
    }

    /// Adds the endpoint to a failure.
    fn at(&self, at: usize, failure: &Failure) -> Failure {
        let roster = lock(&self.health.roster);
        Failure::new(
            failure.next,
            format!("{}: {}", roster.url(at), failure.message),
        )
    }

    fn out_of_time(&self, last: &Failure) -> Failure {
        let message = format!(
            "no success within {:.1?} (`call_timeout`): {}",
            self.call_timeout, last.message
        );
        Failure::out_of_time(last.next, message)
    }
}

/// A probe in flight.
struct Probing<'a> {
    health: &'a Health,
    at: usize,
}

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        lock(&self.health.roster).end_probe(self.at);
        self.health.heard.notify_waiters();
    }
}

/// An attempt in flight. Dropped without an outcome, it records that its caller gave up.
struct Attempt<'a> {
    endpoints: &'a Endpoints,
    endpoint: &'a Endpoint,
    at: usize,
    purpose: Purpose,
    sent: Instant,
    /// The same, but after connecting.
    requested: Instant,
    used: Option<Arc<Connected>>,
    /// How many responses its connection had received before.
    answers: u64,
    is_open: bool,
}

impl Attempt<'_> {
    fn connection(&self) -> Connection {
        let used = self.used.as_ref();
        used.map_or(Connection::Fresh, |used| used.proof())
    }

    /// Fails if the response is from another cluster than the one that is used.
    fn answered(mut self, cluster: Option<ClusterId>) -> Result<(), Failure> {
        self.is_open = false;
        if let Some(used) = &self.used {
            used.answered();
        }
        let (at, purpose, requested) = (self.at, self.purpose, self.requested);
        self.endpoints
            .health
            .answered(at, purpose, requested, cluster)
    }

    fn withdrawn(&mut self) {
        self.is_open = false;
        let (at, purpose) = (self.at, self.purpose);
        lock(&self.endpoints.health.roster).ended(self.sent, at, purpose, None);
    }

    fn failed(mut self, failure: Failure) -> Failure {
        self.is_open = false;
        let Next::Elsewhere(fault) = failure.next else {
            if failure.next == Next::Authenticate {
                self.disconnect();
            }
            return self.answered(None).err().unwrap_or(failure);
        };
        let connection = self.connection();
        if fault == Fault::Broken {
            // The client has to be replaced: its task may be gone.
            self.disconnect();
        }
        let (at, purpose, sent) = (self.at, self.purpose, self.sent);
        self.endpoints.health.tell(at, |roster| {
            let now = Instant::now();
            roster.ended(now, at, purpose, None);
            roster.failed(now, at, sent, connection, fault, failure.message)
        })
    }

    fn late(mut self) -> Failure {
        self.is_open = false;
        let connection = self.connection();
        let (at, purpose, sent) = (self.at, self.purpose, self.sent);
        let failure = self.endpoints.health.tell(at, |roster| {
            let now = Instant::now();
            roster.ended(now, at, purpose, None);
            roster.late(now, at, sent, connection)
        });
        self.disconnect_if_dead();
        failure
    }

    fn disconnect(&self) {
        if let Some(used) = &self.used {
            self.endpoint.disconnect(used);
        }
    }

    /// Drops a connection that has received nothing for [`breaker::FAIR`]: the endpoint may be
    /// well, but a firewall may have dropped the connection.
    fn disconnect_if_dead(&self) {
        let is_fair = self.sent.elapsed() >= breaker::FAIR;
        let is_down = || lock(&self.endpoints.health.roster).open(self.at).is_some();
        if let Some(used) = &self.used
            && used.answers() == self.answers
            && !used.is_young()
            && (is_fair || is_down())
        {
            self.endpoint.disconnect(used);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let connection = self.connection();
        let (at, purpose, sent) = (self.at, self.purpose, self.sent);
        self.endpoints.health.tell(at, |roster| {
            let now = Instant::now();
            roster.ended(now, at, purpose, None);
            ((), roster.given_up(now, at, sent, connection))
        });
        self.disconnect_if_dead();
    }
}
