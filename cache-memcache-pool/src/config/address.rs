//! [`Address`]: `host:port`, `[v6]:port`, `unix:/path`.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use cache_core::Result;

use super::error::bad_config;
use crate::router::Routing;

const DEFAULT_PORT: u16 = 11211;

/// The address of one server. Its text form identifies the server, however it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp {
        host: String,
        port: u16,
        family: Family,
    },
    Unix(PathBuf),
}

/// Which addresses of a host are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Any,
    V4,
    V6,
}

impl Family {
    pub(crate) fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

impl Address {
    /// Parses a list of servers, and checks it for `routing`.
    pub(crate) fn parse_all(urls: &[String], routing: Routing) -> Result<Vec<Self>> {
        if urls.is_empty() {
            return Err(bad_config("`url` is empty; list at least one server"));
        }
        let mut addresses: Vec<Self> = Vec::with_capacity(urls.len());
        let mut seen = HashMap::with_capacity(urls.len());
        for url in urls {
            let address = Self::parse(url).map_err(|problem| refused(url, problem))?;
            let other = seen.insert(address.identity(), url);
            if let Some(other) = other.filter(|_| !routing.takes_repeated_servers()) {
                let other = if other == url {
                    String::new()
                } else {
                    format!(" (also as {other})")
                };
                return Err(bad_config(format!(
                    "`url` lists {address} twice{other}; list each server once, or give it a \
                     weight"
                )));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    /// The address in normal form, to detect duplicates without a DNS lookup.
    fn identity(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } if host == "127.0.0.1" => {
                format!("localhost:{port}")
            }
            _ => self.to_string(),
        }
    }

    /// Parses the forms of python-memcached, including `inet:host:port` and `inet6:[host]:port`.
    fn parse(url: &str) -> Result<Self, &'static str> {
        if let Some(path) = url.strip_prefix("unix:") {
            return match path {
                "" => Err("the socket path is missing"),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        if let Some(problem) = foreign(url) {
            return Err(problem);
        }
        let (family, address) = if let Some(address) = url.strip_prefix("inet6:") {
            (Family::V6, address)
        } else if let Some(address) = url.strip_prefix("inet:") {
            (Family::V4, address)
        } else {
            (Family::Any, url)
        };
        let (host, port) = if let Some(rest) = address.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or("a ']' is missing")?;
            // After inet6: python-memcached accepts names in brackets.
            if !is_ipv6(host) && (family != Family::V6 || host.is_empty() || host.contains(':')) {
                return Err("the brackets do not contain an IPv6 address");
            }
            match rest {
                "" => (host, None),
                rest => (
                    host,
                    Some(rest.strip_prefix(':').ok_or("expected ':port' after ']'")?),
                ),
            }
        } else if is_ipv6(address) {
            return Err("IPv6 addresses must be in brackets, as in [::1]:11211");
        } else {
            match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            }
        };
        if host.is_empty() {
            return Err("the host is missing");
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err("the port must be a number from 1 to 65535"),
            },
        };
        if host.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("the host is missing before the port");
        }
        if host.contains(['[', ']']) {
            return Err("the brackets must enclose the host");
        }
        let host = host.to_ascii_lowercase();
        if host.parse().is_ok_and(|address| !family.has(address)) {
            return Err(
                "inet: must precede an IPv4 address or a name, inet6: an IPv6 address or a name",
            );
        }
        Ok(Self::Tcp { host, port, family })
    }
}

fn refused(url: &str, problem: &str) -> cache_core::Error {
    // Before an '@' there may be a password.
    let shown = match url.rsplit_once('@') {
        None => url.to_owned(),
        Some((_, address)) => format!("…@{address}"),
    };
    bad_config(format!(
        "`url` contains {shown:?}: {problem}; use host:port, [IPv6]:port, inet:host:port, \
         inet6:[host]:port or unix:/path"
    ))
}

