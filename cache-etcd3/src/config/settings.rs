//! [`Settings`]: the checked configuration.

use std::time::Duration;

use cache_core::Result;
use etcd_client::ConnectOptions;

use super::stored_format::Format;
use super::{Consistency, DEFAULT_TIMEOUT, Etcd3Config, StoredFormat, address, refuse};

/// An upper bound that the clock can represent.
const LONGEST_CALL: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the backend runs with.
pub(crate) struct Settings {
    /// Each with its scheme.
    pub(crate) endpoints: Vec<String>,
    pub(crate) prefix: String,
    pub(crate) ttl: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) serializable: bool,
    pub(crate) refuse_late_writes: bool,
    pub(crate) max_request_bytes: usize,
    pub(crate) format: Format,
    pub(crate) connect: ConnectOptions,
    pub(crate) credentials: Option<Credentials>,
    /// Harmless oddities of the configuration.
    pub(crate) warnings: Vec<String>,
}

/// An etcd user. Does not implement `Debug`, which could show the password.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Settings {
    pub(crate) fn new(config: Etcd3Config) -> Result<Self> {
        let endpoints = address::urls(&config)?;
        let warnings = address::warnings(&config);
        if config.max_request_bytes == 0 {
            return Err(refuse(
                "`max_request_bytes` is 0; use the servers' --max-request-bytes",
            ));
        }
        let serializable = config.consistency == Consistency::Serializable;
        let call_timeout = match (config.call_timeout, config.timeout) {
            (Some(Duration::ZERO), _) => {
                return Err(refuse("`call_timeout` is 0; it must be positive"));
            }
            (Some(call_timeout), _) => call_timeout.min(LONGEST_CALL),
            // A `timeout` of zero disables expiry, not the timeout of calls.
            (None, Duration::ZERO) => DEFAULT_TIMEOUT,
            (None, timeout) => timeout.min(LONGEST_CALL),
        };
        Ok(Self {
            endpoints,
            warnings,
            ttl: config.ttl.unwrap_or(config.timeout),
            call_timeout,
            serializable,
            refuse_late_writes: config.refuse_late_writes,
            max_request_bytes: config.max_request_bytes,
            format: format(config.stored_format)?,
            connect: connect_options(serializable, tls(&config)?),
            credentials: credentials(config.username, config.password)?,
            prefix: config.prefix,
        })
    }
}

fn credentials(username: Option<String>, password: Option<String>) -> Result<Option<Credentials>> {
    match (username, password) {
        (None, None) => Ok(None),
        (Some(username), _) if username.is_empty() => Err(refuse(
            "`username` is empty; name a user, or leave it unset",
        )),
        (Some(username), Some(password)) => Ok(Some(Credentials { username, password })),
        (Some(_), None) => Err(refuse(
            "`username` is set but `password` is not; set both or neither",
        )),
        (None, Some(_)) => Err(refuse(
            "`password` is set but `username` is not; set both or neither",
        )),
    }
}

#[cfg_attr(feature = "json", expect(clippy::unnecessary_wraps))]
fn format(stored: StoredFormat) -> Result<Format> {
    match stored {
        StoredFormat::Envelope => Ok(Format::Envelope),
        StoredFormat::Raw => Ok(Format::Raw),
        #[cfg(feature = "json")]
        StoredFormat::PythonJson => Ok(Format::PythonJson),
        #[cfg(not(feature = "json"))]
        StoredFormat::PythonJson => Err(refuse(
            "`stored_format` \"python-json\" requires the feature `json` of cache-etcd3; enable it",
        )),
    }
}

/// How the clients connect. Pings are sent only while a request is in flight: etcd closes idle
/// connections that send pings more often than every five seconds.
fn connect_options(serializable: bool, tls: Option<Tls>) -> ConnectOptions {
    const PING_AFTER: Duration = Duration::from_secs(6);
    const PONG_WITHIN: Duration = Duration::from_secs(3);
    const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);
    let options = ConnectOptions::new()
        .with_keep_alive(PING_AFTER, PONG_WITHIN)
        .with_keep_alive_while_idle(false)
        .with_tcp_keepalive(TCP_KEEP_ALIVE)
        // Reports a lost quorum immediately, but would then refuse serializable reads.
        .with_require_leader(!serializable);
    #[cfg(feature = "tls")]
    if let Some(tls) = tls {
        return options.with_tls(tls);
    }
    #[cfg(not(feature = "tls"))]
    let _ = tls;
    options
}

#[cfg(not(feature = "tls"))]
type Tls = std::convert::Infallible;
#[cfg(feature = "tls")]
type Tls = etcd_client::TlsOptions;

