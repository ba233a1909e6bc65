//! One endpoint: its client, and whether it is fit for use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions, KvClient, LeaseClient};

use crate::failure::{Failure, Next};
use crate::settings::{Credentials, Tls};

/// How long an endpoint that broke or was silent is left alone.
const QUARANTINE: Duration = Duration::from_secs(5);

/// How long a probe waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for one that no connection can be made to: it costs next to nothing to ask.
const QUARANTINE_UNREACHABLE: Duration = Duration::from_millis(250);

/// The same for one without a leader: elections take about as long.
const QUARANTINE_NO_LEADER: Duration = Duration::from_secs(1);

/// How the clients connect. Pings run only while a request is open: etcd closes connections
/// whose idle pings come faster than it likes.
pub(crate) fn connect_options(serializable: bool, tls: Option<Tls>) -> ConnectOptions {
    const PING_AFTER: Duration = Duration::from_secs(10);
    const PONG_WITHIN: Duration = Duration::from_secs(5);
    let options = ConnectOptions::new()
        .with_keep_alive(PING_AFTER, PONG_WITHIN)
        .with_keep_alive_while_idle(false)
        // Tells at once that the quorum is lost, but would refuse serializable reads then.
        .with_require_leader(!serializable);
    #[cfg(feature = "tls")]
    if let Some(tls) = tls {
        return options.with_tls(tls);
    }
    #[cfg(not(feature = "tls"))]
    let _ = tls;
    options
}

/// A client. Clones of its parts share one connection.
pub(crate) struct Connected {
    /// Which of the endpoint's clients this is.
    generation: u64,
    pub(crate) kv: KvClient,
    pub(crate) lease: LeaseClient,
}

pub(crate) struct Endpoint {
    pub(crate) url: String,
    options: ConnectOptions,
    credentials: Option<Credentials>,
    client: RwLock<Option<Arc<Connected>>>,
    /// One call at a time connects.
    connecting: tokio::sync::Mutex<()>,
    last_connect_failure: Mutex<Option<Failure>>,
    connect_failures: AtomicU64,
    connects: AtomicU64,
    health: Mutex<Health>,
}

/// All default: fit for use.
#[derive(Default)]
struct Health {
    quarantine: Option<Quarantine>,
    /// One call tries an endpoint whose quarantine is over.
    probing: bool,
    /// It is etcd, and speaks TLS or does not, as configured.
    has_answered: bool,
}

/// What is known of an endpoint that failed and has not answered since.
#[derive(Clone)]
pub(crate) struct Quarantine {
    /// When the first of the requests that failed was sent.
    pub(crate) since: Instant,
    pub(crate) until: Instant,
    pub(crate) failure: Failure,
}

/// A permission to send a request to an endpoint. Dropped without a verdict (the call was
/// cancelled), it leaves the endpoint as it was.
pub(crate) struct Permit<'a> {
    pub(crate) endpoint: &'a Endpoint,
    is_probe: bool,
}

impl Endpoint {
    pub(crate) fn new(
        url: String,
        options: ConnectOptions,
        credentials: Option<Credentials>,
    ) -> Self {
        Self {
            url,
            options,
            credentials,
            client: RwLock::new(None),
            connecting: tokio::sync::Mutex::new(()),
            last_connect_failure: Mutex::new(None),
            connect_failures: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            health: Mutex::new(Health::default()),
        }
    }

    /// How many clients were made.
    pub(crate) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// The client, connecting if there is none. Calls that wait for one that connects share
    /// its failure: a wrong password is asked about once, not once a call.
    pub(crate) async fn client(&self) -> Result<Arc<Connected>, Failure> {
        match self.connected() {
            Some(client) => Ok(client),
            // Rare, and too large to lie in the future of every call.
            None => Box::pin(self.connect_in_turn()).await,
        }
    }

