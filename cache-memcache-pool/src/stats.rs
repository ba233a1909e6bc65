//! What the backend tells of itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
/// assert_eq!(stats.servers[0].dead_for, None);
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Its address.
    pub address: String,
    /// How long it is still left alone, if it is dead; zero when the next call tries it.
    pub dead_for: Option<Duration>,
    /// Why, in words.
    pub failure: Option<String>,
    /// Connections open.
    pub connections: usize,
    /// Those of them on which nothing is awaited.
    pub idle: usize,
    /// Commands sent or about to be, and not answered.
    pub in_flight: usize,
    /// Keys answered for: each key of a multi operation counts.
    pub calls: u64,
    /// Keys that were read and found; those whose deadline had just passed are among them.
    pub hits: u64,
    /// Keys that were read and not there.
    pub misses: u64,
    /// Times that it fell silent for longer than `socket_timeout`.
    pub timeouts: u64,
    /// Times that it was found dead.
    pub deaths: u64,
    /// Keys that went to another server because this one died under way.
    pub failovers: u64,
    /// Connections opened.
    pub connects: u64,
}

/// A server died or returned: what the callback of
/// [`on_server_event`](crate::MemcachePoolBuilder::on_server_event) is told.
///
/// ```
/// use cache_memcache_pool::{MemcachePoolBackend, ServerEvent};
///
/// let cache = MemcachePoolBackend::builder()
///     .url(["localhost:11211"])
///     .on_server_event(|event| match event {
///         ServerEvent::Dead { server, reason, .. } => eprintln!("{server} is dead: {reason}"),
///         ServerEvent::Back { server, .. } => eprintln!("{server} is back"),
///         _ => {}
///     })
///     .build()?;
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// It is left alone from now on.
    #[non_exhaustive]
    Dead {
        /// Its address.
        server: String,
        /// What it did.
        reason: String,
        /// How long it is left alone.
        retry_after: Duration,
    },
    /// It is in use again.
    #[non_exhaustive]
    Back {
        /// Its address.
        server: String,
    },
}

/// The counts behind [`ServerStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) deaths: AtomicU64,
    pub(crate) failovers: AtomicU64,
    pub(crate) connects: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    if n > 0 {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
