//! The `version` command, which tells whether a server has the meta commands of today.
//!
//! Before memcached 1.6.10 the length in `ms` was a flag. Such a server refuses the line, and then
//! reads the value as commands. So in the meta protocol no value is sent before the version is
//! known.

use super::encode::Dialect;
use super::response::Violation;

/// A command without side effects. Not `mn`: memcached 1.6.44 and later closes connections that send
/// a line of less than six bytes instead of the credentials.
pub(crate) const ASK_VERSION: &[u8] = b"version\r\n";

/// The first with the meta commands of today.
const OLDEST: [u32; 3] = [1, 6, 10];

/// Checks that `line`, the response to [`ASK_VERSION`], is that of a server with the commands of
/// `dialect`.
pub(crate) fn check_version(line: &[u8], dialect: Dialect) -> Result<(), Violation> {
    let Some(version) = line.strip_prefix(b"VERSION") else {
        return Err(Violation::line(line));
    };
    let version = String::from_utf8_lossy(version);
    let version = version.trim();
    if dialect == Dialect::Classic || !is_old(version) {
        return Ok(());
    }
    Err(Violation::Other(format!(
        "the server has the version {version:?}, whose meta protocol may execute values as \
         commands; use memcached 1.6.10 or later, or set `protocol` to \"classic\""
    )))
}

/// Whether `version` begins with numbers that are smaller than those of the oldest version.
/// Distributions add words to them; proxies and forks have names instead.
fn is_old(version: &str) -> bool {
    let mut numbers = [0; OLDEST.len()];
    let mut parts = version.split('.');
    for (position, number) in numbers.iter_mut().enumerate() {
        let part = parts.next().unwrap_or_default();
        let end = part.find(|c: char| !c.is_ascii_digit());
        let (digits, rest) = part.split_at(end.unwrap_or(part.len()));
        if digits.is_empty() && position == 0 {
            return false;
        }
        *number = match digits {
            "" => break,
            digits => digits.parse().unwrap_or(u32::MAX),
        };
        if !rest.is_empty() {
            break;
        }
    }
    numbers < OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_decides_whether_a_server_is_welcome() {
        for (line, meta, classic) in [
            ("VERSION 1.6.10", true, true),
            ("VERSION 1.6.45", true, true),
            ("VERSION 1.7", true, true),
            ("VERSION 1.10.0", true, true),
            ("VERSION 2.0.0", true, true),
            ("VERSION 2", true, true),
            ("VERSION 1.6.45-dev", true, true),
            ("VERSION 1.6.14 Ubuntu", true, true),
            ("VERSION mcrouter 37.0.0", true, true),
            ("VERSION 99999999999.0.0", true, true),
            ("VERSION", true, true),
            ("VERSION 1.6.9", false, true),
            ("VERSION 1.6.9 ", false, true),
            ("VERSION 1.6.9-beta1", false, true),
            ("VERSION 1.6.0.1", false, true),
            ("VERSION 1.5.22", false, true),
            ("VERSION 1.5.22 Ubuntu", false, true),
            ("VERSION 1.4.5_4_gaa7839e", false, true),
            ("VERSION 1.6", false, true),
            ("VERSION 0.5.0", false, true),
            ("ERROR", false, false),
            ("-ERR unknown command", false, false),
        ] {
            let is_welcome = |dialect| check_version(line.as_bytes(), dialect).is_ok();
            assert_eq!(is_welcome(Dialect::Meta), meta, "{line}");
            assert_eq!(is_welcome(Dialect::Classic), classic, "{line}");
        }
    }

    #[test]
    fn a_refusal_names_the_version_and_what_to_do() {
        for line in ["VERSION 1.6.9", "ERROR"] {
            let Err(Violation::Other(reason)) = check_version(line.as_bytes(), Dialect::Meta)
            else {
                panic!("{line} is welcome");
            };
            let shown = line.trim_start_matches("VERSION ");
            assert!(reason.contains(&format!("{shown:?}")), "{reason}");
            assert!(reason.contains("use memcached 1.6.10 or later"), "{reason}");
            assert!(reason.contains("`protocol`"), "{reason}");
        }
        for (line, violation) in [
            ("CLIENT_ERROR unauthenticated", Violation::Unauthenticated),
            (
                "ERROR Too many open connections",
                Violation::Full("ERROR Too many open connections".into()),
            ),
        ] {
            assert_eq!(
                check_version(line.as_bytes(), Dialect::Meta),
                Err(violation)
            );
        }
    }
}
