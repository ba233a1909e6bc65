//! [`MemcachePoolConfig`], the arguments of the backend as plain data.

mod address;
mod field;
mod settings;
#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result, seconds};
use serde::{Deserialize, Serialize};

pub(crate) use address::{Address, Family};
pub(crate) use settings::{Hooks, Settings, Timeouts, Transport};

use crate::NAME;
use crate::protocol::StoredFormat;
use crate::router::Routing;

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
    /// given. `inet:` and `inet6:` before it choose among the addresses of a name. In a file also
    /// one string, with commas between several servers. Default: `localhost:11211`.
    #[serde(deserialize_with = "field::url")]
    pub url: Vec<String>,
    /// How many keys each server of `url` gets, relative to the others; 0: none. Empty: all get
    /// as many. Default: empty.
    #[serde(deserialize_with = "field::weights")]
    pub weights: Vec<u32>,
    /// The most connections to one server, zero for no limit; each tokio runtime that uses the
    /// backend has its own. Default: 10.
    #[serde(deserialize_with = "field::pool_maxsize")]
    pub pool_maxsize: usize,
    /// A connection that was idle for so long is closed. Default: 60 s.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::pool_unused_timeout"
    )]
    pub pool_unused_timeout: Duration,
    /// How long a call waits for room when all connections are full, before it fails.
    /// Default: 10 s.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::pool_connection_get_timeout"
    )]
    pub pool_connection_get_timeout: Duration,
    /// How long a server that is down is left alone at most before it is tried again. It is
    /// tried after 0.1 s at first, then after twice as long each time. Default: 300 s.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::dead_retry"
    )]
    pub dead_retry: Duration,
    /// How long a server may take to accept a connection, and how long it may be silent while
    /// it is to answer. A call takes twice as long at most, in all. Default: 3 s.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::socket_timeout"
    )]
    pub socket_timeout: Duration,
    /// Empties a server that was down and returned, before anybody reads from it. Without, it
    /// serves what it had before it was lost, old values included. Default: false.
    #[serde(deserialize_with = "field::pool_flush_on_reconnect")]
    pub pool_flush_on_reconnect: bool,
    /// Takes for expired what a server that was down and returned had before, so that nothing
    /// comes back that was replaced or deleted elsewhere meanwhile; nothing is emptied. The
    /// server is marked for all processes that have this set, whose clocks have to agree; each
    /// read asks for the mark too. Default: false.
    #[serde(deserialize_with = "field::pool_expire_on_reconnect")]
    pub pool_expire_on_reconnect: bool,
    /// The largest stored value in bytes, metadata included. Larger ones are refused before
    /// they are sent. Zero: whatever memcached takes, which is 1 GiB at most. Default: 1 MiB,
    /// which is memcached's own.
    #[serde(deserialize_with = "field::server_max_value_length")]
    pub server_max_value_length: usize,
    /// The lifetime of a value without one of its own; zero: until memcached evicts it.
    /// Default: zero.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::memcached_expire_time"
    )]
    pub memcached_expire_time: Duration,
    /// The name for memcached's ASCII authentication. Default: none.
    #[serde(deserialize_with = "field::username")]
    pub username: Option<String>,
    /// The password to go with it. Read from a file, and never written to one. Default: none.
    #[serde(skip_serializing, deserialize_with = "field::password")]
    pub password: Option<String>,
    /// Speaks TLS to the servers. Needs the feature `tls`. Default: false.
    #[serde(deserialize_with = "field::tls_enabled")]
    pub tls_enabled: bool,
    /// A file in PEM format with the authorities (or the certificates themselves) that are
    /// trusted. Default: none, which means the system's.
    #[serde(deserialize_with = "field::tls_cafile")]
    pub tls_cafile: Option<PathBuf>,
    /// The name that the servers' certificates have to be for. Default: none, which means the
    /// host of each server's address.
    #[serde(deserialize_with = "field::tls_server_name")]
    pub tls_server_name: Option<String>,
    /// A file in PEM format with the certificate to present to servers that ask for one.
    /// Default: none.
    #[serde(deserialize_with = "field::tls_certfile")]
    pub tls_certfile: Option<PathBuf>,
    /// A file in PEM format with its private key. Default: `tls_certfile`, which can hold both.
    #[serde(deserialize_with = "field::tls_keyfile")]
    pub tls_keyfile: Option<PathBuf>,
    /// Whether the server's certificate is checked. Without, anybody on the way can read and
    /// change everything. Default: true.
    #[serde(deserialize_with = "field::tls_verify")]
    pub tls_verify: bool,
    /// Which server keeps which key. Default: consistent.
    #[serde(deserialize_with = "field::routing")]
    pub routing: Routing,
    /// Whether the keys of a server that is down go to the others. Default: true.
    #[serde(deserialize_with = "field::failover")]
    pub failover: bool,
    /// What is spoken to the servers. Default: meta.
    #[serde(deserialize_with = "field::protocol")]
    pub protocol: Protocol,
    /// What is stored under a key. Default: the envelope.
    #[serde(deserialize_with = "field::stored_format")]
    pub stored_format: StoredFormat,
    /// The client of programs in Python that share the cache. Default: python-memcached.
    #[serde(deserialize_with = "field::python_client")]
    pub python_client: PythonClient,
    /// Values of so many bytes, metadata included, are compressed with zlib, if that makes them
    /// shorter; zero: none are. `server_max_value_length` counts before that. Needs the feature
    /// `zlib`, as does reading what others compressed. Default: zero.
    #[serde(deserialize_with = "field::min_compress_len")]
    pub min_compress_len: usize,
}

