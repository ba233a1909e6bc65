//! [`Etcd3Stats`], what the backend has done so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::config::optional_seconds;

/// What a backend and its clones have done so far, and how its endpoints are. Written by serde,
/// durations are seconds.
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
    /// Leases that were granted and should still be alive at the servers.
    pub leases: u64,
    /// Leases that were granted.
    pub grants: u64,
    /// Leases that turned out to be gone before their time, and were replaced.
    pub lost_leases: u64,
    /// Transactions that were sent for several keys: those of a multi operation, or of calls that
    /// came at once.
    pub transactions: u64,
    /// Requests that were sent once more because they had failed.
    pub retries: u64,
    /// Those of them that went to another endpoint.
    pub failovers: u64,
    /// Calls that ran out of time.
    pub timeouts: u64,
    /// The endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointStats>,
}

/// How an endpoint is.
///
/// ```
/// # let cache = cache_etcd3::Etcd3Backend::builder().build()?;
/// for endpoint in cache.stats().endpoints {
///     if let Some(left) = endpoint.dead_for {
///         eprintln!("{} is left alone for {left:?}: {:?}", endpoint.address, endpoint.failure);
///     }
/// }
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Its address.
    pub address: String,
    /// How many clients were made for it; each after the first in a runtime means a
    /// connection that broke, or a token that had expired.
    pub connects: u64,
    /// How long it is left alone still, after it failed; `None`: it is in use.
    #[serde(serialize_with = "optional_seconds::serialize")]
    pub dead_for: Option<Duration>,
    /// Why, in words.
    pub failure: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to the count and returns what it was.
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
