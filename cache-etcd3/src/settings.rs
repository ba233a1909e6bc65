//! The configuration, checked.

use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use etcd_client::ConnectOptions;

use crate::config::{Consistency, DEFAULT_PORT, DEFAULT_TIMEOUT, Etcd3Config, StoredFormat};
use crate::format::Format;
use crate::{NAME, endpoint};

/// Longer than anybody waits, and well within what the clock can count.
const LONGEST_CALL: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the backend runs with.
pub(crate) struct Settings {
    /// Each with its scheme.
    pub(crate) endpoints: Vec<String>,
    pub(crate) prefix: String,
    pub(crate) ttl: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) serializable: bool,
    pub(crate) format: Format,
    pub(crate) connect: ConnectOptions,
    pub(crate) credentials: Option<Credentials>,
}

/// An etcd user. It has no `Debug` form: the password must not be seen.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Settings {
    pub(crate) fn new(config: Etcd3Config) -> Result<Self> {
        let endpoints = endpoints(&config)?;
        let serializable = config.consistency == Consistency::Serializable;
        let call_timeout = match (config.call_timeout, config.timeout) {
            (Some(Duration::ZERO), _) => {
                return Err(refuse("`call_timeout` is 0; give more than 0 seconds"));
            }
            (Some(call_timeout), _) => call_timeout.min(LONGEST_CALL),
            // No expiry is what a `timeout` of zero is for; calls end all the same.
            (None, Duration::ZERO) => DEFAULT_TIMEOUT,
            (None, timeout) => timeout.min(LONGEST_CALL),
        };
        Ok(Self {
            endpoints,
            ttl: config.ttl.unwrap_or(config.timeout),
            call_timeout,
            serializable,
            format: format(config.stored_format)?,
            connect: endpoint::connect_options(serializable, tls(&config)?),
            credentials: credentials(config.username, config.password)?,
            prefix: config.prefix,
        })
    }
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, NAME, message)
}

fn credentials(username: Option<String>, password: Option<String>) -> Result<Option<Credentials>> {
    match (username, password) {
        (None, None) => Ok(None),
        (Some(username), Some(password)) => Ok(Some(Credentials { username, password })),
        (Some(_), None) => Err(refuse("`username` is set and `password` is not; give both")),
        (None, Some(_)) => Err(refuse("`password` is set and `username` is not; give both")),
    }
}

#[cfg_attr(feature = "json", expect(clippy::unnecessary_wraps))]
fn format(stored: StoredFormat) -> Result<Format> {
    match stored {
        StoredFormat::Envelope => Ok(Format::Envelope),
        #[cfg(feature = "json")]
        StoredFormat::PythonJson => Ok(Format::PythonJson),
        #[cfg(not(feature = "json"))]
        StoredFormat::PythonJson => Err(refuse(
            "`stored_format` is python-json; turn on the feature `json` of cache-etcd3",
        )),
    }
}

fn endpoints(config: &Etcd3Config) -> Result<Vec<String>> {
    if config.endpoints.is_empty() {
        // An IPv6 address cannot be told from a port without brackets.
        let host = if config.host.contains(':') && !config.host.starts_with('[') {
            format!("[{}]", config.host)
        } else {
            config.host.clone()
        };
        let endpoint = format!("{host}:{}", config.port);
        return Ok(vec![url("host", &endpoint, config.tls_enabled)?]);
    }
    let endpoints = config.endpoints.iter();
    endpoints
        .map(|endpoint| url("endpoints", endpoint, config.tls_enabled))
        .collect()
}

