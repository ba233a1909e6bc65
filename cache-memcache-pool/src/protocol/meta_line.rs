//! Parsing of the responses to meta commands of callers.

use super::meta_response::{MetaResponse, MetaStatus};
use super::response::{Item, Reply, Violation, decimal, refusal, server_error};

/// Parses a line of the response to a [`MetaRequest`](super::MetaRequest) with this tag. `only` is the status of
/// commands without a tag.
pub(super) fn read_meta_response(
    line: &[u8],
    tag: Option<usize>,
    only: Option<MetaStatus>,
) -> Result<Item<'_>, Violation> {
    let violation = || Violation::line(line);
    let text = || std::str::from_utf8(line).map_err(|_| violation());
    let mut words = line.split(|&byte| byte == b' ');
    let code = words.next().unwrap_or_default();
    let status = match code {
        b"SERVER_ERROR" => return Ok(Item::Reply(server_error(line))),
        // A missing password is a violation, not a refusal.
        b"CLIENT_ERROR" if !line.starts_with(b"CLIENT_ERROR unauthenticated") => {
            return Ok(Item::Reply(Reply::Failed(refusal(line))));
        }
        b"HD" | b"MN" => MetaStatus::Done,
        b"VA" | b"ME" => MetaStatus::Value,
        b"EN" => MetaStatus::Missing,
        b"NF" => MetaStatus::NotFound,
        b"NS" => MetaStatus::NotStored,
        b"EX" => MetaStatus::Exists,
        _ => return Err(violation()),
    };
    let mut response = MetaResponse {
        status,
        flags: Vec::new(),
        value: Vec::new(),
    };
    let is_untagged = matches!(code, b"MN" | b"ME");
    let is_possible = match only {
        None => !is_untagged,
        // A miss of `me` is an EN.
        Some(MetaStatus::Value) => code == b"ME" || status == MetaStatus::Missing,
        Some(only) => is_untagged && status == only,
    };
    if !is_possible {
        return Err(violation());
    }
    if code == b"ME" {
        let about = text()?.splitn(3, ' ').nth(2).unwrap_or_default();
        response.value = about.as_bytes().to_vec();
    }
    if is_untagged {
        return Ok(Item::Reply(Reply::Meta(Box::new(response))));
    }
    let len = match status {
        MetaStatus::Value => Some(words.next().and_then(decimal).ok_or_else(violation)?),
        _ => None,
    };
    let mut is_tagged = status == MetaStatus::Missing;
    for word in words.filter(|word| !word.is_empty()) {
        let word = std::str::from_utf8(word).map_err(|_| violation())?;
        let mut letters = word.chars();
        let letter = letters.next().unwrap_or_default();
        let token = letters.as_str();
        if letter != 'O' {
            response.flags.push((letter, token.to_owned()));
            continue;
        }
        if tag.is_none_or(|tag| token.parse() != Ok(tag)) {
            return Err(Violation::Other(
                "the response belongs to another request".into(),
            ));
        }
        is_tagged = true;
    }
    if !is_tagged {
        return Err(violation());
    }
    let response = Box::new(response);
    Ok(match len {
        Some(len) => Item::MetaValue { response, len },
        None => Item::Reply(Reply::Meta(response)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Decoder, Dialect, MetaRequest, Outgoing, Response, StoredFormat};

    fn answered(request: &MetaRequest, mut bytes: &[u8]) -> Result<Option<Response>, Violation> {
        let mut expected = request.encode(&mut Outgoing::new(Dialect::Meta));
        let mut decoder = Decoder::new(100, StoredFormat::Envelope);
        let response = decoder.decode(&mut bytes, &mut expected);
        if matches!(response, Ok(Some(_))) {
            assert!(bytes.is_empty());
        }
        response
    }

    fn response(request: &MetaRequest, bytes: &[u8]) -> MetaResponse {
        match answered(request, bytes) {
            Ok(Some(Response::One(Reply::Meta(response)))) => *response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn responses_have_status_flags_and_value() {
        let get = MetaRequest::get("k").flag('v').flag('f');
        let found = response(&get, b"VA 4 f16 c7 O0 W\r\na|\r\n\r\n");
        assert_eq!(found.status(), MetaStatus::Value);
        assert_eq!(found.value(), b"a|\r\n");
        assert_eq!(found.flag('f'), Some("16"));
        assert_eq!(found.flag('W'), Some(""));
        assert_eq!(found.flag('O'), None);
        let debug = MetaRequest::debug("k");
        let about = response(&debug, b"ME k exp=-1 la=0\r\n");
        assert_eq!(about.value(), b"exp=-1 la=0");
        assert_eq!(response(&debug, b"EN\r\n").status(), MetaStatus::Missing);
        let noop = MetaRequest::noop("k");
        assert_eq!(response(&noop, b"MN\r\n").status(), MetaStatus::Done);
        for (line, status) in [
            ("HD O0", MetaStatus::Done),
            ("EN", MetaStatus::Missing),
            ("NF O0", MetaStatus::NotFound),
            ("NS O0", MetaStatus::NotStored),
            ("EX O0", MetaStatus::Exists),
        ] {
            let found = response(&get, format!("{line}\r\n").as_bytes());
            assert_eq!((found.status(), found.value()), (status, &b""[..]));
        }
    }

    #[test]
    fn partial_and_too_large_values_keep_the_pipeline_in_sync() {
        let get = MetaRequest::get("k").flag('v');
        for bytes in [&b"VA 4 O0"[..], b"VA 4 O0\r\nab", b"VA 4 O0\r\nabcd\r"] {
            assert!(matches!(answered(&get, bytes), Ok(None)));
        }
        let large = format!("VA 101 O0\r\n{}\r\n", "x".repeat(101));
        let answer = answered(&get, large.as_bytes());
        let is_told = matches!(answer, Ok(Some(Response::One(Reply::TooLarge(101)))));
        assert!(is_told, "{answer:?}");
    }

    #[test]
    fn a_refusal_is_a_reply_and_everything_else_a_violation() {
        let ma = MetaRequest::arithmetic("k");
        for line in ["CLIENT_ERROR non-numeric", "SERVER_ERROR out of memory"] {
            let answer = answered(&ma, format!("{line}\r\n").as_bytes());
            let is_told = matches!(answer, Ok(Some(Response::One(Reply::Failed(_)))));
            assert!(is_told, "{answer:?}");
        }
        for line in [
            "HD O1",
            "HD",
            "VA 1",
            "VA x O0",
            "MN",
            "ME k",
            "ERROR",
            "STORED",
            "CLIENT_ERROR unauthenticated",
        ] {
            let answer = answered(&ma, format!("{line}\r\n").as_bytes());
            assert!(answer.is_err(), "{line}: {answer:?}");
        }
        for line in ["HD O0", "HD", "ME k exp=1", "EN"] {
            let answer = answered(&MetaRequest::noop("k"), format!("{line}\r\n").as_bytes());
            assert!(answer.is_err(), "{line}: {answer:?}");
        }
        for line in ["HD O0", "MN", "VA 1 O0"] {
            let answer = answered(&MetaRequest::debug("k"), format!("{line}\r\n").as_bytes());
            assert!(answer.is_err(), "{line}: {answer:?}");
        }
    }
}
