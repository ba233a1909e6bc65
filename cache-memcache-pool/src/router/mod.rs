//! [`Router`]: which server stores which key. A pure function of the key, the servers' names and
//! weights, and which of them are up.

mod change;
mod consistent;
mod ketama;
mod md5;
mod pymemcache;
mod python_memcached;
mod server_spec;
mod xxh64;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use change::kept;
use consistent::Consistent;
use ketama::Ketama;
use pymemcache::Pymemcache;
use python_memcached::PythonMemcached;
pub(crate) use server_spec::ServerSpec;

/// Which server stores which key.
///
/// All processes that share a cache need the same routing and the same servers. If clients in other
/// languages share it, use the routing that is compatible with theirs.
///
/// ```
/// use cache_memcache_pool::{MemcachePoolConfig, Routing};
///
/// let mut config = MemcachePoolConfig::default();
/// config.routing = Routing::PythonMemcached; // "python-memcached" in a file
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Routing {
    /// Consistent hashing that spreads keys evenly, in constant time even for thousands of servers.
    /// Adding or removing a server moves only its own keys. The order of the list does not matter.
    /// The keys of a server that is down spread over all others. It does not change between
    /// releases.
    #[default]
    Consistent,
    /// The routing of python-memcached, the default client of oslo.cache and dogpile.cache. The
    /// order of the list matters, and a change of the list moves almost all keys.
    PythonMemcached,
    /// The routing of pymemcache's `HashClient`. It has no weights, and its cost grows with the
    /// number of servers.
    Pymemcache,
    /// Ketama as in libmemcached's `MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED`: pylibmc's
    /// `ketama_weighted` and `Memcached::OPT_LIBKETAMA_COMPATIBLE` in PHP.
    Ketama,
}

impl Routing {
    /// Whether a server may be listed several times, as in Python.
    pub(crate) fn takes_repeated_servers(self) -> bool {
        matches!(self, Self::PythonMemcached | Self::Pymemcache)
    }

    pub(crate) fn has_weights(self) -> bool {
        !matches!(self, Self::Pymemcache)
    }
}

/// A routing function: see [`routing_with`](crate::MemcachePoolBuilder::routing_with).
pub(crate) type Choose = dyn Fn(&str, &dyn Fn(usize) -> bool) -> Option<usize> + Send + Sync;

/// Selects a server for a key.
pub(crate) struct Router(Inner);

enum Inner {
    Single,
    Consistent(Consistent),
    PythonMemcached(PythonMemcached),
    Pymemcache(Pymemcache),
    Ketama(Ketama),
    Own(Arc<Choose>),
}

impl Router {
    pub(crate) fn new(routing: Routing, servers: &[ServerSpec]) -> Self {
        Self(match routing {
            _ if matches!(servers, [only] if only.weight > 0) => Inner::Single,
            Routing::Consistent => Inner::Consistent(Consistent::new(servers)),
            Routing::PythonMemcached => Inner::PythonMemcached(PythonMemcached::new(servers)),
            Routing::Pymemcache => Inner::Pymemcache(Pymemcache::new(servers)),
            Routing::Ketama => Inner::Ketama(Ketama::new(servers)),
        })
    }

    pub(crate) fn own(choose: Arc<Choose>) -> Self {
        Self(Inner::Own(choose))
    }

    /// The position of the server for `key` among those that are up; `None` if there is none.
    #[inline]
    pub(crate) fn pick(&self, key: &str, is_up: &dyn Fn(usize) -> bool) -> Option<usize> {
        match &self.0 {
            Inner::Single => Some(0).filter(|&only| is_up(only)),
            Inner::Consistent(router) => router.pick(key, is_up),
            Inner::PythonMemcached(router) => router.pick(key, is_up),
            Inner::Pymemcache(router) => router.pick(key, is_up),
            Inner::Ketama(router) => router.pick(key, is_up),
            // Otherwise the call would try a server that is down again and again.
            Inner::Own(choose) => choose(key, is_up).filter(|&server| is_up(server)),
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Single => "Single",
            Inner::Consistent(_) => "Consistent",
            Inner::PythonMemcached(_) => "PythonMemcached",
            Inner::Pymemcache(_) => "Pymemcache",
            Inner::Ketama(_) => "Ketama",
            Inner::Own(_) => "Own",
        })
    }
}

#[cfg(test)]
mod tests;
