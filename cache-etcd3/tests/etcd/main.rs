//! The backend against real etcd servers that fail, refuse, fill up and lose their data, and against
//! other servers.

mod auth;
mod conformance;
mod endpoints;
mod faults;
mod leases;
mod lifecycle;
mod limits;
mod load;
mod messages;
#[cfg(feature = "tls")]
mod tls;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cache_core::{CachedValue, Result};
use cache_etcd3::{Etcd3Backend, Etcd3Builder};
use test_servers::Etcd;

/// Held by tests that start servers or put load on them: only a few run at a time.
struct Heavy(#[expect(dead_code)] MutexGuard<'static, ()>);

fn heavy() -> Heavy {
    static PLACES: [Mutex<()>; 4] = [const { Mutex::new(()) }; 4];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let place = &PLACES[NEXT.fetch_add(1, Ordering::Relaxed) % PLACES.len()];
    Heavy(place.lock().unwrap_or_else(PoisonError::into_inner))
}

fn backend(endpoints: impl IntoIterator<Item = String>) -> Etcd3Builder {
    Etcd3Backend::builder().endpoints(endpoints)
}

fn value(payload: impl Into<Vec<u8>>) -> CachedValue<Vec<u8>> {
    CachedValue::new(payload.into())
}

fn payload(found: Option<CachedValue<Vec<u8>>>) -> Option<Vec<u8>> {
    found.map(CachedValue::into_payload)
}

/// The results of a multi operation, all of which must be successful.
fn all<T>(found: Vec<Result<T>>) -> Vec<T> {
    found.into_iter().collect::<Result<_>>().unwrap()
}

/// How many requests of this kind the server has received, such as `Txn`.
fn requests(etcd: &Etcd, method: &str) -> u64 {
    let labels = format!("grpc_method=\"{method}\",grpc_service=\"etcdserverpb.KV\"");
    let name = format!("grpc_server_started_total{{{labels},grpc_type=\"unary\"}}");
    let requests = etcd.metric(&name).unwrap();
    format!("{requests:.0}").parse().unwrap()
}

/// Waits until `ask` returns true.
async fn eventually(limit: Duration, what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !ask().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
