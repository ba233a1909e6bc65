//! The protocol, as far as the limits need it: requests into a buffer, answers out of one, and no
//! faults.

use std::io::Write as _;

use anyhow::{Result, bail};

/// What a get found: the payload as it is, without metadata.
pub(super) type Found = Option<Vec<u8>>;

pub(super) fn get(key: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"mg ");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b" v\r\n");
}

pub(super) fn set(key: &str, value: &[u8], out: &mut Vec<u8>) {
    set_with("", key, value, out);
}

/// Many keys at once: one command of the classic protocol, the cheapest for the server.
pub(super) fn get_many<'a>(keys: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"get");
    for key in keys {
        out.push(b' ');
        out.extend_from_slice(key.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Many values at once: answered by a single line behind them unless one fails.
pub(super) fn set_many<'a>(keys: impl Iterator<Item = &'a str>, value: &[u8], out: &mut Vec<u8>) {
    for key in keys {
        set_with(" q", key, value, out);
    }
    out.extend_from_slice(b"mn\r\n");
}

fn set_with(flag: &str, key: &str, value: &[u8], out: &mut Vec<u8>) {
    // Writing into memory does not fail.
    let _ = write!(out, "ms {key} {}{flag}\r\n", value.len());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// One answer to a get or a set, and its length, if it is whole.
pub(super) fn answer(buffer: &[u8]) -> Result<Option<(Found, usize)>> {
    let Some((line, end)) = line(buffer) else {
        return Ok(None);
    };
    match line.strip_prefix(b"VA ") {
        Some(len) => data(buffer, end, len),
        None if line == b"EN" || line == b"HD" => Ok(Some((None, end))),
        None => bail!("the server answered {:?}", String::from_utf8_lossy(line)),
    }
}

/// One of the values that answer [`get_many`]; `None` in place of a value is the end of them.
pub(super) fn value(buffer: &[u8]) -> Result<Option<(Found, usize)>> {
    let Some((line, end)) = line(buffer) else {
        return Ok(None);
    };
    if line == b"END" {
        return Ok(Some((None, end)));
    }
    let len = line.rsplit(|&byte| byte == b' ').next();
    data(buffer, end, len.unwrap_or_default())
}

/// Whether all values of [`set_many`] are stored.
pub(super) fn are_stored(buffer: &[u8]) -> Result<bool> {
    match line(buffer) {
        None => Ok(false),
        Some((b"MN", _)) => Ok(true),
        Some((line, _)) => bail!("the server answered {:?}", String::from_utf8_lossy(line)),
    }
}

/// The first line, and where it ends.
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
    let value = buffer.get(from..from + len).map(<[u8]>::to_vec);
    Ok(Some((value, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_they_are_whole() {
        let bytes = b"VA 3\r\nabc\r\nEN\r\n";
        for cut in 0..11 {
            assert_eq!(answer(&bytes[..cut]).unwrap(), None);
        }
        assert_eq!(answer(bytes).unwrap(), Some((Some(b"abc".to_vec()), 11)));
        assert_eq!(answer(&bytes[11..]).unwrap(), Some((None, 4)));
        assert!(answer(b"SERVER_ERROR out of memory\r\n").is_err());
    }

    #[test]
    fn many_values_end_with_a_line() {
        let bytes = b"VALUE k 0 2\r\nhi\r\nEND\r\n";
        assert_eq!(value(bytes).unwrap(), Some((Some(b"hi".to_vec()), 17)));
        assert_eq!(value(&bytes[17..]).unwrap(), Some((None, 5)));
        assert_eq!(value(&bytes[..16]).unwrap(), None);
    }

    #[test]
    fn quiet_sets_say_only_what_went_wrong() {
        assert!(!are_stored(b"MN\r").unwrap());
        assert!(are_stored(b"MN\r\n").unwrap());
        assert!(are_stored(b"SERVER_ERROR object too large for cache\r\nMN\r\n").is_err());
    }
}