    async fn connect_in_turn(&self) -> Result<Arc<Connected>, Failure> {
        let failures = self.connect_failures.load(Ordering::Acquire);
        let _turn = self.connecting.lock().await;
        if let Some(client) = self.connected() {
            return Ok(client);
        }
        if self.connect_failures.load(Ordering::Acquire) != failures {
            let failure = lock(&self.last_connect_failure).clone();
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        match self.connect().await {
            Ok(client) => {
                let generation = self.connects.fetch_add(1, Ordering::Relaxed) + 1;
                let connected = Arc::new(Connected {
                    generation,
                    kv: client.kv_client(),
                    lease: client.lease_client(),
                });
                *write(&self.client) = Some(Arc::clone(&connected));
                Ok(connected)
            }
            Err(error) => {
                let failure = Failure::of(&error);
                *lock(&self.last_connect_failure) = Some(failure.clone());
                self.connect_failures.fetch_add(1, Ordering::Release);
                Err(failure)
            }
        }
    }

    fn connected(&self) -> Option<Arc<Connected>> {
        let client = self.client.read();
        client.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a client. Without credentials this talks to nobody; with them it fetches a token.
    async fn connect(&self) -> Result<Client, etcd_client::Error> {
        let plain = || Some(self.options.clone());
        let Some(Credentials { username, password }) = &self.credentials else {
            return Client::connect([&self.url], plain()).await;
        };
        let options = self.options.clone().with_user(username, password);
        match Client::connect([&self.url], Some(options)).await {
            // As etcd's own clients do, so that authentication can be turned on under a
            // running service.
            Err(etcd_client::Error::GRpcStatus(status))
                if status.message().contains("authentication is not enabled") =>
            {
                Client::connect([&self.url], plain()).await
            }
            other => other,
        }
    }

    /// Lets go of a client that does not work any more, unless another call did before.
    fn disconnect(&self, used: &Connected) {
        let mut client = write(&self.client);
        if client.as_ref().map(|client| client.generation) == Some(used.generation) {
            *client = None;
        }
    }

    /// A failure in the light of what is known of the endpoint. One that has never answered may
    /// be something else than etcd, or TLS be missing; when a second connection to it broke there
    /// is no use in a third.
    pub(crate) fn judge(&self, failure: Failure, used: Option<&Connected>) -> Failure {
        let is_connected = matches!(failure.next, Next::Broken | Next::Silent);
        if !is_connected || lock(&self.health).has_answered {
            return failure;
        }
        let broken = match used {
            Some(used) => used.generation,
            None => self.connect_failures.load(Ordering::Acquire),
        };
        let mut next = failure.next;
        if next == Next::Broken && broken >= 2 {
            next = Next::Unreachable;
            if let Some(used) = used {
                self.disconnect(used);
            }
        }
        let is_set = if self.url.starts_with("https:") {
            "is set"
        } else {
            "is not set"
        };
        let message = failure.message;
        let asked = "is it etcd, and does it want TLS?";
        Failure::new(next, format!("{message}; {asked} `tls_enabled` {is_set}"))
    }

    /// A permit, if the endpoint is fit for use or due for a probe.
    pub(crate) fn permit(&self, now: Instant) -> Option<Permit<'_>> {
        let mut health = lock(&self.health);
        let is_probe = match &health.quarantine {
            None => false,
            Some(quarantine) if quarantine.until <= now && !health.probing => {
                health.probing = true;
                true
            }
            Some(_) => return None,
        };
        Some(Permit {
            endpoint: self,
            is_probe,
        })
    }

    /// A permit whatever the endpoint's health: there is no better one.
    pub(crate) fn permit_anyway(&self) -> Permit<'_> {
        Permit {
            endpoint: self,
            is_probe: false,
        }
    }

    /// What is wrong with the endpoint, if anything is.
    pub(crate) fn quarantine(&self) -> Option<Quarantine> {
        lock(&self.health).quarantine.clone()
    }
}

impl Permit<'_> {
    /// How long the request may take, where it usually may take `limit`.
    pub(crate) fn limit(&self, limit: Duration) -> Duration {
        if self.is_probe {
            limit.min(PROBE_TIMEOUT)
        } else {
            limit
        }
    }

    /// The endpoint answered.
    pub(crate) fn answered(self) {
        let mut health = lock(&self.endpoint.health);
        health.quarantine = None;
        health.has_answered = true;
    }

    /// The request that was sent at `sent` failed.
    pub(crate) fn failed(
        self,
        sent: Instant,
        used: Option<&Connected>,
        failure: &Failure,
        call_timeout: Duration,
    ) {
        let length = match failure.next {
            Next::Unreachable => QUARANTINE_UNREACHABLE,
            Next::NoLeader => QUARANTINE_NO_LEADER,
            // A call that waits less must not lose the endpoint for longer.
            Next::Broken | Next::Silent => QUARANTINE.min(call_timeout),
            Next::Authenticate => {
                if let Some(used) = used {
                    self.endpoint.disconnect(used);
                }
                return self.answered();
            }
            // Refused, but answered.
            _ => return self.answered(),
        };
        // The client is made anew: what it hangs on may be gone, its runtime included.
        if let (Some(used), Next::Broken | Next::Silent) = (used, failure.next) {
            self.endpoint.disconnect(used);
        }
        let mut health = lock(&self.endpoint.health);
        let since = match &health.quarantine {
            Some(quarantine) => quarantine.since.min(sent),
            None => sent,
        };
        health.quarantine = Some(Quarantine {
            since,
            until: Instant::now() + length,
            failure: failure.clone(),
        });
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            lock(&self.endpoint.health).probing = false;
        }
    }
}

/// What the locks guard is consistent at every point where a panic could strike.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
