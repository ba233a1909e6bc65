//! [`Endpoint`]: the client for one endpoint, created on demand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, KvClient, LeaseClient};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::breaker::Connection;
use super::detached::Detached;
use crate::config::Credentials;
use crate::failure::{Failure, Fault, Next};
use crate::stats::Counter;
use crate::sync::lock;
use crate::tasks::Task;

/// A client. Clones of its parts share one connection.
pub(crate) struct Connected {
    /// Which of the endpoint's clients this is.
    generation: u64,
    pub(crate) kv: KvClient,
    pub(crate) lease: LeaseClient,
    pub(crate) detached: Detached,
    made: Instant,
    /// How many responses it has received.
    answers: Arc<AtomicU64>,
}

impl Connected {
    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Whether it was created recently and has not responded: connecting may just take long.
    pub(crate) fn is_young(&self) -> bool {
        const YOUNG: Duration = Duration::from_secs(2);
        self.answers() == 0 && self.made.elapsed() < YOUNG
    }

    pub(crate) fn proof(&self) -> Connection {
        if self.answers() > 0 {
            Connection::Proven
        } else {
            Connection::Fresh
        }
    }
}

/// One endpoint in one runtime: a client does not outlive the runtime it was created in.
pub(crate) struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    url: String,
    options: ConnectOptions,
    credentials: Option<Credentials>,
    client: Mutex<Option<Arc<Connected>>>,
    /// Held by the call that connects.
    connecting: tokio::sync::Mutex<()>,
    last_failure: Mutex<Option<Failure>>,
    failures: AtomicU64,
    /// How many clients were created for it in all runtimes.
    connects: Arc<Counter>,
}

impl Endpoint {
    pub(crate) fn new(
        url: String,
        options: ConnectOptions,
        credentials: Option<Credentials>,
        connects: Arc<Counter>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                url,
                options,
                credentials,
                client: Mutex::new(None),
                connecting: tokio::sync::Mutex::new(()),
                last_failure: Mutex::new(None),
                failures: AtomicU64::new(0),
                connects,
            }),
        }
    }

    /// The client, if there is one.
    pub(crate) fn connected(&self) -> Option<Arc<Connected>> {
        self.inner.connected()
    }

    /// Returns the client, connecting if there is none. Calls that wait for another one that
    /// connects share its failure, so that a wrong password is sent once and not once per call.
    pub(crate) async fn client(&self, runtime: &Handle) -> Result<Arc<Connected>, Failure> {
        // In a task, so that it continues even if its caller is not polled.
        let inner = Arc::clone(&self.inner);
        let connect = Task::spawn(runtime, async move { inner.connect_in_turn().await });
        match connect.await {
            Some(connected) => connected,
            None => Err(Failure::new(
                Next::Elsewhere(Fault::Broken),
                "the runtime shut down during the call",
            )),
        }
    }

    /// Drops a client that no longer works, unless another call has replaced it.
    pub(crate) fn disconnect(&self, used: &Connected) {
        let mut client = lock(&self.inner.client);
        if client.as_ref().map(|client| client.generation) == Some(used.generation) {
            *client = None;
        }
    }
}

impl Inner {
    fn connected(&self) -> Option<Arc<Connected>> {
        lock(&self.client).clone()
    }

    async fn connect_in_turn(&self) -> Result<Arc<Connected>, Failure> {
        let failures = self.failures.load(Ordering::Acquire);
        let _turn = self.connecting.lock().await;
        if let Some(client) = self.connected() {
            return Ok(client);
        }
        if self.failures.load(Ordering::Acquire) != failures {
            let failure = lock(&self.last_failure).clone();
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        match self.connect().await {
            Ok(client) => {
                let answers = Arc::default();
                let connected = Arc::new(Connected {
                    generation: self.connects.add(1) + 1,
                    kv: client.kv_client(),
                    lease: client.lease_client(),
                    detached: Detached::new(Handle::current(), Arc::clone(&answers)),
                    made: Instant::now(),
                    answers,
                });
                *lock(&self.client) = Some(Arc::clone(&connected));
                Ok(connected)
            }
            Err(error) => {
                let failure = Failure::of(&error);
                *lock(&self.last_failure) = Some(failure.clone());
                self.failures.fetch_add(1, Ordering::Release);
                Err(failure)
            }
        }
    }

    /// Creates a client. Without credentials this sends nothing; with them it requests a token.
    async fn connect(&self) -> Result<Client, etcd_client::Error> {
        let plain = || Some(self.options.clone());
        let Some(Credentials { username, password }) = &self.credentials else {
            return Client::connect([&self.url], plain()).await;
        };
        let options = self.options.clone().with_user(username, password);
        match Client::connect([&self.url], Some(options)).await {
            // As etcd's own clients do, so that authentication can be enabled while a service
            // runs.
            Err(etcd_client::Error::GRpcStatus(status))
                if status.message().contains("authentication is not enabled") =>
            {
                Client::connect([&self.url], plain()).await
            }
            other => other,
        }
    }
}
