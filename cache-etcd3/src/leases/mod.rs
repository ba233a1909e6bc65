//! [`Leases`]: grants and revokes leases as [`Book`] decides.

pub(crate) mod book;
mod class;

pub(crate) use book::LeaseId;
pub(crate) use class::TtlClass;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use etcd_client::{LeaseGrantResponse, LeaseRevokeResponse};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::endpoints::{Endpoints, Purpose};
use crate::failure::{Failure, Next};
use crate::sync::lock;
use book::{Boarding, Book, Grant};

/// The timeout of a revocation. If it fails, etcd expires the lease later.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

/// How often a write is retried with a new lease for one that the server lost.
pub(crate) const MAX_LOST: u32 = 3;

/// Shared leases.
pub(crate) struct Leases {
    book: Mutex<Book>,
    /// Notified when a grant has an outcome.
    granted: Notify,
    /// Whether the task that revokes is running. It ends with its runtime.
    revoking: AtomicBool,
}

impl Leases {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            book: Mutex::new(Book::new(seed)),
            granted: Notify::new(),
            revoking: AtomicBool::new(false),
        }
    }

    /// A lease for a key of this class, granted before `deadline` if necessary.
    pub(crate) async fn board(
        self: &Arc<Self>,
        endpoints: &Arc<Endpoints>,
        class: TtlClass,
        key: u64,
        deadline: Instant,
    ) -> Result<LeaseId, Failure> {
        let mut waited = None;
        loop {
            let granted = self.granted.notified();
            let now = Instant::now();
            let (boarding, grant) = {
                let mut book = lock(&self.book);
                // A call that waited for a grant receives its failure.
                if let Some(failure) = waited.and_then(|id| book.failure_of(class, id)) {
                    return Err(failure);
                }
                book.board(now, class, key)
            };
            if let Some(grant) = grant {
                self.begin_grant(endpoints, grant);
            }
            let id = match boarding {
                Boarding::On(lease) => return Ok(lease),
                Boarding::Wait(id) => id,
            };
            waited = Some(waited.unwrap_or(id));
            let until = deadline.min(Book::patience(now));
            let _ = timeout_at(until, granted).await;
            if Instant::now() >= deadline {
                return Err(endpoints.expired("no lease was granted"));
            }
        }
    }

    /// The lease for a key, if one is available without waiting.
    pub(crate) fn board_at_once(
        self: &Arc<Self>,
        endpoints: &Arc<Endpoints>,
        class: TtlClass,
        key: u64,
    ) -> Option<LeaseId> {
        let (boarding, grant) = lock(&self.book).board(Instant::now(), class, key);
        if let Some(grant) = grant {
            self.begin_grant(endpoints, grant);
        }
        match boarding {
            Boarding::On(lease) => Some(lease),
            Boarding::Wait(_) => None,
        }
    }

    /// The server no longer has this lease.
    pub(crate) fn lost(&self, class: TtlClass, lease: LeaseId) {
        lock(&self.book).lost(Instant::now(), class, lease);
    }

    pub(crate) fn living(&self) -> u64 {
        lock(&self.book).living(Instant::now()) as u64
    }

    /// How many leases were granted, and how many the server lost before they expired.
    pub(crate) fn counts(&self) -> (u64, u64) {
        lock(&self.book).counts()
    }

    /// Requests a grant in the background, so that it does not depend on the calls that wait.
    fn begin_grant(self: &Arc<Self>, endpoints: &Arc<Endpoints>, grant: Grant) {
        // Before the task: a runtime that is shutting down drops it at once.
        let asking = Asking {
            leases: Arc::clone(self),
            grant: Some(grant),
        };
        endpoints.spawn(obtain(asking, Arc::clone(endpoints), grant));
    }

    fn begin_revoking(self: &Arc<Self>, endpoints: &Arc<Endpoints>) {
        if !self.revoking.swap(true, Ordering::AcqRel) {
            let is_revoking = Revoking(Arc::clone(self));
            endpoints.spawn(revoke(is_revoking, Arc::downgrade(endpoints)));
        }
    }
}

