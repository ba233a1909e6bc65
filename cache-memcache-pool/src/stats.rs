//! What the backend tells of itself.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// The state of every server at one moment, from
/// [`MemcachePoolBackend::stats`](crate::MemcachePoolBackend::stats).
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
    /// One for each server, in the order of the configuration.
    pub servers: Vec<ServerStats>,
}

/// The state of one server. The counts are those since the backend was built.
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
    /// How long it is still left alone, if it is down; zero when the next call tries it.
    /// Serialized as a number of seconds.
    #[serde(serialize_with = "seconds")]
    pub down_for: Option<Duration>,
    /// Why, in words.
    pub failure: Option<String>,
    /// Connections open.
    pub connections: usize,
    /// Those of them on which nothing is awaited.
    pub idle: usize,
    /// Commands sent or about to be, and not answered.
    pub in_flight: usize,
    /// Keys that were answered: each key of a multi operation counts.
    pub calls: u64,
    /// Keys that were read and found; those whose deadline had just passed are among them.
    pub hits: u64,
    /// Keys that were read and were not there.
    pub misses: u64,
    /// Connections on which nothing came for longer than `socket_timeout`.
    pub timeouts: u64,
    /// Times that it was found to be down, and was left alone.
    pub downs: u64,
    /// Keys that went to another server because this one failed under way.
    pub failovers: u64,
    /// Connections opened, those to a server that then refused name and password among them.
    pub connects: u64,
    /// Times that it refused name and password, or the lack of them.
    pub denied: u64,
}

#[expect(clippy::ref_option, reason = "serde passes the field")]
fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration
        .map(|duration| duration.as_secs_f64())
        .serialize(serializer)
}
