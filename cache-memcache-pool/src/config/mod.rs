//! [`MemcachePoolConfig`], the configuration as plain data.

mod address;
mod error;
mod field;
mod protocol;
mod python_client;
mod settings;
#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cache_core::{Result, seconds};
use serde::{Deserialize, Serialize};

pub(crate) use address::{Address, Family};
pub(crate) use error::bad_config;
pub use protocol::Protocol;
pub use python_client::PythonClient;
pub(crate) use settings::{Hooks, Settings, Timeouts, Transport};

use crate::protocol::StoredFormat;
use crate::router::Routing;

/// The configuration of the backend, which serde reads from a configuration file.
///
/// Arguments of Python's `PooledMemcachedBackend` keep their names. In a file durations are numbers
/// of seconds, fractions allowed; an unknown field is an error.
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
    reason = "they are independent switches of a configuration file"
)]
pub struct MemcachePoolConfig {
    /// The servers: `host:port`, `[::1]:11211`, `unix:/path`; the default port is 11211. A prefix
    /// `inet:` or `inet6:` selects the IPv4 or the IPv6 addresses of a name. A file may also give
    /// it as one comma-separated string. Default: `localhost:11211`.
    #[serde(deserialize_with = "field::url")]
    pub url: Vec<String>,
    /// The share of keys of each server in `url`, relative to the others; 0: none. Empty: equal
    /// shares. Default: empty.
    #[serde(deserialize_with = "field::weights")]
    pub weights: Vec<u32>,
    /// The most connections to one server from each Tokio runtime, apart from a temporary one that
    /// checks whether the server responds; zero: no limit. Default: 10.
    #[serde(deserialize_with = "field::pool_maxsize")]
    pub pool_maxsize: usize,
    /// A connection that has been idle for this long is closed. Default: 60 s.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::pool_unused_timeout"
    )]
    pub pool_unused_timeout: Duration,
    /// How long a call waits when all connections are at capacity, before it fails with
    /// [`ErrorKind::PoolExhausted`](cache_core::ErrorKind::PoolExhausted). Default: 10 s.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::pool_connection_get_timeout"
    )]
    pub pool_connection_get_timeout: Duration,
    /// The longest wait before a server that is down is tried again. The first wait is 0.1 s, and
    /// each further wait is twice as long. Default: 300 s.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::dead_retry"
    )]
    pub dead_retry: Duration,
    /// How long connecting may take, and how long a server may be silent while a response is
    /// pending. A call takes at most twice as long in total, plus
    /// `pool_connection_get_timeout` if it has to wait for room. Must be positive. Default: 3 s.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::socket_timeout"
    )]
    pub socket_timeout: Duration,
    /// Whether a server that was down is flushed before it is read from. Otherwise it may serve
    /// values from before the outage that were replaced elsewhere meanwhile. A server that refuses
    /// to be flushed, such as memcached with `-F` or twemproxy, stays down. Default: false.
    #[serde(deserialize_with = "field::pool_flush_on_reconnect")]
    pub pool_flush_on_reconnect: bool,
    /// Whether the values that a server had before an outage are treated as expired, so that
    /// values that were replaced or deleted elsewhere meanwhile do not reappear. Nothing is
    /// flushed. A mark on the server applies to all processes with this setting, whose clocks must
    /// agree; each read requests the mark, too. Default: false.
    #[serde(deserialize_with = "field::pool_expire_on_reconnect")]
    pub pool_expire_on_reconnect: bool,
    /// The largest stored value in bytes, including metadata. Larger values are refused before
    /// they are sent. Zero: memcached's maximum, 1 GiB. Default: 1 MiB, which is memcached's own
    /// default.
    #[serde(deserialize_with = "field::server_max_value_length")]
    pub server_max_value_length: usize,
    /// The lifetime of values that do not set one; zero: they do not expire. Default: zero.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::memcached_expire_time"
    )]
    pub memcached_expire_time: Duration,
    /// The user name for memcached's ASCII authentication. Default: none.
    #[serde(deserialize_with = "field::username")]
    pub username: Option<String>,
    /// The user's password. Deserialized, but never serialized. Default: none.
    #[serde(skip_serializing, deserialize_with = "field::password")]
    pub password: Option<String>,
    /// Whether connections use TLS. Requires the feature `tls`. Default: false.
    #[serde(deserialize_with = "field::tls_enabled")]
    pub tls_enabled: bool,
    /// A PEM file with the certificate authorities (or the certificates themselves) to trust.
    /// Default: the system's.
    #[serde(deserialize_with = "field::tls_cafile")]
    pub tls_cafile: Option<PathBuf>,
    /// The name that the servers' certificates must contain. Default: the host of each server's
    /// address.
    #[serde(deserialize_with = "field::tls_server_name")]
    pub tls_server_name: Option<String>,
    /// A PEM file with the client certificate to present. Default: none.
    #[serde(deserialize_with = "field::tls_certfile")]
    pub tls_certfile: Option<PathBuf>,
    /// A PEM file with the private key of `tls_certfile`. Default: `tls_certfile`, which may
    /// contain both.
    #[serde(deserialize_with = "field::tls_keyfile")]
    pub tls_keyfile: Option<PathBuf>,
    /// Whether the server's certificate is verified. Without verification anyone on the network
    /// path can read and change all data. Default: true.
    #[serde(deserialize_with = "field::tls_verify")]
    pub tls_verify: bool,
    /// Which server stores which key. Default: consistent.
    #[serde(deserialize_with = "field::routing")]
    pub routing: Routing,
    /// Whether the keys of a server that is down go to other servers. Default: true.
    #[serde(deserialize_with = "field::failover")]
    pub failover: bool,
    /// What is spoken to the servers. Default: meta.
    #[serde(deserialize_with = "field::protocol")]
    pub protocol: Protocol,
    /// What is stored under a key. Default: the envelope.
    #[serde(deserialize_with = "field::stored_format")]
    pub stored_format: StoredFormat,
    /// The client of Python programs that share the cache. Default: python-memcached.
    #[serde(deserialize_with = "field::python_client")]
    pub python_client: PythonClient,
    /// Values of at least this many bytes, including metadata, are compressed with zlib if that
    /// makes them shorter; zero: none are. `server_max_value_length` applies before compression.
    /// Requires the feature `zlib`, as does reading compressed values. Default: zero.
    #[serde(deserialize_with = "field::min_compress_len")]
    pub min_compress_len: usize,
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

