//! Parsing of response lines.

use super::encode::tag_behind;
use super::item::{Item, decimal, server_error};
use super::meta_line::read_meta_response;
use super::response::{Expected, Reply, Violation, nth_key};

/// Longer than any line of memcached.
pub(super) const MAX_LINE: usize = 2048;

/// A line without its end, and what follows it.
pub(super) type Line<'a> = (&'a [u8], &'a [u8]);

/// The first line.
pub(super) fn split_line<'a>(buffer: &&'a [u8]) -> Result<Option<Line<'a>>, Violation> {
    let Some(end) = buffer.iter().take(MAX_LINE).position(|&b| b == b'\n') else {
        if buffer.len() >= MAX_LINE {
            return Err(Violation::line(buffer));
        }
        return Ok(None);
    };
    let (line, rest) = buffer.split_at(end);
    let behind = rest.get(1..).unwrap_or_default();
    Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), behind)))
}

/// Fast path for the most frequent line: the announcement of the next expected value, exactly as
/// memcached writes it. Returns the client flags, the length and the rest of the buffer. `None`:
/// another or an incomplete line, which [`read_line`] parses.
pub(super) fn split_value<'a>(
    buffer: &'a [u8],
    expected: &Expected,
) -> Option<(u32, usize, &'a [u8])> {
    let (flags, len, rest) = match expected {
        Expected::One { tag } => split_meta_value(buffer, *tag)?,
        Expected::Many { first, replies, .. } => {
            split_meta_value(buffer, tag_behind(*first, replies.len()))?
        }
        Expected::Values {
            request,
            ends,
            replies,
        } => {
            let key = nth_key(request, ends, replies.len())?;
            let rest = buffer.strip_prefix(b"VALUE ")?;
            let rest = rest.strip_prefix(key)?.strip_prefix(b" ")?;
            let (flags, rest) = split_number(rest)?;
            let (len, rest) = split_number(rest.strip_prefix(b" ")?)?;
            let rest = rest.strip_prefix(b"\r\n")?;
            (flags, len, rest)
        }
        Expected::Quiet { .. } | Expected::Lines { .. } | Expected::Meta { .. } => return None,
    };
    Some((flags, len as usize, rest))
}

fn split_meta_value(buffer: &[u8], expected: u32) -> Option<(u32, u32, &[u8])> {
    let (len, rest) = split_number(buffer.strip_prefix(b"VA ")?)?;
    let (flags, rest) = split_number(rest.strip_prefix(b" f")?)?;
    let (tag, rest) = split_number(rest.strip_prefix(b" O")?)?;
    let rest = rest.strip_prefix(b"\r\n")?;
    (tag == expected).then_some((flags, len, rest))
}

/// Fast path for the reply to a write, exactly as memcached writes it. Returns the rest of the
/// buffer.
pub(super) fn split_done<'a>(buffer: &'a [u8], expected: &Expected) -> Option<&'a [u8]> {
    let expected = match expected {
        Expected::One { tag } => *tag,
        Expected::Many { first, replies, .. } => tag_behind(*first, replies.len()),
        _ => return None,
    };
    let (tag, rest) = split_number(buffer.strip_prefix(b"HD O")?)?;
    let rest = rest.strip_prefix(b"\r\n")?;
    (tag == expected).then_some(rest)
}

/// A number of at most nine digits.
fn split_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (mut number, mut digits) = (0, 0);
    while let Some(byte @ b'0'..=b'9') = bytes.get(digits) {
        if digits == 9 {
            return None;
        }
        number = number * 10 + u32::from(byte - b'0');
        digits += 1;
    }
    let rest = bytes.get(digits..)?;
    (digits > 0).then_some((number, rest))
}

/// What a line of the response to `expected` says.
pub(super) fn read_line<'a>(line: &'a [u8], expected: &Expected) -> Result<Item<'a>, Violation> {
    match expected {
        Expected::One { tag } => read_meta(line, *tag),
        Expected::Many { first, replies, .. } => read_meta(line, tag_behind(*first, replies.len())),
        Expected::Quiet { .. } => read_quiet(line),
        Expected::Values { .. } => read_text(line),
        Expected::Lines { .. } => read_written(line),
        Expected::Meta { tag, status, .. } => read_meta_response(line, *tag, *status),
    }
}

