//! [`MemcachePoolConfig`], the arguments of the backend as plain data.

mod address;
mod builder;
mod settings;
#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result, seconds};
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use address::Address;
pub use builder::MemcachePoolBuilder;
pub(crate) use settings::Settings;

use crate::NAME;
use crate::cluster::Routing;

/// The arguments of the backend under the names of Python's `PooledMemcachedBackend`, to be
/// read from a configuration file. Durations are numbers of seconds there, fractions allowed;
/// a field that is not known is an error.
///
/// ```
/// use std::time::Duration;
/// use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolConfig};
///
/// let mut config = MemcachePoolConfig::default();
/// config.url = vec!["10.0.0.1:11211".into(), "10.0.0.2:11211".into()];
/// config.socket_timeout = Duration::from_millis(500);
/// let cache = MemcachePoolBackend::from_config(config)?;
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the switches of a configuration file"
)]
pub struct MemcachePoolConfig {
    /// The servers: `host:port`, `[::1]:11211`, `unix:/path`; the port is 11211 where none is
    /// given. In a file also one string for one server. Default: `localhost:11211`.
    #[serde(deserialize_with = "one_or_many")]
    pub url: Vec<String>,
    /// How many keys each server of `url` gets, relative to the others; 0: none. Empty: all get
    /// as many. Default: empty.
    pub weights: Vec<u32>,
    /// The most connections to one server; each tokio runtime that uses the backend has its
    /// own. Default: 10.
    pub pool_maxsize: usize,
    /// A connection that was idle for so long is closed. Default: 60 s.
    #[serde(with = "seconds")]
    pub pool_unused_timeout: Duration,
    /// How long a call waits, when every connection has its fill of calls, before it fails.
    /// Default: 10 s.
    #[serde(with = "seconds")]
    pub pool_connection_get_timeout: Duration,
    /// How long a server that is down is left alone at most before it is tried again. It is
    /// tried after 0.1 s at first, then after twice as long each time. Default: 300 s.
    #[serde(with = "seconds")]
    pub dead_retry: Duration,
    /// How long a server may take to accept a connection, and how long it may be silent while
    /// it is to answer. A call takes twice as long at most, in all. Default: 3 s.
    #[serde(with = "seconds")]
    pub socket_timeout: Duration,
    /// Empties a server that was down and returned, before anybody reads from it. Without, it
    /// serves what it had before it was lost, old values included. Default: false.
    pub pool_flush_on_reconnect: bool,
    /// Takes for expired what a server that was down and returned had before, so that nothing
    /// comes back that was replaced or deleted elsewhere meanwhile; nothing is emptied. The
    /// server is marked for all processes that have this set, whose clocks have to agree; each
    /// read asks for the mark too. Default: false.
    pub pool_expire_on_reconnect: bool,
    /// The largest stored value in bytes, metadata included. Larger ones are refused before
    /// they are sent. Default: 1 MiB, which is memcached's own.
    pub server_max_value_length: usize,
    /// The lifetime of a value without one of its own; zero: until memcached evicts it.
    /// Default: zero.
    #[serde(with = "seconds")]
    pub memcached_expire_time: Duration,
    /// The name for memcached's ASCII authentication. Default: none.
    pub username: Option<String>,
    /// The password to go with it. Default: none.
    pub password: Option<String>,
    /// Speaks TLS to the servers. Needs the feature `tls`. Default: false.
    pub tls_enabled: bool,
    /// A file in PEM format with the authorities (or the certificates themselves) that are
    /// trusted. Default: none, which means the system's.
    pub tls_cafile: Option<PathBuf>,
    /// The name that the servers' certificates have to be for. Default: none, which means the
    /// host of each server's address.
    pub tls_server_name: Option<String>,
    /// A file in PEM format with the certificate to present to servers that ask for one.
    /// Default: none.
    pub tls_certfile: Option<PathBuf>,
    /// A file in PEM format with its private key. Default: none.
    pub tls_keyfile: Option<PathBuf>,
    /// Whether the server's certificate is checked. Without, anybody on the way can read and
    /// change everything. Default: true.
    pub tls_verify: bool,
    /// Which server keeps which key. Default: consistent.
    pub routing: Routing,
    /// Whether the keys of a server that is down go to the others. Default: true.
    pub failover: bool,
    /// What is spoken to the servers. Default: meta.
    pub protocol: Protocol,
}

