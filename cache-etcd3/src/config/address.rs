//! Parsing and checking of endpoint addresses.

use cache_core::Result;

use super::{DEFAULT_HOST, DEFAULT_PORT, Etcd3Config, refuse};

/// The endpoints, each with scheme and port.
pub(crate) fn urls(config: &Etcd3Config) -> Result<Vec<String>> {
    if config.endpoints.is_empty() {
        return Ok(vec![host_url(config)?]);
    }
    let mut urls: Vec<String> = Vec::with_capacity(config.endpoints.len());
    for endpoint in &config.endpoints {
        let url = url(endpoint, config.tls_enabled)?;
        if let Some(same) = urls.iter().find(|known| member(known) == member(&url)) {
            let message =
                format!("`endpoints` lists {url} twice (first as {same}); list each member once");
            return Err(refuse(message));
        }
        urls.push(url);
    }
    Ok(urls)
}

/// A URL in normal form, to detect duplicates without a DNS lookup: this machine has several
/// names, and a name may end in a dot.
fn member(url: &str) -> String {
    const THIS_MACHINE: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
    let (scheme, authority) = url.split_once("://").unwrap_or(("", url));
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = if THIS_MACHINE.contains(&host) {
        "localhost"
    } else {
        host
    };
    format!("{scheme}://{host}:{port}")
}

/// Harmless oddities, reported as warnings.
pub(crate) fn warnings(config: &Etcd3Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let is_default = config.host == DEFAULT_HOST && config.port == DEFAULT_PORT;
    if !config.endpoints.is_empty() && !is_default {
        warnings.push(format!(
            "`host` and `port` have no effect: `endpoints` is set; add {}:{} to it, or leave them \
             unset",
            without_user(&config.host),
            config.port
        ));
    }
    let files = [
        ("tls_cafile", &config.tls_cafile),
        ("tls_certfile", &config.tls_certfile),
        ("tls_keyfile", &config.tls_keyfile),
    ];
    for (field, file) in files {
        if file.is_some() && !config.tls_enabled {
            warnings.push(format!(
                "`{field}` has no effect: `tls_enabled` is false, so connections are not \
                 encrypted; set it, or leave `{field}` unset"
            ));
        }
    }
    warnings
}

const fn scheme(tls: bool) -> &'static str {
    if tls { "https://" } else { "http://" }
}

/// The server of `host` and `port`.
fn host_url(config: &Etcd3Config) -> Result<String> {
    let Etcd3Config { host, port, .. } = config;
    if *port == 0 {
        return Err(refuse("`port` is 0; use a number from 1 to 65535"));
    }
    let scheme = scheme(config.tls_enabled);
    if is_ipv6(host) {
        return Ok(format!("{scheme}[{host}]:{port}"));
    }
    if is_name(host) || is_bracketed(host) {
        return Ok(format!("{scheme}{}:{port}", host.to_ascii_lowercase()));
    }
    let why = if host.is_empty() {
        "it is empty"
    } else {
        "it is neither a host name nor an address"
    };
    Err(refuse(format!(
        "`host` is {:?}: {why}; use a name or an address alone, as in \"10.0.0.1\", and set \
         `port`, `tls_enabled`, `username` and `password` for the rest",
        without_user(host)
    )))
}

/// An endpoint with scheme and port.
fn url(endpoint: &str, tls: bool) -> Result<String> {
    let refuse = |why: &str| {
        refuse(format!(
            "`endpoints` contains {:?}: {why}; use host:port, as in \"10.0.0.1:2379\"",
            without_user(endpoint)
        ))
    };
    if endpoint.contains(',') {
        return Err(refuse("members must be separate entries"));
    }
    let authority = match endpoint.split_once("://") {
        None => endpoint,
        Some(("http", authority)) if !tls => authority,
        Some(("https", authority)) if tls => authority,
        Some(("http", _)) => return Err(refuse("the scheme is http, but `tls_enabled` is set")),
        Some(("https", _)) => {
            return Err(refuse("the scheme is https, but `tls_enabled` is not set"));
        }
        Some(_) => return Err(refuse("unexpected URL scheme")),
    };
    if authority.contains('@') {
        return Err(refuse("credentials belong in `username` and `password`"));
    }
    if is_ipv6(authority) {
        return Err(refuse(
            "IPv6 addresses must be in brackets, as in [::1]:2379",
        ));
    }
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains('/') {
        return Err(refuse("a path is not allowed"));
    }
    let (host, port) = match authority.rsplit_once(':') {
        // The colon is part of an IPv6 address.
        Some((_, rest)) if rest.ends_with(']') => (authority, None),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if !is_name(host) && !is_bracketed(host) {
        return Err(refuse("it contains neither a host name nor an address"));
    }
    let port: u16 = match port.map(str::parse) {
        None => DEFAULT_PORT,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err(refuse("the port must be a number from 1 to 65535")),
    };
    Ok(format!(
        "{}{}:{port}",
        scheme(tls),
        host.to_ascii_lowercase()
    ))
}

fn is_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let labels = host.strip_suffix('.').unwrap_or(host);
    let has_empty_label = labels.split('.').any(str::is_empty);
    !has_empty_label && host.bytes().all(allowed)
}

