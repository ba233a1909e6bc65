//! [`PythonClient`], which determines the client flags.

use serde::{Deserialize, Serialize};

/// The memcached client of Python programs, among those of dogpile.cache and oslo.cache.
///
/// It determines the client flags. With wrong flags Python reads text instead of bytes.
///
/// ```
/// use cache_memcache_pool::{MemcachePoolConfig, PythonClient};
///
/// let mut config = MemcachePoolConfig::default();
/// config.python_client = PythonClient::Bmemcached; // "bmemcached" in a file
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PythonClient {
    /// python-memcached, the client of `oslo_cache.memcache_pool` and `dogpile.cache.memcached`.
    /// The flags of bytes are 0.
    #[default]
    PythonMemcached,
    /// pymemcache, the client of `dogpile.cache.pymemcache`. The flags of bytes are 0.
    Pymemcache,
    /// python-binary-memcached, the client of `oslo_cache.memcache_pool` with TLS or SASL. The
    /// flags of bytes are 16. It compresses values of more than 128 bytes, which require the
    /// feature `zlib` to read; and it writes to every server in its list, so use a single one.
    Bmemcached,
}

impl PythonClient {
    pub(crate) fn flags_of_bytes(self) -> u32 {
        match self {
            Self::PythonMemcached | Self::Pymemcache => 0,
            Self::Bmemcached => 16,
        }
    }
}
