//! Where a server is: `host:port`, `[v6]:port`, `unix:/path`.

use std::fmt;
use std::path::PathBuf;

const DEFAULT_PORT: u16 = 11211;

/// The address of one server. Its text is its identity: the same server written in two ways
/// is the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    /// Reads what python-memcached reads: also `inet:host:port` and `inet6:[host]:port`.
    pub(crate) fn parse(url: &str) -> Result<Self, &'static str> {
        if let Some(path) = url.strip_prefix("unix:") {
            return match path {
                "" => Err("the path of the socket is missing"),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let address = url
            .strip_prefix("inet6:")
            .or_else(|| url.strip_prefix("inet:"))
            .unwrap_or(url);
        let (host, port) = if let Some(rest) = address.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or("a ']' is missing")?;
            match rest {
                "" => (host, None),
                rest => (
                    host,
                    Some(
                        rest.strip_prefix(':')
                            .ok_or("expected ':port' behind ']'")?,
                    ),
                ),
            }
        } else {
            match address.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("write an IPv6 address in brackets, as in [::1]:11211");
                }
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            }
        };
        if host.is_empty() {
            return Err("the host is missing");
        }
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@,".contains(c)) {
            return Err("expected host:port, [IPv6]:port or unix:/path");
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err("the port is no number from 1 to 65535"),
            },
        };
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_text_however_they_are_written() {
        for (url, text) in [
            ("localhost", "localhost:11211"),
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("inet:a.example:7", "a.example:7"),
            ("[::1]", "[::1]:11211"),
            ("[fe80::1]:7", "[fe80::1]:7"),
            ("inet6:[::1]:7", "[::1]:7"),
            ("unix:/run/memcached.sock", "unix:/run/memcached.sock"),
        ] {
            assert_eq!(Address::parse(url).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "",
            ":7",
            "a:",
            "a:0",
            "a:70000",
            "a:x",
            "::1",
            "[::1",
            "[::1]7",
            "[]:7",
            "unix:",
            "memcached://a:7",
            "a b:7",
            "a:1,b:2",
        ] {
            assert!(Address::parse(url).is_err(), "{url:?}");
        }
    }
}