/// Parses a line of quiet commands, which report only failures.
fn read_quiet(line: &[u8]) -> Result<Item<'_>, Violation> {
    match line.split(|&byte| byte == b' ').next() {
        Some(b"MN") => Ok(Item::End),
        // The key to delete does not exist; some versions report this.
        Some(b"NF") => Ok(Item::Remark { has_failed: false }),
        Some(b"SERVER_ERROR" | b"NS" | b"EX") => Ok(Item::Remark { has_failed: true }),
        _ => Err(Violation::line(line)),
    }
}

/// A line of the meta protocol.
fn read_meta(line: &[u8], tag: u32) -> Result<Item<'_>, Violation> {
    let is_tag =
        |number: &[u8]| decimal(number).is_some_and(|number| u32::try_from(number) == Ok(tag));
    if line.strip_prefix(b"HD O").is_some_and(is_tag) {
        return Ok(Item::Reply(Reply::Done));
    }
    let mut tokens = line
        .split(|&byte| byte == b' ')
        .filter(|token| !token.is_empty());
    let code = tokens.next().unwrap_or_default();
    if code == b"SERVER_ERROR" {
        return Ok(Item::Reply(server_error(line)));
    }
    let len = match code {
        b"VA" => Some(
            tokens
                .next()
                .and_then(decimal)
                .ok_or_else(|| Violation::line(line))?,
        ),
        _ => None,
    };
    let (mut flags, mut is_tagged) = (0, false);
    for token in tokens {
        match token.split_first() {
            Some((b'f', number)) => {
                flags = decimal(number)
                    .and_then(|number| u32::try_from(number).ok())
                    .ok_or_else(|| Violation::line(line))?;
            }
            Some((b'O', number)) => {
                is_tagged = true;
                if !is_tag(number) {
                    return Err(Violation::Other(
                        "the response belongs to another request".into(),
                    ));
                }
            }
            _ => {}
        }
    }
    match (code, len) {
        (b"VA", Some(len)) if is_tagged => Ok(Item::Value {
            key: None,
            flags,
            len,
        }),
        (b"HD", None) if is_tagged => Ok(Item::Reply(Reply::Done)),
        (b"EN", None) => Ok(Item::Reply(Reply::Missing)),
        // The key to delete does not exist.
        (b"NF", None) => Ok(Item::Reply(Reply::Done)),
        (b"NS" | b"EX", None) => Ok(Item::Reply(Reply::Failed("not stored".into()))),
        _ => Err(Violation::line(line)),
    }
}

/// A line of the response to a classic `get`.
fn read_text(line: &[u8]) -> Result<Item<'_>, Violation> {
    if line == b"END" {
        return Ok(Item::End);
    }
    let mut tokens = line.split(|&byte| byte == b' ');
    let value = (|| {
        if tokens.next()? != b"VALUE" {
            return None;
        }
        let key = tokens.next()?;
        let flags = u32::try_from(decimal(tokens.next()?)?).ok()?;
        let len = decimal(tokens.next()?)?;
        Some(Item::Value {
            key: Some(key),
            flags,
            len,
        })
    })();
    // A SERVER_ERROR in the middle ends the response without an END.
    value.ok_or_else(|| Violation::line(line))
}

/// The reply to a classic write.
fn read_written(line: &[u8]) -> Result<Item<'_>, Violation> {
    match line {
        b"STORED" | b"DELETED" | b"NOT_FOUND" => Ok(Item::Reply(Reply::Done)),
        b"NOT_STORED" => Ok(Item::Reply(Reply::Failed("not stored".into()))),
        _ if line.starts_with(b"SERVER_ERROR") => Ok(Item::Reply(server_error(line))),
        _ => Err(Violation::line(line)),
    }
}
