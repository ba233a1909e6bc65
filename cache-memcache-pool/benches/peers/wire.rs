//! The subset of the protocol that the limits need, without error handling. Values carry the same
//! metadata as in cache-memcache-pool and are decoded and copied for the caller in the same way, so
//! the comparison covers the same bytes and the same result.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use cache_core::CachedValue;
use cache_core::wire::{self, Metadata};

/// The result of a get.
pub(crate) type Found = Option<CachedValue<Vec<u8>>>;

pub(crate) fn get(key: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"mg ");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b" v\r\n");
}

pub(crate) fn set(key: &str, value: &[u8], out: &mut Vec<u8>) {
    set_with("", key, value, out);
}

/// Encodes a multi-get as one command of the classic protocol, the cheapest for the server.
pub(crate) fn get_many(keys: &[&str], out: &mut Vec<u8>) {
    out.extend_from_slice(b"get");
    for key in keys {
        out.push(b' ');
        out.extend_from_slice(key.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Encodes a multi-set in quiet mode: unless a set fails, the server answers only the final `mn`.
pub(crate) fn set_many(keys: &[&str], value: &[u8], out: &mut Vec<u8>) {
    for key in keys {
        set_with(" q", key, value, out);
    }
    out.extend_from_slice(b"mn\r\n");
}

fn set_with(flag: &str, key: &str, value: &[u8], out: &mut Vec<u8>) {
    let mut head = Vec::with_capacity(40);
    Metadata::new(SystemTime::now(), None).write_json(&mut head);
    head.push(b'|');
    // Writing to a `Vec` cannot fail.
    let _ = write!(out, "ms {key} {}{flag}\r\n", head.len() + value.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Parses the answer to a get or a set; returns it with its length if it is complete.
pub(crate) fn answer(buffer: &[u8]) -> Result<Option<(Found, usize)>> {
    let Some((line, end)) = line(buffer) else {
        return Ok(None);
    };
    match line.strip_prefix(b"VA ") {
        Some(len) => data(buffer, end, len),
        None if line == b"EN" || line == b"HD" => Ok(Some((None, end))),
        None => bail!("the server answered {:?}", String::from_utf8_lossy(line)),
    }
}

/// Parses one value of the answer to [`get_many`]; a `None` value marks the end.
pub(crate) fn value(buffer: &[u8]) -> Result<Option<(Found, usize)>> {
    let Some((line, end)) = line(buffer) else {
        return Ok(None);
    };
    if line == b"END" {
        return Ok(Some((None, end)));
    }
    let len = line.rsplit(|&byte| byte == b' ').next();
    data(buffer, end, len.unwrap_or_default())
}

/// Whether the answer to [`set_many`] is complete; an error if a set failed.
pub(crate) fn are_stored(buffer: &[u8]) -> Result<bool> {
    match line(buffer) {
        None => Ok(false),
        Some((b"MN", _)) => Ok(true),
        Some((line, _)) => bail!("the server answered {:?}", String::from_utf8_lossy(line)),
    }
}

/// The first line and the offset after it.
fn line(buffer: &[u8]) -> Option<(&[u8], usize)> {
    let end = buffer.iter().position(|&byte| byte == b'\n')?;
    Some((buffer.get(..end.saturating_sub(1))?, end + 1))
}

fn data(buffer: &[u8], from: usize, len: &[u8]) -> Result<Option<(Found, usize)>> {
    let len: usize = std::str::from_utf8(len)?.parse()?;
    let whole = from + len + 2;
    if buffer.len() < whole {
        return Ok(None);
    }
    let stored = buffer.get(from..from + len).unwrap_or_default();
    let (metadata, payload) = wire::decode(stored, "bench")?;
    // The value has no deadline, so the time does not matter.
    Ok(Some((metadata.attach(payload.to_vec(), UNIX_EPOCH), whole)))
}

/// The tests of this file. A benchmark has no test harness, so it runs them at its start.
pub(crate) mod tests {
    use super::{answer, are_stored, set, value};

    pub(crate) fn run() {
        incomplete_answers_are_not_parsed();
        multi_get_ends_with_end_line();
        quiet_sets_report_only_failures();
    }

    fn incomplete_answers_are_not_parsed() {
        let mut request = Vec::new();
        set("k", b"abc", &mut request);
        let line = request.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let mut bytes = format!("VA {}\r\n", request.len() - line - 2).into_bytes();
        bytes.extend_from_slice(&request[line..]);
        let whole = bytes.len();
        bytes.extend_from_slice(b"EN\r\n");
        for cut in 0..whole {
            assert!(answer(&bytes[..cut]).unwrap().is_none());
        }
        let (found, len) = answer(&bytes).unwrap().unwrap();
        assert_eq!((found.unwrap().payload(), len), (&b"abc".to_vec(), whole));
        let (found, len) = answer(&bytes[whole..]).unwrap().unwrap();
        assert!(found.is_none() && len == 4);
        assert!(answer(b"SERVER_ERROR out of memory\r\n").is_err());
    }

    fn multi_get_ends_with_end_line() {
        let bytes = b"VALUE k 0 22\r\n{\"ct\": 1.5, \"v\": 2}|hi\r\nEND\r\n";
        let (found, len) = value(bytes).unwrap().unwrap();
        assert_eq!(found.unwrap().payload(), b"hi");
        assert!(matches!(value(&bytes[len..]).unwrap(), Some((None, 5))));
        assert!(value(&bytes[..len - 1]).unwrap().is_none());
    }

    fn quiet_sets_report_only_failures() {
        assert!(!are_stored(b"MN\r").unwrap());
        assert!(are_stored(b"MN\r\n").unwrap());
        assert!(are_stored(b"SERVER_ERROR object too large for cache\r\nMN\r\n").is_err());
    }
}
