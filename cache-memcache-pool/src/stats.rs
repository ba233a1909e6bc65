//! [`MemcachePoolStats`]: the state and the counters of each server.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// The state and the counters of each server, from
/// [`MemcachePoolBackend::stats`](crate::MemcachePoolBackend::stats). Durations are serialized as
/// seconds.
///
/// ```
/// use cache_memcache_pool::MemcachePoolBackend;
///
/// let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
/// for server in cache.stats().servers {
///     println!("{}: {} calls, {} connections", server.address, server.calls, server.connections);
/// }
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemcachePoolStats {
    /// The servers, in the order of the configuration.
    pub servers: Vec<ServerStats>,
}

/// The state of one server, and its counters since the backend was built.
///
/// ```
/// # use cache_memcache_pool::MemcachePoolBackend;
/// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
/// let stats = cache.stats();
/// assert_eq!(stats.servers[0].address, "localhost:11211");
/// assert_eq!(stats.servers[0].down_for, None);
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServerStats {
    /// Its address.
    pub address: String,
    /// The time until it is tried again if it is down, zero if it is being tried or the next call
    /// tries it; `None` if it is in use. Serialized as seconds.
    #[serde(serialize_with = "seconds")]
    pub down_for: Option<Duration>,
    /// Why it is down.
    pub failure: Option<String>,
    /// Open connections.
    pub connections: usize,
    /// Open connections without a pending response.
    pub idle: usize,
    /// The weight of queued and pending requests: 1 for a small one, more for many keys or large
    /// values.
    pub in_flight: usize,
    /// Keys that were answered. Each key of a multi operation counts.
    pub calls: u64,
    /// Keys that were read and found, including values whose deadline has just passed, and values
    /// that `pool_expire_on_reconnect` treats as expired.
    pub hits: u64,
    /// Keys that were read and not found.
    pub misses: u64,
    /// Connections that could not be opened within `socket_timeout` while there was no other, or
    /// that received too little for as long while a response was pending. Probes do not count.
    pub timeouts: u64,
    /// How often it was marked down.
    pub downs: u64,
    /// Keys that were retried on another server because this one failed.
    pub failovers: u64,
    /// Connections opened, including those that the server then refused to authenticate.
    pub connects: u64,
    /// How often it refused the credentials, or required them.
    pub denied: u64,
}

#[expect(clippy::ref_option, reason = "serde passes the field")]
fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration
        .map(|duration| duration.as_secs_f64())
        .serialize(serializer)
}