/// What is wrong with an address of another kind, such as a URL.
fn foreign(url: &str) -> Option<&'static str> {
    let is_blank = |c: char| c.is_whitespace() || c.is_control();
    if url.contains("://") {
        Some("unexpected URL scheme")
    } else if url.contains('@') {
        Some("credentials belong in `username` and `password`")
    } else if url.contains(',') {
        Some("servers must be separate entries")
    } else if url.contains(is_blank) {
        Some("spaces are not allowed")
    } else if url.starts_with('/') {
        Some("a socket path must follow unix:")
    } else if url.contains('/') {
        Some("a path is not allowed")
    } else {
        None
    }
}

/// Whether this is an IPv6 address, maybe with a zone.
fn is_ipv6(host: &str) -> bool {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse::<std::net::Ipv6Addr>().is_ok()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_normal_form() {
        for (url, text) in [
            ("localhost", "localhost:11211"),
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("inet:a.example:7", "a.example:7"),
            ("[::1]", "[::1]:11211"),
            ("[fe80::1]:7", "[fe80::1]:7"),
            ("[fe80::1%eth0]:7", "[fe80::1%eth0]:7"),
            ("Cache.Example:7", "cache.example:7"),
            ("inet6:[::1]:7", "[::1]:7"),
            (
                "inet6:[controller-0.internalapi]:7",
                "controller-0.internalapi:7",
            ),
            ("inet6:a.example", "a.example:11211"),
            ("unix:/run/memcached.sock", "unix:/run/memcached.sock"),
        ] {
            assert_eq!(Address::parse(url).unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_addresses_are_refused_with_the_reason() {
        for (url, why) in [
            ("", "host is missing"),
            (":7", "host is missing"),
            ("a:", "port"),
            ("a:0", "port"),
            ("a:70000", "port"),
            ("a:x", "port"),
            ("a:7:8", "port"),
            ("::1", "in brackets"),
            ("[::1", "']' is missing"),
            ("[::1]7", "':port'"),
            ("[]:7", "IPv6 address"),
            ("[a]:7", "IPv6 address"),
            ("inet6:[a:7]", "IPv6 address"),
            ("inet6:[]:7", "IPv6 address"),
            ("inet6:10.0.0.1:7", "inet6: an IPv6 address"),
            ("11211", "host is missing before the port"),
            ("inet:11211", "host is missing before the port"),
            ("inet6:11211", "host is missing before the port"),
            ("inet6:", "host is missing"),
            ("inet6::7", "host is missing"),
            ("inet6:[a", "']' is missing"),
            ("inet6:a]:7", "enclose the host"),
            ("inet6:[a]:7:8", "port"),
            ("inet6:[a]:0", "port"),
            ("inet6:[a]:65536", "port"),
            ("inet:[a]:7", "IPv6 address"),
            ("inet:[::1]:7", "inet: must precede an IPv4 address"),
            ("unix:", "socket path"),
            ("http://a", "scheme"),
            ("memcached://a:7", "scheme"),
            ("a:7/path", "a path is not allowed"),
            ("/run/memcached.sock", "follow unix:"),
            ("a b:7", "spaces"),
            ("a:7 ", "spaces"),
            (" a", "spaces"),
            ("a:1,b:2", "separate entries"),
            ("me:secret@a:7", "`username` and `password`"),
        ] {
            let problem = Address::parse(url).unwrap_err();
            assert!(problem.contains(why), "{url:?}: {problem}");
        }
    }

    fn list(urls: &[&str], routing: Routing) -> Result<Vec<Address>, String> {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        Address::parse_all(&urls, routing).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn the_prefix_selects_the_address_family() {
        let family = |url| match Address::parse(url).unwrap() {
            Address::Tcp { family, .. } => family,
            Address::Unix(_) => panic!("{url} is a path"),
        };
        assert_eq!(family("a:7"), Family::Any);
        assert_eq!(family("inet:a:7"), Family::V4);
        assert_eq!(family("inet6:[a]:7"), Family::V6);
        assert!(Family::V6.has("::1".parse().unwrap()));
        assert!(!Family::V4.has("::1".parse().unwrap()));
    }

    #[test]
    fn servers_may_be_repeated_with_the_python_routings() {
        let twice = ["a:7", "b:7", "a:7"];
        assert_eq!(list(&twice, Routing::PythonMemcached).unwrap().len(), 3);
        let refused = list(&twice, Routing::Consistent).unwrap_err();
        assert!(refused.contains("give it a weight"), "{refused}");
    }
}
