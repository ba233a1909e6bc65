//! [`Leases`], which has granted and revoked what the [`Book`] asks for.

pub(crate) mod book;
mod class;

pub(crate) use book::LeaseId;
pub(crate) use class::TtlClass;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{LeaseGrantResponse, LeaseRevokeResponse};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::failure::{Failure, Next};
use crate::local::Local;
use crate::sync::lock;
use book::{Boarding, Book, Grant};

/// How long a lease may take to be revoked. If it fails, etcd does it some time later.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

/// Between two leases that are revoked, so many times what the first took: other calls come first.
const REST: u32 = 2;

/// Shared leases.
pub(crate) struct Leases {
    book: Mutex<Book>,
    /// A grant has an outcome.
    granted: Notify,
    /// Whether there is a task that revokes. It ends with its runtime.
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

    /// A lease for a key of this class to ride on, granted if need be before `deadline`.
    pub(crate) async fn board(
        &self,
        local: &Arc<Local>,
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
                // Whoever waited for a grant is told what became of it.
                if let Some(failure) = waited.and_then(|id| book.failure_of(class, id)) {
                    return Err(failure);
                }
                book.board(now, class, key)
            };
            if let Some(grant) = grant {
                local.runtime.spawn(obtain(Arc::clone(local), grant));
            }
            let id = match boarding {
                Boarding::On(lease) => return Ok(lease),
                Boarding::Wait(id) => id,
            };
            waited = Some(waited.unwrap_or(id));
            let until = deadline.min(Book::patience(now));
            let _ = timeout_at(until, granted).await;
            if Instant::now() >= deadline {
                local.shared.counters.timeouts.add(1);
                return Err(Failure::new(Next::Late, "no lease was granted in time"));
            }
        }
    }

    /// The lease for a key if it needs no waiting for.
    pub(crate) fn board_at_once(
        &self,
        local: &Arc<Local>,
        class: TtlClass,
        key: u64,
    ) -> Option<LeaseId> {
        let (boarding, grant) = lock(&self.book).board(Instant::now(), class, key);
        if let Some(grant) = grant {
            local.runtime.spawn(obtain(Arc::clone(local), grant));
        }
        match boarding {
            Boarding::On(lease) => Some(lease),
            Boarding::Wait(_) => None,
        }
    }

    /// The server does not know this lease any more.
    pub(crate) fn lost(&self, class: TtlClass, lease: LeaseId) {
        lock(&self.book).lost(Instant::now(), class, lease);
    }

    pub(crate) fn living(&self) -> u64 {
        lock(&self.book).living(Instant::now()) as u64
    }

    /// How many leases were granted, and how many were gone before their time.
    pub(crate) fn counts(&self) -> (u64, u64) {
        lock(&self.book).counts()
    }

    fn begin_revoking(&self, local: &Arc<Local>) {
        let mut revoking = lock(&self.revoking);
        if !*revoking {
            *revoking = true;
            local.runtime.spawn(revoke(Arc::downgrade(local)));
        }
    }
}

/// Has a lease granted. It belongs to the book: the callers that wait for it may go.
async fn obtain(local: Arc<Local>, grant: Grant) {
    let mut asking = Asking {
        local: &local,
        grant: Some(grant),
    };
    let now = Instant::now();
    // The server counts from a later moment than this.
    let mut sent = now;
    let granted = local
        .endpoints
        .call(now + local.shared.call_timeout, |client| {
            sent = Instant::now();
            let mut lease = client.lease.clone();
            Some(async move { lease.grant(grant.seconds, None).await })
        });
    let granted: Result<LeaseGrantResponse, Failure> = granted.await;
    asking.grant = None;
    let leases = &local.shared.leases;
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
    leases.begin_revoking(&local);
}

/// A grant under way. Its runtime may shut down.
struct Asking<'a> {
    local: &'a Local,
    grant: Option<Grant>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            let leases = &self.local.shared.leases;
            let failure = Failure::new(Next::Repeat, "the runtime shut down under the call");
            lock(&leases.book).not_granted(grant, failure);
            leases.granted.notify_waiters();
        }
    }
}

/// Revokes leases whose values have expired, one after another, while there are any.
async fn revoke(local: std::sync::Weak<Local>) {
    let _revoking = Revoking(local.clone());
    loop {
        let Some(local) = local.upgrade() else { return };
        let leases = &local.shared.leases;
        let due = lock(&leases.book).revoke(Instant::now());
        let Some(lease) = due else {
            let Some(at) = lock(&leases.book).poll_timeout() else {
                return;
            };
            // The backend may go meanwhile.
            drop(local);
            sleep_until(at.max(Instant::now() + Duration::from_millis(10))).await;
            continue;
        };
        let began = Instant::now();
        let revoked = local.endpoints.call(began + REVOKED_WITHIN, |client| {
            let mut client = client.lease.clone();
            Some(async move { client.revoke(lease).await })
        });
        let _: Result<LeaseRevokeResponse, Failure> = revoked.await;
        drop(local);
        sleep(began.elapsed() * REST).await;
    }
}

/// The task that revokes. Another begins if this one ends with its runtime.
struct Revoking(std::sync::Weak<Local>);

impl Drop for Revoking {
    fn drop(&mut self) {
        if let Some(local) = self.0.upgrade() {
            *lock(&local.shared.leases.revoking) = false;
        }
    }
}