/// Which of memcached's protocols is spoken.
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
    /// The meta commands of memcached 1.6 and later. Each answer names its question.
    #[default]
    Meta,
    /// `get`, `set` and `delete`, for proxies such as twemproxy and for older servers. Keys with
    /// spaces or control characters are refused.
    Classic,
}

impl Default for MemcachePoolConfig {
    fn default() -> Self {
        Self {
            url: vec!["localhost:11211".to_owned()],
            weights: Vec::new(),
            pool_maxsize: 10,
            pool_unused_timeout: Duration::from_secs(60),
            pool_connection_get_timeout: Duration::from_secs(10),
            dead_retry: Duration::from_secs(300),
            socket_timeout: Duration::from_secs(3),
            pool_flush_on_reconnect: false,
            pool_expire_on_reconnect: false,
            server_max_value_length: 1024 * 1024,
            memcached_expire_time: Duration::ZERO,
            username: None,
            password: None,
            tls_enabled: false,
            tls_cafile: None,
            tls_server_name: None,
            tls_certfile: None,
            tls_keyfile: None,
            tls_verify: true,
            routing: Routing::default(),
            failover: true,
            protocol: Protocol::default(),
        }
    }
}

impl fmt::Debug for MemcachePoolConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachePoolConfig")
            .field("url", &self.url)
            .field("weights", &self.weights)
            .field("pool_maxsize", &self.pool_maxsize)
            .field("pool_unused_timeout", &self.pool_unused_timeout)
            .field(
                "pool_connection_get_timeout",
                &self.pool_connection_get_timeout,
            )
            .field("dead_retry", &self.dead_retry)
            .field("socket_timeout", &self.socket_timeout)
            .field("pool_flush_on_reconnect", &self.pool_flush_on_reconnect)
            .field("pool_expire_on_reconnect", &self.pool_expire_on_reconnect)
            .field("server_max_value_length", &self.server_max_value_length)
            .field("memcached_expire_time", &self.memcached_expire_time)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("tls_enabled", &self.tls_enabled)
            .field("tls_cafile", &self.tls_cafile)
            .field("tls_server_name", &self.tls_server_name)
            .field("tls_certfile", &self.tls_certfile)
            .field("tls_keyfile", &self.tls_keyfile)
            .field("tls_verify", &self.tls_verify)
            .field("routing", &self.routing)
            .field("failover", &self.failover)
            .field("protocol", &self.protocol)
            .finish()
    }
}

/// The error for a field that makes no sense.
pub(crate) fn bad_config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, NAME, message)
}

impl MemcachePoolConfig {
    /// Checks what the types allow and the backend does not, and reads the addresses.
    pub(crate) fn check(&self) -> Result<Vec<Address>> {
        if self.pool_maxsize == 0 {
            return Err(bad_config("pool_maxsize is 0; it has to be 1 at least"));
        }
        if self.socket_timeout.is_zero() {
            return Err(bad_config("socket_timeout is 0; it has to be more"));
        }
        if self.server_max_value_length > MAX_ITEM {
            return Err(bad_config(format!(
                "server_max_value_length is {}; memcached takes 1 GiB at most",
                self.server_max_value_length
            )));
        }
        match (&self.username, &self.password) {
            (None, None) => {}
            (Some(username), Some(_)) => {
                // The password follows the first space.
                if username.is_empty() || username.contains(' ') {
                    return Err(bad_config("username has to be a word without spaces"));
                }
            }
            (Some(_), None) => {
                return Err(bad_config(
                    "username is set, and password is not; give both",
                ));
            }
            (None, Some(_)) => {
                return Err(bad_config(
                    "password is set, and username is not; give both",
                ));
            }
        }
        if !self.tls_enabled
            && (self.tls_cafile.is_some()
                || self.tls_server_name.is_some()
                || self.tls_certfile.is_some()
                || self.tls_keyfile.is_some())
        {
            return Err(bad_config(
                "tls_cafile, tls_server_name, tls_certfile and tls_keyfile have no use while \
                 tls_enabled is false",
            ));
        }
        let addresses = Address::parse_all(&self.url)?;
        if !self.weights.is_empty() {
            if self.weights.len() != addresses.len() {
                return Err(bad_config(format!(
                    "weights has {} entries, and url {}; give one for each server, or none",
                    self.weights.len(),
                    addresses.len()
                )));
            }
            if self.weights.iter().all(|&weight| weight == 0) {
                return Err(bad_config("weights are all 0; one server has to get keys"));
            }
        }
        Ok(addresses)
    }
}

