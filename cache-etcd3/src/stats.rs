//! [`Etcd3Stats`]: counters of the backend and the state of its endpoints.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::config::optional_seconds;

/// Counters of a backend and its clones since it was built, and the state of its endpoints, from
/// [`Etcd3Backend::stats`](crate::Etcd3Backend::stats). Durations are serialized as seconds.
///
/// ```
/// let cache = cache_etcd3::Etcd3Backend::builder().build()?;
/// let stats = cache.stats();
/// assert_eq!(stats.leases, 0);
/// assert_eq!(stats.endpoints[0].address, "http://localhost:2379");
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Etcd3Stats {
    /// Keys that were read and found.
    pub hits: u64,
    /// Keys that were read and not found, or found expired.
    pub misses: u64,
    /// Leases that were granted and have not expired yet.
    pub leases: u64,
    /// Leases that were granted in total.
    pub grants: u64,
    /// Leases that the server lost before they expired, and that were replaced.
    pub lost_leases: u64,
    /// Transactions sent for several keys: of a multi operation, or of concurrent calls.
    pub transactions: u64,
    /// Requests that were sent again after a failure.
    pub retries: u64,
    /// Retries that went to another endpoint.
    pub failovers: u64,
    /// Calls that exceeded `call_timeout`.
    pub timeouts: u64,
    /// The endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointStats>,
}

/// The state of one endpoint.
///
/// ```
/// # let cache = cache_etcd3::Etcd3Backend::builder().build()?;
/// for endpoint in cache.stats().endpoints {
///     if let Some(left) = endpoint.down_for {
///         println!("{} is down for {left:?}: {:?}", endpoint.address, endpoint.failure);
///     }
/// }
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Its address.
    pub address: String,
    /// How many clients were created for it. Each one after the first in a runtime replaces a
    /// broken connection or an expired token.
    pub connects: u64,
    /// The time until the next probe if it is out of use, zero if the next call probes it; `None`
    /// if it is in use. Serialized as seconds.
    #[serde(serialize_with = "optional_seconds::serialize")]
    pub down_for: Option<Duration>,
    /// Why it is out of use.
    pub failure: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to the count and returns the previous value.
    pub(crate) fn add(&self, count: usize) -> u64 {
        self.0.fetch_add(count as u64, Ordering::Relaxed)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The running counts behind [`Etcd3Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) transactions: Counter,
    pub(crate) retries: Counter,
    pub(crate) failovers: Counter,
    pub(crate) timeouts: Counter,
}
