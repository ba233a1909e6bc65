//! [`Protocol`], the commands that are sent.

use serde::{Deserialize, Serialize};

/// The protocol of the servers.
///
/// ```
/// use cache_memcache_pool::{MemcachePoolConfig, Protocol};
///
/// let mut config = MemcachePoolConfig::default();
/// config.protocol = Protocol::Classic; // "classic" in a file
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Protocol {
    /// The meta commands of memcached 1.6.10 and later; those of earlier versions differ, so values
    /// are sent only to servers that report a later version. Each response identifies its request.
    #[default]
    Meta,
    /// `get`, `set` and `delete`, for proxies such as twemproxy and for older servers. Keys with
    /// spaces or control characters are an error.
    Classic,
}