/// What `-I` of memcached can be raised to.
const MAX_ITEM: usize = 1 << 30;

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "url takes a server or a list of servers, such as [\"10.0.0.1:11211\"]"
    )]
    enum Urls {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Urls::deserialize(deserializer)? {
        Urls::One(url) => vec![url],
        Urls::Many(urls) => urls,
    })
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error as ValueError, MapDeserializer, SeqDeserializer};

    use super::*;

    fn number(name: &str, value: f64) -> Result<MemcachePoolConfig, ValueError> {
        MemcachePoolConfig::deserialize(MapDeserializer::new([(name, value)].into_iter()))
    }

    fn refusal(change: impl FnOnce(&mut MemcachePoolConfig)) -> String {
        let mut config = MemcachePoolConfig::default();
        change(&mut config);
        let error = config.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.message().to_owned()
    }

    #[test]
    fn a_file_gives_seconds_and_one_or_many_servers() {
        let config = number("socket_timeout", 0.25).unwrap();
        assert_eq!(config.socket_timeout, Duration::from_millis(250));
        assert_eq!(config.dead_retry, Duration::from_secs(300));

        let one = MapDeserializer::<_, ValueError>::new([("url", "a:1")].into_iter());
        assert_eq!(MemcachePoolConfig::deserialize(one).unwrap().url, ["a:1"]);
        let urls = SeqDeserializer::<_, ValueError>::new(["a:1", "b:2"].into_iter());
        let many = MapDeserializer::new([("url".into_deserializer(), urls)].into_iter());
        let many = many as MapDeserializer<'_, _, ValueError>;
        assert_eq!(
            MemcachePoolConfig::deserialize(many).unwrap().url,
            ["a:1", "b:2"]
        );
        let routing = [("routing", "python-memcached")].into_iter();
        let routing = MapDeserializer::<_, ValueError>::new(routing);
        assert_eq!(
            MemcachePoolConfig::deserialize(routing).unwrap().routing,
            Routing::PythonMemcached
        );
    }

    #[test]
    fn unknown_fields_and_negative_durations_are_refused() {
        let error = number("pool_maxsise", 1.0).unwrap_err().to_string();
        assert!(
            error.contains("pool_maxsise") && error.contains("pool_maxsize"),
            "{error}"
        );
        assert!(number("dead_retry", -1.0).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_the_name_of_its_field() {
        assert!(refusal(|c| c.url.clear()).contains("url is empty"));
        assert!(refusal(|c| c.url = vec!["a:1".into(), "a:1".into()]).contains("a:1 twice"));
        assert!(refusal(|c| c.url = vec!["a".into(), "A:11211".into()]).contains("twice"));
        assert!(refusal(|c| c.url = vec!["a:b".into()]).contains("\"a:b\""));
        let message = refusal(|c| c.url = vec!["http://a".into()]);
        assert!(message.contains("\"http://a\": a scheme is not wanted; write host:port"));
        let message = refusal(|c| c.url = vec!["me:secret@a".into()]);
        assert!(!message.contains("secret"), "{message}");
        assert!(refusal(|c| c.weights = vec![1, 2]).contains("2 entries"));
        assert!(refusal(|c| c.weights = vec![0]).contains("all 0"));
        assert!(refusal(|c| c.pool_maxsize = 0).contains("pool_maxsize"));
        assert!(refusal(|c| c.socket_timeout = Duration::ZERO).contains("socket_timeout"));
        assert!(refusal(|c| c.server_max_value_length = usize::MAX).contains("1 GiB"));
        assert!(refusal(|c| c.username = Some("u".into())).contains("password is not"));
        assert!(refusal(|c| c.password = Some("p".into())).contains("username is not"));
        let spaced = |c: &mut MemcachePoolConfig| {
            c.username = Some("a b".into());
            c.password = Some("p".into());
        };
        assert!(refusal(spaced).contains("without spaces"));
        assert!(refusal(|c| c.tls_cafile = Some("ca".into())).contains("tls_enabled"));
    }

    #[test]
    fn no_password_is_shown() {
        let config = MemcachePoolConfig {
            username: Some("me".into()),
            password: Some("hunter2".into()),
            ..MemcachePoolConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(
            shown.contains("me") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