fn is_ipv6(host: &str) -> bool {
    host.parse::<std::net::Ipv6Addr>().is_ok()
}

fn is_bracketed(host: &str) -> bool {
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    address.is_some_and(is_ipv6)
}

/// An address for messages: without the credentials before an `@`.
fn without_user(address: &str) -> String {
    match address.rsplit_once('@') {
        None => address.to_owned(),
        Some((_, address)) => format!("…@{address}"),
    }
}

#[cfg(test)]
mod tests {
    use cache_core::ErrorKind;

    use super::*;

    fn endpoint(text: &str) -> Result<String> {
        url(text, false)
    }

    #[test]
    fn endpoints_get_a_scheme_and_a_port() {
        for (text, expected) in [
            ("localhost", "http://localhost:2379"),
            ("10.0.0.1:4001", "http://10.0.0.1:4001"),
            ("http://etcd-0.etcd:2379", "http://etcd-0.etcd:2379"),
            ("http://etcd/", "http://etcd:2379"),
            ("Etcd.Example", "http://etcd.example:2379"),
            ("[::1]", "http://[::1]:2379"),
            ("[::1]:1", "http://[::1]:1"),
        ] {
            assert_eq!(endpoint(text).unwrap(), expected);
        }
        assert_eq!(url("a:1", true).unwrap(), "https://a:1");
        assert_eq!(url("https://a:1", true).unwrap(), "https://a:1");
    }

    #[test]
    fn invalid_endpoints_are_refused_and_named() {
        for (text, why) in [
            ("", "neither a host name"),
            (":2379", "neither a host name"),
            ("a b:2379", "neither a host name"),
            ("a..b:2379", "neither a host name"),
            (".a", "neither a host name"),
            ("a:0", "port"),
            ("a:65536", "port"),
            ("a:http", "port"),
            ("::1", "in brackets"),
            ("[::1", "neither a host name"),
            ("user:secret@a:1", "`username` and `password`"),
            ("a/b:1", "a path is not allowed"),
            ("a:1/b", "a path is not allowed"),
            ("a:1,b:1", "separate entries"),
            ("unix:/tmp/x", "a path is not allowed"),
            ("ftp://a", "unexpected URL scheme"),
            ("https://a", "tls_enabled"),
        ] {
            let error = endpoint(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.message().contains("`endpoints`"), "{error}");
            assert!(error.message().contains(why), "{text}: {error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
        assert!(url("http://a", true).is_err());
    }

    fn refusal(config: &Etcd3Config) -> String {
        let error = urls(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        error.message().to_owned()
    }

    #[test]
    fn a_host_is_a_name_or_an_address_without_port_or_scheme() {
        let of = |host: &str| Etcd3Config {
            host: host.to_owned(),
            ..Etcd3Config::default()
        };
        for (host, expected) in [
            ("a.example", "http://a.example:2379"),
            ("10.0.0.1", "http://10.0.0.1:2379"),
            ("::1", "http://[::1]:2379"),
            ("[::1]", "http://[::1]:2379"),
        ] {
            assert_eq!(urls(&of(host)).unwrap(), [expected]);
        }
        for (host, why) in [
            ("", "is empty"),
            ("http://a", "\"http://a\": it is neither a host name"),
            ("a:2379", "\"a:2379\": it is neither a host name"),
            ("a b", "\"a b\": it is neither a host name"),
            ("user:secret@a", "\"…@a\": it is neither a host name"),
        ] {
            let message = refusal(&of(host));
            assert!(message.starts_with("`host`"), "{message}");
            assert!(message.contains(why), "{message}");
            assert!(message.contains("alone, as in \"10.0.0.1\""), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
        let message = refusal(&Etcd3Config {
            port: 0,
            ..Etcd3Config::default()
        });
        assert!(message.contains("`port` is 0"), "{message}");
    }

    #[test]
    fn a_member_listed_twice_is_refused() {
        for twice in [
            ["a:1", "a:1"],
            ["a", "http://A:2379/"],
            ["a.example.:1", "a.example:1"],
            ["localhost", "127.0.0.1:2379"],
            ["[::1]:1", "localhost:1"],
        ] {
            let message = refusal(&Etcd3Config {
                endpoints: twice.map(str::to_owned).into(),
                ..Etcd3Config::default()
            });
            assert!(message.contains("list each member once"), "{message}");
        }
    }

    #[test]
    fn a_host_beside_endpoints_causes_a_warning() {
        let beside = Etcd3Config {
            host: "user:secret@a".to_owned(),
            endpoints: vec!["b:1".to_owned()],
            ..Etcd3Config::default()
        };
        let warnings = warnings(&beside);
        assert!(warnings[0].contains("`endpoints`"), "{warnings:?}");
        assert!(!warnings[0].contains("secret"), "{warnings:?}");
    }
}
