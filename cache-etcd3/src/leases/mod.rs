//! [`Leases`]: grants and revokes leases as [`Book`] decides.

pub(crate) mod book;
mod class;

pub(crate) use book::LeaseId;
pub(crate) use class::TtlClass;

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
    revoking: Mutex<bool>,
}

impl Leases {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            book: Mutex::new(Book::new(seed)),
            granted: Notify::new(),
            revoking: Mutex::new(false),
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
        endpoints.spawn(obtain(Arc::clone(self), Arc::clone(endpoints), grant));
    }

    fn begin_revoking(self: &Arc<Self>, endpoints: &Arc<Endpoints>) {
        let mut revoking = lock(&self.revoking);
        if !*revoking {
            *revoking = true;
            let is_revoking = Revoking(Arc::clone(self));
            endpoints.spawn(revoke(is_revoking, Arc::downgrade(endpoints)));
        }
    }
}

async fn obtain(leases: Arc<Leases>, endpoints: Arc<Endpoints>, grant: Grant) {
    let mut asking = Asking {
        leases: &leases,
        grant: Some(grant),
    };
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
struct Asking<'a> {
    leases: &'a Leases,
    grant: Option<Grant>,
}

impl Drop for Asking<'_> {
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
        *lock(&self.0.revoking) = false;
    }
}