impl MemcachePoolConfig {
    /// Checks the fields, and parses the addresses.
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

/// A warning about fields without effect, if there are any.
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

/// The maximum of memcached's `-I`.
const MAX_ITEM: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use cache_core::ErrorKind;
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
    fn durations_are_seconds_and_url_is_a_string_or_a_list() {
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
    fn numbers_switches_and_lists_may_be_text() {
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
    fn invalid_text_is_refused_and_the_field_is_named() {
        for (name, invalid) in [
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
            let field = MapDeserializer::<_, ValueError>::new([(name, invalid)].into_iter());
            let error = MemcachePoolConfig::deserialize(field).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("`{name}`: ")), "{error}");
            assert!(error.contains(invalid), "{error}");
        }
    }

    #[test]
    fn every_error_names_its_field() {
        let unknown = number("?", 1.0).unwrap_err().to_string();
        // Every other part is the name of a field.
        let fields: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
        assert!(fields.len() > 20, "{unknown}");
        for field in fields {
            // A list containing null is invalid for every field.
            let given = MapDeserializer::<_, ValueError>::new([(field, vec![()])].into_iter());
            let error = MemcachePoolConfig::deserialize(given).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("`{field}`: ")), "{error}");
        }
    }

    #[test]
    fn tls_files_without_tls_have_no_effect() {
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
    fn invalid_fields_are_refused_and_named() {
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
        assert!(refusal(spaced).contains("\"a b\"; use a name without spaces"));
    }

    #[test]
    fn the_password_is_not_shown() {
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
