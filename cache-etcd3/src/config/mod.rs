//! [`Etcd3Config`], the configuration as plain data.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cache_core::{Error, ErrorKind, seconds};
use serde::{Deserialize, Serialize};

use crate::NAME;

mod address;
mod consistency;
mod field;
pub(crate) mod optional_seconds;
mod settings;
mod stored_format;

pub use consistency::Consistency;
pub(crate) use settings::{Credentials, Settings};
pub(crate) use stored_format::Format;
pub use stored_format::StoredFormat;

/// The error for an invalid field.
fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, NAME, message)
}

/// etcd's own default.
const DEFAULT_MAX_REQUEST_BYTES: usize = 1536 * 1024;
const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 2379;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The configuration of the backend, which serde reads from a configuration file.
///
/// Arguments of Python's `Etcd3gwCacheBackend` keep their names. In a file durations are numbers
/// of seconds, fractions allowed; an unknown field is an error.
///
/// ```
/// use std::time::Duration;
/// use cache_etcd3::{Etcd3Backend, Etcd3Config};
///
/// let mut config = Etcd3Config::default();
/// config.endpoints = vec!["10.0.0.1:2379".into(), "10.0.0.2:2379".into(), "10.0.0.3:2379".into()];
/// config.ttl = Some(Duration::from_secs(600));
/// config.call_timeout = Some(Duration::from_secs(5));
/// let cache = Etcd3Backend::from_config(config)?;
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Etcd3Config {
    /// The server: a host name or an address. Default: `localhost`.
    #[serde(deserialize_with = "field::host")]
    pub host: String,
    /// The server's port. Default: 2379.
    #[serde(deserialize_with = "field::port")]
    pub port: u16,
    /// The members of a cluster: `host:port`, `[::1]:2379`, `http://host:port`; the default port
    /// is 2379. If it is not empty, `host` and `port` have no effect. A file may also give it as
    /// one comma-separated string. Default: empty.
    #[serde(deserialize_with = "field::endpoints")]
    pub endpoints: Vec<String>,
    /// As in oslo.cache, the default of both `ttl` and `call_timeout`. Zero: values do not expire,
    /// and calls time out after 30 seconds. Default: 30 seconds.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "field::timeout"
    )]
    pub timeout: Duration,
    /// The lifetime of values that do not set one; zero: they do not expire. Default: `timeout`.
    #[serde(
        serialize_with = "optional_seconds::serialize",
        deserialize_with = "field::ttl"
    )]
    pub ttl: Option<Duration>,
    /// The longest time that a call takes, including connecting, failover and retries. Must be
    /// positive. Default: `timeout`.
    #[serde(
        serialize_with = "optional_seconds::serialize",
        deserialize_with = "field::call_timeout"
    )]
    pub call_timeout: Option<Duration>,
    /// Prepended to each key, without a separator. Default: empty.
    #[serde(deserialize_with = "field::prefix")]
    pub prefix: String,
    /// The name of an etcd user. Default: none.
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
    /// A PEM file with the client certificate to present. Default: none.
    #[serde(deserialize_with = "field::tls_certfile")]
    pub tls_certfile: Option<PathBuf>,
    /// A PEM file with the private key of `tls_certfile`. Default: `tls_certfile`, which may
    /// contain both.
    #[serde(deserialize_with = "field::tls_keyfile")]
    pub tls_keyfile: Option<PathBuf>,
    /// The consistency of reads. Default: linearizable.
    #[serde(deserialize_with = "field::consistency")]
    pub consistency: Consistency,
    /// What is stored under a key. Default: the envelope.
    #[serde(deserialize_with = "field::stored_format")]
    pub stored_format: StoredFormat,
    /// The largest request that the servers accept, in bytes: their `--max-request-bytes`. Larger
    /// values are refused before they are sent. Default: 1.5 MiB, as etcd's.
    #[serde(deserialize_with = "field::max_request_bytes")]
    pub max_request_bytes: usize,
    /// Whether etcd refuses a write that arrives after a newer one, for example from a member that
    /// hung with the request. Requires permission to read. Default: true.
    #[serde(deserialize_with = "field::refuse_late_writes")]
    pub refuse_late_writes: bool,
}

impl Default for Etcd3Config {
    fn default() -> Self {
        Self {
            host: DEFAULT_HOST.to_owned(),
            port: DEFAULT_PORT,
            endpoints: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            ttl: None,
            call_timeout: None,
            prefix: String::new(),
            username: None,
            password: None,
            tls_enabled: false,
            tls_cafile: None,
            tls_certfile: None,
            tls_keyfile: None,
            consistency: Consistency::default(),
            stored_format: StoredFormat::default(),
            max_request_bytes: DEFAULT_MAX_REQUEST_BYTES,
            refuse_late_writes: true,
        }
    }
}