async fn obtain(mut asking: Asking, endpoints: Arc<Endpoints>, grant: Grant) {
    let now = Instant::now();
    // The lease starts later than this at the server.
    let mut sent = now;
    let granted = endpoints.call(Purpose::Write, now + endpoints.call_timeout(), |client| {
        sent = Instant::now();
        let mut lease = client.lease.clone();
        Some(async move { lease.grant(grant.seconds, None).await })
    });
    let granted: Result<LeaseGrantResponse, Failure> = granted.await;
    asking.grant = None;
    let leases = &asking.leases;
    {
        let mut book = lock(&leases.book);
        match granted {
            Ok(granted) => {
                let (id, ttl) = (granted.id(), granted.ttl());
                book.granted(Instant::now(), grant, sent, id, ttl);
            }
            Err(failure) => book.not_granted(grant, failure),
        }
    }
    leases.granted.notify_waiters();
    leases.begin_revoking(&endpoints);
}

/// A grant in flight. Dropped if its runtime shuts down.
struct Asking {
    leases: Arc<Leases>,
    grant: Option<Grant>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            let failure = Failure::new(Next::Repeat, "the runtime shut down during the call");
            lock(&self.leases.book).not_granted(grant, failure);
            self.leases.granted.notify_waiters();
        }
    }
}

/// Revokes leases whose values have expired, one at a time and with pauses, until none is left.
async fn revoke(revoking: Revoking, endpoints: Weak<Endpoints>) {
    let book = &revoking.0.book;
    loop {
        let due = lock(book).revoke(Instant::now());
        let Some(lease) = due else {
            let Some(at) = lock(book).poll_timeout() else {
                return;
            };
            sleep_until(at.max(Instant::now() + Duration::from_millis(10))).await;
            continue;
        };
        let Some(endpoints) = endpoints.upgrade() else {
            return;
        };
        let began = Instant::now();
        let revoked = endpoints.call(Purpose::Write, began + REVOKED_WITHIN, |client| {
            let mut client = client.lease.clone();
            Some(async move { client.revoke(lease).await })
        });
        let _: Result<LeaseRevokeResponse, Failure> = revoked.await;
        drop(endpoints);
        let now = Instant::now();
        let pause = lock(book).pause(now, now - began);
        sleep(pause).await;
    }
}

/// Marks the task that revokes as running. Another one starts if it ends with its runtime.
struct Revoking(Arc<Leases>);

impl Drop for Revoking {
    fn drop(&mut self) {
        self.0.revoking.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Runtime;

    use super::*;
    use crate::config::{Etcd3Config, Settings};
    use crate::endpoints::Health;
    use crate::events::Events;

    /// Endpoints whose runtime has shut down, so that a task is dropped while it is spawned.
    fn without_a_runtime() -> Arc<Endpoints> {
        let settings = Settings::new(Etcd3Config::default()).unwrap();
        let health = Arc::new(Health::new(&settings, Events::default()));
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        Arc::new(Endpoints::new(&settings, &health, &Arc::default(), handle))
    }

    #[test]
    fn a_runtime_that_shuts_down_ends_the_task_that_revokes() {
        let leases = Arc::new(Leases::new(1));
        // Twice: the first one no longer counts as running.
        for _ in 0..2 {
            leases.begin_revoking(&without_a_runtime());
            assert!(!leases.revoking.load(Ordering::Acquire));
        }
    }

    #[test]
    fn a_runtime_that_shuts_down_ends_its_grants() {
        let leases = Arc::new(Leases::new(1));
        let class = TtlClass::of(Duration::from_secs(60)).unwrap();
        let (boarding, grant) = lock(&leases.book).board(Instant::now(), class, 7);
        let Boarding::Wait(id) = boarding else {
            panic!("no lease has been granted: {boarding:?}");
        };
        leases.begin_grant(&without_a_runtime(), grant.unwrap());
        let failure = lock(&leases.book).failure_of(class, id);
        let message = failure.map(|failure| failure.message).unwrap_or_default();
        assert!(message.contains("shut down"), "{message}");
    }
}