/// The client that programs in Python use, of those that dogpile.cache and oslo.cache can.
///
/// It decides the client flags: without the right ones Python gets text in place of bytes.
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
    /// python-memcached, which `oslo_cache.memcache_pool` and `dogpile.cache.memcached` use. Flags
    /// 0 are bytes.
    #[default]
    PythonMemcached,
    /// pymemcache, as `dogpile.cache.pymemcache` uses it. Flags 0 are bytes.
    Pymemcache,
    /// python-binary-memcached, which `oslo_cache.memcache_pool` uses with TLS or SASL. Flags 16
    /// are bytes. It compresses what has more than 128 bytes, which takes the feature `zlib` to
    /// read; and it writes to every server of its list, so give it one.
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
            stored_format: StoredFormat::default(),
            python_client: PythonClient::default(),
            min_compress_len: 0,
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
            .field("stored_format", &self.stored_format)
            .field("python_client", &self.python_client)
            .field("min_compress_len", &self.min_compress_len)
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
        if self.socket_timeout.is_zero() {
            return Err(bad_config("`socket_timeout` is 0; it must be positive"));
        }
        if self.server_max_value_length > MAX_ITEM {
            return Err(bad_config(format!(
                "`server_max_value_length` is {}; memcached accepts at most 1 GiB",
                self.server_max_value_length
            )));
        }
        match (&self.username, &self.password) {
            (None, None) => {}
            (Some(username), Some(_)) => {
                // The password follows the first space.
                if username.is_empty() || username.contains(' ') {
                    return Err(bad_config(format!(
                        "`username` is {username:?}; use a name without spaces"
                    )));
                }
            }
            (Some(_), None) => {
                return Err(bad_config(
                    "`username` is set but `password` is not; set both or neither",
                ));
            }
            (None, Some(_)) => {
                return Err(bad_config(
                    "`password` is set but `username` is not; set both or neither",
                ));
            }
        }
        let addresses = Address::parse_all(&self.url, self.routing)?;
        if !self.weights.is_empty() {
            if !self.routing.has_weights() {
                return Err(bad_config(
                    "`weights` is set, but `routing` \"pymemcache\" has no weights; use another \
                     routing",
                ));
            }
            if self.weights.len() != addresses.len() {
                return Err(bad_config(format!(
                    "`weights` has {} entries, but `url` has {}; set one for each server, or none",
                    self.weights.len(),
                    addresses.len()
                )));
            }
            if self.weights.iter().all(|&weight| weight == 0) {
                return Err(bad_config(
                    "`weights` are all 0; at least one must be positive",
                ));
            }
            if let Some(weight) = self.weights.iter().find(|&&weight| weight > MAX_WEIGHT) {
                return Err(bad_config(format!(
                    "`weights` contains {weight}; a weight is at most {MAX_WEIGHT}"
                )));
            }
        }
        if self.pool_expire_on_reconnect && self.stored_format == StoredFormat::Raw {
            return Err(bad_config(
                "`pool_expire_on_reconnect` is set, but `stored_format` \"raw\" does not record \
                 when a value was stored; use \"envelope\"",
            ));
        }
        Ok(addresses)
    }
}

/// What of the configuration has no effect, if anything.
pub(crate) fn without_effect(config: &MemcachePoolConfig) -> Option<String> {
    let fields = [
        ("tls_cafile", &config.tls_cafile),
        ("tls_certfile", &config.tls_certfile),
        ("tls_keyfile", &config.tls_keyfile),
    ];
    let set = fields.iter().filter(|(_, file)| file.is_some());
    let mut set: Vec<String> = set.map(|(name, _)| format!("`{name}`")).collect();
    set.extend(
        config
            .tls_server_name
            .as_ref()
            .map(|_| "`tls_server_name`".into()),
    );
    (!config.tls_enabled && !set.is_empty()).then(|| {
        format!(
            "no effect of {}: `tls_enabled` is false, so connections are not encrypted; set it, \
             or leave them unset",
            set.join(", ")
        )
    })
}

