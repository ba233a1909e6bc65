//! [`Item`]: what one line of a response says.

use super::meta_response::MetaResponse;
use super::response::Reply;

/// One item of a response.
pub(super) enum Item<'a> {
    /// The reply to one command.
    Reply(Reply),
    /// The message of a quiet command.
    Remark {
        has_failed: bool,
    },
    /// A value follows the line.
    Value {
        key: Option<&'a [u8]>,
        flags: u32,
        len: usize,
    },
    /// The response to a [`MetaRequest`](super::MetaRequest), of which the value follows.
    MetaValue {
        response: Box<MetaResponse>,
        len: usize,
    },
    End,
}

pub(super) fn server_error(line: &[u8]) -> Reply {
    let text = line.strip_prefix(b"SERVER_ERROR").unwrap_or(line);
    let text = text.get(..200).unwrap_or(text);
    Reply::Failed(String::from_utf8_lossy(text).trim().to_owned())
}

pub(super) fn decimal(token: &[u8]) -> Option<usize> {
    if token.is_empty() {
        return None;
    }
    token.iter().try_fold(0, |number: usize, &byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}