impl fmt::Debug for Etcd3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd3Config")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("endpoints", &self.endpoints)
            .field("timeout", &self.timeout)
            .field("ttl", &self.ttl)
            .field("call_timeout", &self.call_timeout)
            .field("prefix", &self.prefix)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("tls_enabled", &self.tls_enabled)
            .field("tls_cafile", &self.tls_cafile)
            .field("tls_certfile", &self.tls_certfile)
            .field("tls_keyfile", &self.tls_keyfile)
            .field("consistency", &self.consistency)
            .field("stored_format", &self.stored_format)
            .field("max_request_bytes", &self.max_request_bytes)
            .field("refuse_late_writes", &self.refuse_late_writes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, MapDeserializer};
    use serde::de::{Deserializer, IntoDeserializer, Visitor};

    use super::*;

    /// A number or a string of a configuration file.
    #[derive(Clone, Copy)]
    enum Given {
        Number(f64),
        Text(&'static str),
    }

    impl IntoDeserializer<'_, Error> for Given {
        type Deserializer = Self;

        fn into_deserializer(self) -> Self {
            self
        }
    }

    impl<'de> Deserializer<'de> for Given {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self {
                Self::Number(number) => visitor.visit_f64(number),
                Self::Text(text) => visitor.visit_str(text),
            }
        }

        fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_some(self)
        }

        fn deserialize_newtype_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            visitor: V,
        ) -> Result<V::Value, Error> {
            visitor.visit_newtype_struct(self)
        }

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            name: &'static str,
            variants: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            match self {
                Self::Text(text) => {
                    let text: serde::de::value::StrDeserializer<'_, Error> =
                        text.into_deserializer();
                    text.deserialize_enum(name, variants, visitor)
                }
                Self::Number(_) => self.deserialize_any(visitor),
            }
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit
            unit_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }

    fn read<const N: usize>(fields: [(&'static str, Given); N]) -> Result<Etcd3Config, Error> {
        Etcd3Config::deserialize(MapDeserializer::new(fields.into_iter()))
    }

    #[test]
    fn missing_fields_have_their_defaults() {
        let config = read([]).unwrap();
        assert_eq!(config, Etcd3Config::default());
        assert_eq!((config.host.as_str(), config.port), ("localhost", 2379));
        assert_eq!(config.timeout, Duration::from_secs(30));
    }

    #[test]
    fn durations_are_seconds_and_choices_are_names() {
        let config = read([
            ("timeout", Given::Number(5.0)),
            ("ttl", Given::Number(0.25)),
            ("prefix", Given::Text("p/")),
            ("consistency", Given::Text("serializable")),
            ("stored_format", Given::Text("python-json")),
        ])
        .unwrap();
        assert_eq!(config.timeout, Duration::from_secs(5));
        assert_eq!(config.ttl, Some(Duration::from_millis(250)));
        assert_eq!(config.call_timeout, None);
        assert_eq!(config.prefix, "p/");
        assert_eq!(config.consistency, Consistency::Serializable);
        assert_eq!(config.stored_format, StoredFormat::PythonJson);
    }

    #[test]
    fn numbers_and_lists_may_be_text() {
        let config = read([
            ("timeout", Given::Text("600")),
            ("port", Given::Text("2379")),
            ("endpoints", Given::Text("a:1, b:2")),
            ("refuse_late_writes", Given::Text("no")),
        ])
        .unwrap();
        assert_eq!(config.timeout, Duration::from_secs(600));
        assert_eq!(config.port, 2379);
        assert_eq!(config.endpoints, ["a:1", "b:2"]);
        assert!(!config.refuse_late_writes);
        let error = read([("port", Given::Text("70000"))]).unwrap_err();
        assert!(error.to_string().contains("70000"), "{error}");
    }

    #[test]
    fn invalid_fields_are_refused() {
        for (field, given, why) in [
            ("timeuot", Given::Number(5.0), "unknown field `timeuot`"),
            (
                "ttl",
                Given::Number(-1.0),
                "`ttl`: -1 is not a valid duration",
            ),
            (
                "call_timeout",
                Given::Number(f64::NAN),
                "`call_timeout`: NaN is not a valid duration",
            ),
            (
                "timeout",
                Given::Text("abc"),
                "`timeout`: invalid value: string \"abc\"",
            ),
            (
                "port",
                Given::Number(1.5),
                "`port`: invalid type: floating point `1.5`",
            ),
            (
                "consistency",
                Given::Text("none"),
                "`consistency`: unknown variant `none`",
            ),
        ] {
            let error = read([(field, given)]).unwrap_err().to_string();
            assert!(error.contains(why), "{field}: {error}");
        }
    }

    #[test]
    fn every_error_names_its_field() {
        let unknown = read([("?", Given::Number(1.0))]).unwrap_err().to_string();
        // Every other part is the name of a field.
        let fields: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
        assert!(fields.len() > 15, "{unknown}");
        for field in fields {
            // A list containing null is invalid for every field.
            let given = MapDeserializer::<_, Error>::new([(field, vec![()])].into_iter());
            let error = Etcd3Config::deserialize(given).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{field}`: ")), "{error}");
        }
    }

    #[cfg(feature = "json")]
    #[test]
    fn the_password_is_deserialized_but_not_serialized() {
        let config: Etcd3Config =
            serde_json::from_str(r#"{"username": "user", "password": "secret"}"#).unwrap();
        assert_eq!(config.password.as_deref(), Some("secret"));
        let written = serde_json::to_string(&config).unwrap();
        assert!(
            written.contains("user") && !written.contains("secret"),
            "{written}"
        );
    }
}