#[cfg(not(feature = "tls"))]
fn tls(config: &Etcd3Config) -> Result<Option<Tls>> {
    if config.tls_enabled {
        return Err(refuse(
            "`tls_enabled` requires the feature `tls` of cache-etcd3; enable it",
        ));
    }
    Ok(None)
}

#[cfg(feature = "tls")]
fn tls(config: &Etcd3Config) -> Result<Option<Tls>> {
    if !config.tls_enabled {
        return Ok(None);
    }
    let mut tls = match &config.tls_cafile {
        None => Tls::new().with_native_roots(),
        Some(path) => Tls::new().ca_certificate(etcd_client::Certificate::from_pem(read(
            "tls_cafile",
            path,
            CERTIFICATE,
        )?)),
    };
    match (&config.tls_certfile, &config.tls_keyfile) {
        (None, None) => {}
        (Some(certificate), key) => {
            let pem = read("tls_certfile", certificate, CERTIFICATE)?;
            let key = match key {
                Some(key) => read("tls_keyfile", key, PRIVATE_KEY)?,
                // One file may hold both.
                None => read("tls_certfile", certificate, PRIVATE_KEY)?,
            };
            tls = tls.identity(etcd_client::Identity::from_pem(pem, key));
        }
        (None, Some(_)) => {
            return Err(refuse(
                "`tls_keyfile` is set but `tls_certfile` is not; set both or neither",
            ));
        }
    }
    Ok(Some(tls))
}

/// The ends of PEM headers. There are several kinds of keys.
#[cfg(feature = "tls")]
const CERTIFICATE: &str = "CERTIFICATE-----";
#[cfg(feature = "tls")]
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// The content of a file that contains at least one `item`. An empty list of authorities would
/// otherwise fail only later, and without naming the file.
#[cfg(feature = "tls")]
fn read(field: &str, path: &std::path::Path, item: &str) -> Result<Vec<u8>> {
    let path_shown = path.display();
    let content = std::fs::read(path).map_err(|error| {
        refuse(format!("cannot read `{field}` {path_shown}: {error}")).with_source(error)
    })?;
    if holds(&String::from_utf8_lossy(&content), item) {
        return Ok(content);
    }
    let item = item.trim_end_matches('-').to_lowercase();
    Err(refuse(format!(
        "`{field}` {path_shown} contains no {item} in PEM format, or a damaged one"
    )))
}

/// Whether the first `item` in a PEM file is complete.
#[cfg(feature = "tls")]
fn holds(text: &str, item: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    let mut lines = text.lines().map(str::trim_end);
    let begins = |line: &str| line.starts_with("-----BEGIN ") && line.ends_with(item);
    if !lines.any(begins) {
        return false;
    }
    let rest = lines.find(|line| !line.bytes().all(is_base64));
    rest.is_some_and(|line| line.starts_with("-----END ") && line.ends_with(item))
}

#[cfg(test)]
mod tests {
    use cache_core::ErrorKind;

    use super::*;

    fn refusal(config: Etcd3Config) -> String {
        let error = Settings::new(config).err().expect("it is invalid");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        error.message().to_owned()
    }

    #[test]
    fn a_user_without_a_name_is_refused() {
        let message = refusal(Etcd3Config {
            username: Some(String::new()),
            password: Some("secret".to_owned()),
            ..Etcd3Config::default()
        });
        assert!(message.contains("`username` is empty"), "{message}");
    }

    #[test]
    fn max_request_bytes_zero_is_refused() {
        let message = refusal(Etcd3Config {
            max_request_bytes: 0,
            ..Etcd3Config::default()
        });
        assert!(message.contains("`max_request_bytes` is 0"), "{message}");
    }

    #[test]
    fn timeout_is_the_default_of_ttl_and_call_timeout() {
        let settings = |config| Settings::new(config).unwrap();
        let seconds = Duration::from_secs;
        let of = |timeout, ttl, call_timeout| {
            let settings = settings(Etcd3Config {
                timeout,
                ttl,
                call_timeout,
                ..Etcd3Config::default()
            });
            (settings.ttl, settings.call_timeout)
        };
        assert_eq!(of(seconds(5), None, None), (seconds(5), seconds(5)));
        assert_eq!(
            of(seconds(5), Some(seconds(1)), None),
            (seconds(1), seconds(5))
        );
        assert_eq!(
            of(seconds(5), None, Some(seconds(1))),
            (seconds(5), seconds(1))
        );
        assert_eq!(of(seconds(0), None, None), (seconds(0), DEFAULT_TIMEOUT));
        let zero = Etcd3Config {
            call_timeout: Some(seconds(0)),
            ..Etcd3Config::default()
        };
        assert!(
            Settings::new(zero)
                .err()
                .unwrap()
                .message()
                .contains("call_timeout")
        );
    }
}