/// Each unit of weight is an entry of a router's table.
const MAX_WEIGHT: u32 = 1000;

/// What `-I` of memcached can be raised to.
const MAX_ITEM: usize = 1 << 30;

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
    fn text_is_taken_where_numbers_switches_and_lists_are_meant() {
        let fields = [
            ("url", "a:1, inet6:[b]:2"),
            ("weights", "1, 3"),
            ("pool_maxsize", "0"),
            ("socket_timeout", "0.5"),
            ("failover", "no"),
        ];
        let fields = MapDeserializer::<_, ValueError>::new(fields.into_iter());
        let config = MemcachePoolConfig::deserialize(fields).unwrap();
        assert_eq!(config.url, ["a:1", "inet6:[b]:2"]);
        assert_eq!(config.weights, [1, 3]);
        assert_eq!(config.pool_maxsize, 0);
        assert_eq!(config.socket_timeout, Duration::from_millis(500));
        assert!(!config.failover);
    }

    #[test]
    fn senseless_text_is_refused_by_the_name_of_its_field() {
        for (name, senseless) in [
            ("pool_maxsize", "-1"),
            ("pool_maxsize", "1.5"),
            ("weights", "-1"),
            ("min_compress_len", "-5"),
            ("socket_timeout", "abc"),
            ("tls_enabled", "maybe"),
            ("python_client", "pylibmc"),
            ("routing", "modula"),
            ("stored_format", "pickle"),
        ] {
            let field = MapDeserializer::<_, ValueError>::new([(name, senseless)].into_iter());
            let error = MemcachePoolConfig::deserialize(field).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("`{name}`: ")), "{error}");
            assert!(error.contains(senseless), "{error}");
        }
    }

    #[test]
    fn every_error_names_its_field() {
        let unknown = number("?", 1.0).unwrap_err().to_string();
        // Every other part is the name of a field.
        let fields: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
        assert!(fields.len() > 20, "{unknown}");
        for field in fields {
            // A list of nothing fits nowhere.
            let given = MapDeserializer::<_, ValueError>::new([(field, vec![()])].into_iter());
            let error = MemcachePoolConfig::deserialize(given).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("`{field}`: ")), "{error}");
        }
    }

    #[test]
    fn files_for_tls_without_tls_have_no_effect() {
        let mut config = MemcachePoolConfig {
            tls_cafile: Some("ca.pem".into()),
            ..MemcachePoolConfig::default()
        };
        assert!(config.check().is_ok());
        assert!(without_effect(&config).unwrap().contains("tls_cafile"));
        config.tls_enabled = true;
        assert_eq!(without_effect(&config), None);
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
        assert!(refusal(|c| c.url.clear()).contains("`url` is empty"));
        assert!(refusal(|c| c.url = vec!["a:1".into(), "a:1".into()]).contains("a:1 twice"));
        assert!(refusal(|c| c.url = vec!["a".into(), "A:11211".into()]).contains("twice"));
        assert!(refusal(|c| c.url = vec!["a:b".into()]).contains("\"a:b\""));
        let message = refusal(|c| c.url = vec!["http://a".into()]);
        assert!(message.contains("\"http://a\": unexpected URL scheme; use host:port"));
        let message = refusal(|c| c.url = vec!["me:secret@a".into()]);
        assert!(!message.contains("secret"), "{message}");
        assert!(refusal(|c| c.weights = vec![1, 2]).contains("2 entries"));
        assert!(refusal(|c| c.weights = vec![0]).contains("all 0"));
        assert!(refusal(|c| c.weights = vec![1001]).contains("1001"));
        let pymemcache = |c: &mut MemcachePoolConfig| {
            c.weights = vec![2];
            c.routing = Routing::Pymemcache;
        };
        assert!(refusal(pymemcache).contains("`weights` is set"));
        assert!(refusal(|c| c.socket_timeout = Duration::ZERO).contains("socket_timeout"));
        assert!(refusal(|c| c.server_max_value_length = usize::MAX).contains("1 GiB"));
        assert!(refusal(|c| c.username = Some("u".into())).contains("`password` is not"));
        assert!(refusal(|c| c.password = Some("p".into())).contains("`username` is not"));
        let spaced = |c: &mut MemcachePoolConfig| {
            c.username = Some("a b".into());
            c.password = Some("p".into());
        };
        assert!(refusal(spaced).contains("\"a b\"; give a word without spaces"));
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