/// `endpoint` with its scheme and its port.
fn url(field: &str, endpoint: &str, tls: bool) -> Result<String> {
    let refuse = |why: &str| {
        refuse(format!(
            "`{field}` has {endpoint:?}: {why}; write host:port, as in \"10.0.0.1:2379\""
        ))
    };
    let scheme = if tls { "https://" } else { "http://" };
    let authority = match endpoint.split_once("://") {
        None => endpoint,
        Some(("http", authority)) if !tls => authority,
        Some(("https", authority)) if tls => authority,
        Some(("http", _)) => return Err(refuse("`tls_enabled` is set, and this is without TLS")),
        Some(("https", _)) => return Err(refuse("this asks for TLS; set `tls_enabled`")),
        Some(_) => return Err(refuse("the scheme is neither http nor https")),
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = match authority.rsplit_once(':') {
        // The colon belongs to an IPv6 address.
        Some((_, rest)) if rest.ends_with(']') => (authority, None),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let port: u16 = match port.map(str::parse) {
        None => DEFAULT_PORT,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err(refuse("the port is no number from 1 to 65535")),
    };
    let is_name = |host: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !host.is_empty() && host.bytes().all(allowed)
    };
    let is_ipv6 = |host: &str| {
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
    };
    if !is_name(host) && !is_ipv6(host) {
        return Err(refuse("this is no host name and no address"));
    }
    Ok(format!("{scheme}{host}:{port}"))
}

#[cfg(not(feature = "tls"))]
pub(crate) type Tls = std::convert::Infallible;
#[cfg(feature = "tls")]
pub(crate) type Tls = etcd_client::TlsOptions;

#[cfg(not(feature = "tls"))]
fn tls(config: &Etcd3Config) -> Result<Option<Tls>> {
    if config.tls_enabled {
        return Err(refuse(
            "`tls_enabled` is set; turn on the feature `tls` of cache-etcd3",
        ));
    }
    refuse_tls_files(config)?;
    Ok(None)
}

#[cfg(feature = "tls")]
fn tls(config: &Etcd3Config) -> Result<Option<Tls>> {
    if !config.tls_enabled {
        refuse_tls_files(config)?;
        return Ok(None);
    }
    let mut tls = match &config.tls_cafile {
        None => Tls::new().with_native_roots(),
        Some(path) => Tls::new().ca_certificate(etcd_client::Certificate::from_pem(read(
            "tls_cafile",
            path,
        )?)),
    };
    match (&config.tls_certfile, &config.tls_keyfile) {
        (None, None) => {}
        (Some(certificate), Some(key)) => {
            let certificate = read("tls_certfile", certificate)?;
            let key = read("tls_keyfile", key)?;
            tls = tls.identity(etcd_client::Identity::from_pem(certificate, key));
        }
        _ => {
            return Err(refuse(
                "one of `tls_certfile` and `tls_keyfile` is set; give both or none",
            ));
        }
    }
    Ok(Some(tls))
}

/// Files for TLS that is off are a mistake that nobody would notice otherwise.
fn refuse_tls_files(config: &Etcd3Config) -> Result<()> {
    let files = [
        ("tls_cafile", &config.tls_cafile),
        ("tls_certfile", &config.tls_certfile),
        ("tls_keyfile", &config.tls_keyfile),
    ];
    match files.into_iter().find(|(_, file)| file.is_some()) {
        None => Ok(()),
        Some((field, _)) => Err(refuse(format!(
            "`{field}` is set and `tls_enabled` is not; set both or none"
        ))),
    }
}

#[cfg(feature = "tls")]
fn read(field: &str, path: &std::path::Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        refuse(format!(
            "cannot read `{field}`, {}: {error}",
            path.display()
        ))
        .with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Result<String> {
        url("endpoints", text, false)
    }

    #[test]
    fn endpoints_get_a_scheme_and_a_port() {
        for (text, expected) in [
            ("localhost", "http://localhost:2379"),
            ("10.0.0.1:4001", "http://10.0.0.1:4001"),
            ("http://etcd-0.etcd:2379", "http://etcd-0.etcd:2379"),
            ("http://etcd/", "http://etcd:2379"),
            ("[::1]", "http://[::1]:2379"),
            ("[::1]:1", "http://[::1]:1"),
        ] {
            assert_eq!(endpoint(text).unwrap(), expected);
        }
        assert_eq!(url("host", "a:1", true).unwrap(), "https://a:1");
        assert_eq!(url("host", "https://a:1", true).unwrap(), "https://a:1");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_by_name() {
        for (text, why) in [
            ("", "no host name"),
            (":2379", "no host name"),
            ("a b:2379", "no host name"),
            ("a:0", "port"),
            ("a:65536", "port"),
            ("a:http", "port"),
            ("::1", "no host name"),
            ("[::1", "no host name"),
            ("user:secret@a:1", "no host name"),
            ("a/b:1", "no host name"),
            ("unix:/tmp/x", "port"),
            ("ftp://a", "neither http nor https"),
            ("https://a", "tls_enabled"),
        ] {
            let error = endpoint(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.message().contains("`endpoints`"), "{error}");
            assert!(error.message().contains(why), "{text}: {error}");
        }
        assert!(url("host", "http://a", true).is_err());
    }

    #[test]
    fn timeout_stands_for_what_is_not_set() {
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
