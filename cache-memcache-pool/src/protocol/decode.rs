//! [`Decoder`]: decodes responses from bytes that may end anywhere, line by line and value by
//! value.

use cache_core::wire::Metadata;

use super::encode::{Dialect, tag_digits};
use super::meta_line::read_meta_response;
use super::response::{Expected, Item, Reply, Response, Violation, decimal, refusal, server_error};
use super::value::{COMPRESSED, Stored, StoredFormat};
use super::version::check_version;

/// Longer than any line of memcached.
const MAX_LINE: usize = 2048;

/// Metadata usually ends within this many bytes, unless other programs have extended it.
const METADATA_WITHIN: usize = 512;

/// A value of at least this many bytes that has not arrived completely gets its own buffer.
const LARGE: usize = 16 * 1024;

/// The largest item that memcached can be configured to store. A larger announced value is a
/// protocol violation.
pub(super) const MAX_ITEM: usize = 1 << 30;

/// Decodes bytes into responses. It buffers at most one value.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The largest accepted value; larger ones are skipped.
    limit: usize,
    format: StoredFormat,
    state: State,
}

/// Which part of a response comes next.
#[derive(Debug)]
enum State {
    Line,
    /// A value, which is taken out of the buffer once it is complete.
    Value {
        flags: u32,
        len: usize,
    },
    /// A large value, which is read into its own buffer. Boxed, since states are moved for each
    /// line.
    Large(Box<Large>),
    /// A value that is too large, of which `left` bytes remain to be skipped.
    Skip {
        len: usize,
        left: usize,
    },
}

#[derive(Debug)]
struct Large {
    flags: u32,
    /// `None`: `body` includes the metadata, if there is any.
    metadata: Option<Metadata>,
    body: Vec<u8>,
    /// The final length of `body`, including the line end.
    len: usize,
}

impl Decoder {
    /// A decoder that accepts values of up to `limit` bytes.
    pub(crate) fn new(limit: usize, format: StoredFormat) -> Self {
        Self {
            limit,
            format,
            state: State::Line,
        }
    }

    /// The buffer of a large value, and how many bytes are missing.
    pub(crate) fn large(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let State::Large(large) = &mut self.state else {
            return None;
        };
        let missing = large.len.saturating_sub(large.body.len());
        (missing > 0).then_some((&mut large.body, missing))
    }

    /// The memory held for a large value.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        match &self.state {
            State::Large(large) => large.body.capacity(),
            _ => 0,
        }
    }

    /// Decodes as much of the response to `expected` as `buffer` contains, and removes it. `None`:
    /// more bytes are needed.
    #[inline]
    pub(crate) fn decode(
        &mut self,
        buffer: &mut &[u8],
        expected: &mut Expected,
    ) -> Result<Option<Response>, Violation> {
        let format = expected.format(self.format);
        loop {
            let Some(reply) = (match self.state {
                State::Line => {
                    if let Some((flags, len, behind)) = split_value(buffer, expected) {
                        if let Some((value, behind)) = split_complete(behind, len)
                            && len <= self.limit
                        {
                            *buffer = behind;
                            let stored = Stored::decode(format, flags, value, self.limit);
                            let reply = Reply::Found(stored);
                            // The usual case, without a call that costs two percent of a get.
                            if matches!(expected, Expected::One { .. }) {
                                return Ok(Some(Response::One(reply)));
                            }
                            match expected.push(reply) {
                                Some(response) => return Ok(Some(response)),
                                None => continue,
                            }
                        }
                        *buffer = behind;
                        self.state = self.value(flags, len)?;
                        continue;
                    }
                    if let Some(behind) = split_done(buffer, expected) {
                        *buffer = behind;
                        match expected.push(Reply::Done) {
                            Some(response) => return Ok(Some(response)),
                            None => continue,
                        }
                    }
                    let Some((line, behind)) = split_line(buffer)? else {
                        return Ok(None);
                    };
                    let item = read_line(line, expected)?;
                    *buffer = behind;
                    match item {
                        Item::Reply(reply) => Some(reply),
                        Item::Remark { has_failed } => {
                            expected.note(has_failed)?;
                            continue;
                        }
                        Item::MetaValue { response, len } => {
                            if let Expected::Meta(meta) = expected {
                                meta.response = Some(response);
                            }
                            self.state = self.value(0, len)?;
                            continue;
                        }
                        Item::End => return expected.finish().map(Some),
                        Item::Refused(reason) => return expected.refuse(&reason).map(Some),
                        Item::Value { key, flags, len } => {
                            if let (Some(key), Expected::Values(values)) = (key, &mut *expected) {
                                values.skip_to(key)?;
                            }
                            self.state = self.value(flags, len)?;
                            continue;
                        }
                    }
                }
                State::Value { flags, len } => self.take_value(buffer, format, flags, len)?,
                State::Large(_) => self.take_large(format)?,
                State::Skip { len, left } => self.skip(buffer, len, left)?,
            }) else {
                return Ok(None);
            };
            if let Some(response) = expected.push(reply) {
                return Ok(Some(response));
            }
        }
    }

    /// The state after a line that announces a value of `len` bytes.
    fn value(&self, flags: u32, len: usize) -> Result<State, Violation> {
        if len > MAX_ITEM {
            return Err(Violation::Other(format!(
                "the server announced a value of {len} bytes, more than memcached can store"
            )));
        }
        if len > self.limit {
            return Ok(State::Skip { len, left: len });
        }
        Ok(State::Value { flags, len })
    }

    fn take_value(
        &mut self,
        buffer: &mut &[u8],
        format: StoredFormat,
        flags: u32,
        len: usize,
    ) -> Result<Option<Reply>, Violation> {
        if let Some((value, rest)) = buffer.split_at_checked(len) {
            let Some((end, rest)) = rest.split_at_checked(2) else {
                return Ok(None);
            };
            check_end(end)?;
            self.state = State::Line;
            *buffer = rest;
            return Ok(Some(Reply::Found(Stored::decode(
                format, flags, value, self.limit,
            ))));
        }
        if len < LARGE {
            return Ok(None);
        }
        // The metadata has to be complete before the payload can go to its own buffer.
        let has_metadata = format == StoredFormat::Envelope && flags & COMPRESSED == 0;
        let bar = buffer.iter().take(METADATA_WITHIN).position(|&b| b == b'|');
        let bar = bar.filter(|_| has_metadata);
        if has_metadata && bar.is_none() && buffer.len() < METADATA_WITHIN {
            return Ok(None);
        }
        let metadata = bar.and_then(|bar| {
            let json = buffer.get(..bar).unwrap_or_default();
            Some((Stored::decode_metadata(flags, json).ok()?, bar + 1))
        });
        let (metadata, head) =
            metadata.map_or((None, 0), |(metadata, head)| (Some(metadata), head));
        let len = len - head + 2;
        let mut body = Vec::with_capacity(len);
        body.extend_from_slice(buffer.get(head..).unwrap_or_default());
        *buffer = &[];
        self.state = State::Large(Box::new(Large {
            flags,
            metadata,
            body,
            len,
        }));
        Ok(None)
    }

    fn take_large(&mut self, format: StoredFormat) -> Result<Option<Reply>, Violation> {
        if self.large().is_some() {
            return Ok(None);
        }
        let State::Large(large) = std::mem::replace(&mut self.state, State::Line) else {
            return Ok(None);
        };
        let mut large = *large;
        let end = large.body.split_off(large.len.saturating_sub(2));
        check_end(&end)?;
        Ok(Some(Reply::Found(match large.metadata {
            Some(metadata) => Ok(Stored {
                metadata: Some(metadata),
                payload: large.body,
            }),
            None => Stored::decode_owned(format, large.flags, large.body, self.limit),
        })))
    }

    fn skip(
        &mut self,
        buffer: &mut &[u8],
        len: usize,
        left: usize,
    ) -> Result<Option<Reply>, Violation> {
        let here = left.min(buffer.len());
        *buffer = buffer.get(here..).unwrap_or_default();
        let left = left - here;
        self.state = State::Skip { len, left };
        let Some((end, rest)) = buffer.split_at_checked(2) else {
            return Ok(None);
        };
        check_end(end)?;
        *buffer = rest;
        self.state = State::Line;
        Ok(Some(Reply::TooLarge(len)))
    }
}

fn check_end(end: &[u8]) -> Result<(), Violation> {
    if end == b"\r\n" {
        return Ok(());
    }
    Err(Violation::Other(
        "a value does not have the announced length".into(),
    ))
}

/// A line without its end, and what follows it.
type Line<'a> = (&'a [u8], &'a [u8]);

/// The first line.
fn split_line<'a>(buffer: &&'a [u8]) -> Result<Option<Line<'a>>, Violation> {
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
#[inline]
fn split_value<'a>(buffer: &'a [u8], expected: &Expected) -> Option<(u32, usize, &'a [u8])> {
    let (flags, len, rest) = match expected {
        Expected::One { tag } => split_meta_value(buffer, *tag)?,
        Expected::Many(tagged) => split_meta_value(buffer, tagged.next_tag())?,
        Expected::Values(values) => {
            let key = values.next_key()?;
            let rest = buffer.strip_prefix(b"VALUE ")?;
            let rest = rest.strip_prefix(key)?.strip_prefix(b" ")?;
            let (flags, rest) = split_number(rest)?;
            let (len, rest) = split_number(rest.strip_prefix(b" ")?)?;
            let rest = rest.strip_prefix(b"\r\n")?;
            (flags, len, rest)
        }
        Expected::Quiet(_) | Expected::Lines(_) | Expected::Version | Expected::Meta(_) => {
            return None;
        }
    };
    Some((flags, len as usize, rest))
}

/// A value of `len` bytes and what follows it, if it and its end have arrived.
fn split_complete(buffer: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    let (value, rest) = buffer.split_at_checked(len)?;
    Some((value, rest.strip_prefix(b"\r\n")?))
}

#[inline]
fn split_meta_value(buffer: &[u8], expected: usize) -> Option<(u32, u32, &[u8])> {
    let (len, rest) = split_number(buffer.strip_prefix(b"VA ")?)?;
    let (flags, rest) = split_number(rest.strip_prefix(b" f")?)?;
    let rest = split_tag(rest.strip_prefix(b" O")?, expected)?;
    Some((flags, len, rest))
}

/// Fast path for the reply to a write, exactly as memcached writes it. Returns the rest of the
/// buffer.
fn split_done<'a>(buffer: &'a [u8], expected: &Expected) -> Option<&'a [u8]> {
    let expected = match expected {
        Expected::One { tag } => *tag,
        Expected::Many(tagged) => tagged.next_tag(),
        _ => return None,
    };
    split_tag(buffer.strip_prefix(b"HD O")?, expected)
}

/// The tag `expected` at the end of a line. Returns what follows the line.
fn split_tag(bytes: &[u8], expected: usize) -> Option<&[u8]> {
    let ([a, b, c, d, b'\r', b'\n'], rest) = bytes.split_first_chunk()? else {
        return None;
    };
    ([*a, *b, *c, *d] == tag_digits(expected)).then_some(rest)
}

/// A number of at most nine digits.
#[inline]
fn split_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (mut number, mut rest) = (0_u32, bytes);
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        number = number.wrapping_mul(10).wrapping_add((digit - b'0').into());
        rest = behind;
    }
    let digits = bytes.len() - rest.len();
    (1..=9).contains(&digits).then_some((number, rest))
}

/// What a line of the response to `expected` says.
fn read_line<'a>(line: &'a [u8], expected: &Expected) -> Result<Item<'a>, Violation> {
    // memcached has dropped the responses that it had not sent yet, so it is unknown which request
    // this belongs to.
    if line.starts_with(b"SERVER_ERROR out of memory writing get response") {
        let reason = "the server ran out of memory for responses";
        return Err(Violation::Other(reason.into()));
    }
    match expected {
        Expected::One { tag } => read_meta(line, *tag),
        Expected::Many(tagged) => read_meta(line, tagged.next_tag()),
        Expected::Quiet(_) => read_quiet(line),
        Expected::Values(_) => read_text(line),
        Expected::Lines(_) => read_written(line),
        Expected::Version => check_version(line, Dialect::Meta).map(|()| Item::End),
        Expected::Meta(meta) => read_meta_response(line, meta.tag, meta.status),
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
fn read_meta(line: &[u8], tag: usize) -> Result<Item<'_>, Violation> {
    let is_tag = |number: &[u8]| decimal(number) == Some(tag);
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
    // It ends the response without an END: a proxy has lost the server.
    if line.starts_with(b"SERVER_ERROR") {
        return Ok(Item::Refused(refusal(line)));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Expected {
        Expected::quiet(3)
    }

    fn decode(mut bytes: &[u8], mut expected: Expected) -> Result<Option<Response>, Violation> {
        Decoder::new(1000, StoredFormat::Envelope).decode(&mut bytes, &mut expected)
    }

    #[test]
    fn quiet_commands_complete_at_the_final_response() {
        for bytes in [&b"MN\r\n"[..], b"NF O7\r\nNF O8\r\nMN\r\n"] {
            let response = decode(bytes, quiet()).unwrap();
            let is_done = matches!(response, Some(Response::AllDone(3)));
            assert!(is_done, "{response:?}");
        }
        for bytes in [&b""[..], b"MN", b"NF O7\r\n"] {
            assert!(matches!(decode(bytes, quiet()), Ok(None)));
        }
    }

    #[test]
    fn a_failed_quiet_command_is_reported_at_the_end() {
        for line in ["NS O7", "SERVER_ERROR out of memory storing object"] {
            let bytes = format!("{line}\r\nMN\r\n");
            let response = decode(bytes.as_bytes(), quiet()).unwrap();
            assert!(matches!(response, Some(Response::SomeFailed)));
        }
    }

    #[test]
    fn each_quiet_command_has_at_most_one_message() {
        for line in ["NF O7\r\n", "NS O7\r\n"] {
            let end = |lines| line.repeat(lines) + "MN\r\n";
            assert!(matches!(decode(end(3).as_bytes(), quiet()), Ok(Some(_))));
            assert!(decode(line.repeat(4).as_bytes(), quiet()).is_err());
        }
    }

    #[test]
    fn unexpected_responses_to_quiet_commands_are_violations() {
        for line in ["HD O7", "VA 1 f0 O7", "EN", "END", "ERROR", "MNX"] {
            let bytes = format!("{line}\r\nMN\r\n");
            assert!(decode(bytes.as_bytes(), quiet()).is_err(), "{line}");
        }
        assert!(decode(b"MN\r\n", Expected::One { tag: 7 }).is_err());
    }

    #[test]
    fn a_value_header_may_take_other_forms() {
        let value = "{\"ct\": 7.5, \"v\": 2}|hi";
        for line in [
            "VA 22 f0 O7",
            "VA 22 O7 f0",
            "VA 22 f0 O7 t-1",
            "VA 00022 f00 O0000000007",
        ] {
            let bytes = format!("{line}\r\n{value}\r\n");
            let response = decode(bytes.as_bytes(), Expected::One { tag: 7 }).unwrap();
            let Some(Response::One(Reply::Found(Ok(found)))) = response else {
                panic!("{line}: {response:?}");
            };
            assert_eq!(found.payload, b"hi");
        }
        for line in [
            "VA 22 f0 O8",
            "VA f0 O7",
            "VA 22 f O7",
            "VA 22 f0 O",
            "VA 22 f0",
        ] {
            let bytes = format!("{line}\r\n{value}\r\n");
            let response = decode(bytes.as_bytes(), Expected::One { tag: 7 });
            assert!(response.is_err(), "{line}");
        }
        for (line, is_done) in [("HD t1 O7", true), ("HD t1 O8", false), ("HD t1", false)] {
            let response = decode(format!("{line}\r\n").as_bytes(), Expected::One { tag: 7 });
            assert_eq!(response.is_ok(), is_done, "{line}");
        }
    }

    #[test]
    fn values_are_matched_to_keys_in_order() {
        let value = |key: &str| format!("VALUE {key} 0 22\r\n{{\"ct\": 7.5, \"v\": 2}}|hi\r\n");
        let get = |bytes: String| {
            decode(
                bytes.as_bytes(),
                Expected::values("get a b c".into(), vec![5, 7, 9]),
            )
        };
        let found = |bytes| match get(bytes).unwrap() {
            Some(Response::Many(replies)) => replies
                .iter()
                .map(|reply| matches!(reply, Reply::Found(Ok(_))))
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            found(format!("{}END\r\n", value("b"))),
            [false, true, false]
        );
        let both = format!("{}{}END\r\n", value("a"), value("c"));
        assert_eq!(found(both), [true, false, true]);
        // A proxy answers for several servers.
        let others = format!("{}{}{}END\r\n", value("b"), value("c"), value("a"));
        assert_eq!(found(others), [true, true, true]);
        let others = format!("{}{}END\r\n", value("c"), value("a"));
        assert_eq!(found(others), [true, false, true]);
        for keys in [&["a", "a"][..], &["a", "b", "c", ""], &["ab"], &["c", "c"]] {
            let bytes: String = keys.iter().map(|key| value(key)).collect();
            assert!(get(bytes).is_err(), "{keys:?}");
        }
    }

    #[test]
    fn repeated_keys_may_be_answered_out_of_order() {
        let value =
            |key: &str, n: usize| format!("VALUE {key} 0 21\r\n{{\"ct\": 7.5, \"v\": 2}}|{n}\r\n");
        let bytes = [value("a", 0), value("b", 1), value("b", 1)].concat() + "END\r\n";
        let expected = Expected::values("get b a b m".into(), vec![5, 7, 9, 11]);
        let Some(Response::Many(replies)) = decode(bytes.as_bytes(), expected).unwrap() else {
            panic!("it is complete");
        };
        let payloads: Vec<_> = replies
            .iter()
            .map(|reply| match reply {
                Reply::Found(Ok(found)) => found.payload.as_slice(),
                _ => b"",
            })
            .collect();
        assert_eq!(payloads, [&b"1"[..], b"0", b"1", b""]);
    }

    #[test]
    fn the_replies_to_classic_writes_are_told_apart() {
        let bytes = b"STORED\r\nDELETED\r\nNOT_FOUND\r\nNOT_STORED\r\nSERVER_ERROR no\r\n";
        let Ok(Some(Response::Many(replies))) = decode(bytes, Expected::lines(5)) else {
            panic!("it is complete");
        };
        let shown: Vec<String> = replies.iter().map(|reply| format!("{reply:?}")).collect();
        let done = ["Done", "Done", "Done"];
        assert_eq!(shown[..3], done);
        assert_eq!(shown[3..], [r#"Failed("not stored")"#, r#"Failed("no")"#]);
        for line in [
            "HD O7",
            "END",
            "ERROR",
            "EXISTS",
            "CLIENT_ERROR bad data chunk",
        ] {
            assert!(
                decode(format!("{line}\r\n").as_bytes(), Expected::lines(1)).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn a_server_error_ends_a_classic_get_and_keeps_the_connection() {
        let value = "VALUE b 0 22\r\n{\"ct\": 7.5, \"v\": 2}|hi\r\n";
        for (before, found) in [("", false), (value, true)] {
            let bytes = format!("{before}SERVER_ERROR Connection refused\r\nEN\r\n");
            let mut rest = bytes.as_bytes();
            let mut decoder = Decoder::new(1000, StoredFormat::Envelope);
            let mut expected = Expected::values("get a b c".into(), vec![5, 7, 9]);
            let response = decoder.decode(&mut rest, &mut expected);
            let Ok(Some(Response::Many(replies))) = response else {
                panic!("{response:?}");
            };
            // That `a` is missing is not certain.
            for (reply, found) in replies.iter().zip([false, found, false]) {
                match reply {
                    Reply::Found(Ok(_)) => assert!(found),
                    Reply::Failed(reason) => assert!(!found && reason == "Connection refused"),
                    other => panic!("{other:?}"),
                }
            }
            let next = decoder.decode(&mut rest, &mut Expected::One { tag: 7 });
            assert!(matches!(next, Ok(Some(Response::One(Reply::Missing)))));
        }
    }

    #[test]
    fn a_server_that_dropped_its_responses_is_out_of_step() {
        let line = b"SERVER_ERROR out of memory writing get response\r\n";
        for expected in [
            Expected::One { tag: 7 },
            Expected::values("get a b".into(), vec![5, 7]),
        ] {
            assert!(decode(line, expected).is_err());
        }
    }

    #[test]
    fn responses_of_old_servers_are_recognized() {
        // Of memcached 1.6.9 to `ms` and `md`, and of 1.5.
        for line in ["CLIENT_ERROR invalid flag", "OK  O7", "ERROR"] {
            let bytes = format!("{line}\r\n");
            let Err(Violation::Other(reason)) = decode(bytes.as_bytes(), Expected::One { tag: 7 })
            else {
                panic!("{line} is not a violation");
            };
            assert!(reason.contains("use memcached 1.6.10 or later"), "{reason}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_of_printable_characters() {
        let bytes = b"SERVER_ERROR \x1b[2J\rnext \xff line\r\n";
        let response = decode(bytes, Expected::One { tag: 7 }).unwrap();
        let Some(Response::One(Reply::Failed(reason))) = response else {
            panic!("{response:?}");
        };
        assert_eq!(reason, "\u{fffd}[2J\u{fffd}next \u{fffd} line");
    }

    #[test]
    fn a_value_of_exactly_the_limit_is_read() {
        let mut value = br#"{"ct": 7.5, "v": 2}|"#.to_vec();
        value.resize(1000, b'v');
        for line in ["VA 1000 f0 O7", "VA 1000 O7 f0"] {
            let bytes = [line.as_bytes(), b"\r\n", &value, b"\r\n"].concat();
            let response = decode(&bytes, Expected::One { tag: 7 });
            let is_read = matches!(response, Ok(Some(Response::One(Reply::Found(Ok(_))))));
            assert!(is_read, "{response:?}");
        }
        // The largest that memcached can store.
        let line = format!("VA {MAX_ITEM} f0 O7\r\n");
        let response = decode(line.as_bytes(), Expected::One { tag: 7 });
        assert!(matches!(response, Ok(None)), "{response:?}");
    }

    #[test]
    fn a_large_value_is_decoded_by_its_client_flags_wherever_it_is_split() {
        let short = br#"{"ct": 7.5, "v": 2}|"#.to_vec();
        let long = format!(
            r#"{{"ct": 7.5, "v": 2, "more": "{}"}}|"#,
            "x".repeat(METADATA_WITHIN)
        );
        for (flags, metadata, is_read) in [
            (0, &short, true),
            (16, &short, true),
            (0, &long.into_bytes(), true),
            (8, &short, false),
            (1, &short, false),
        ] {
            let meta = metadata.len();
            let mut value = metadata.clone();
            value.resize(2 * LARGE, b'v');
            let len = value.len();
            let head = format!("VA {len} f{flags} O7\r\n");
            let bytes = [head.as_bytes(), &value, b"\r\n"].concat();
            for split in [head.len() + 100, head.len() + LARGE, bytes.len()] {
                let mut decoder = Decoder::new(len, StoredFormat::Envelope);
                let mut expected = Expected::One { tag: 7 };
                let mut rest = &bytes[..split];
                let mut response = decoder.decode(&mut rest, &mut expected).unwrap();
                if response.is_none() {
                    let has_own_buffer = decoder.large().is_some();
                    assert!(has_own_buffer || split < head.len() + METADATA_WITHIN);
                    let mut rest = [rest, &bytes[split..]].concat();
                    if let Some((body, missing)) = decoder.large() {
                        body.extend(rest.drain(..missing));
                    }
                    response = decoder.decode(&mut &*rest, &mut expected).unwrap();
                }
                let Some(Response::One(Reply::Found(found))) = response else {
                    panic!("{response:?}");
                };
                let payload = found.as_ref().map(|found| found.payload.len()).ok();
                assert_eq!(payload, is_read.then_some(len - meta), "{flags}, {split}");
                assert_eq!(found.is_ok(), is_read, "flags {flags}, {split}: {found:?}");
            }
        }
    }

    #[test]
    fn frequent_lines_take_the_fast_path() {
        let rest = &b"v\r\n"[..];
        let value = |line: &str| [line.as_bytes(), rest].concat();
        let one = Expected::One { tag: 7 };
        let many = Expected::many(7, 2);
        let values = Expected::values("get a b".into(), vec![5, 7]);
        for (line, expected) in [
            ("VA 1 f0 O0007\r\n", &one),
            ("VA 1 f0 O0007\r\n", &many),
            ("VALUE a 0 1\r\n", &values),
        ] {
            assert_eq!(split_value(&value(line), expected), Some((0, 1, rest)));
            for other in [
                "VA 1 f0 O0008\r\n",
                "VA 1 f0 O7\r\n",
                "VALUE b 0 1\r\n",
                "EN\r\n",
            ] {
                assert_eq!(split_value(&value(other), expected), None, "{other:?}");
            }
        }
        for expected in [&one, &many] {
            assert_eq!(split_done(&value("HD O0007\r\n"), expected), Some(rest));
            assert_eq!(split_done(&value("HD O0008\r\n"), expected), None);
        }
        assert_eq!(split_done(&value("HD O0007\r\n"), &values), None);
        assert_eq!(split_complete(b"ab\r\nc", 2), Some((&b"ab"[..], &b"c"[..])));
        for (bytes, len) in [(&b"ab\r"[..], 2), (b"a", 2), (b"abc\r\n", 2)] {
            assert_eq!(split_complete(bytes, len), None);
        }
    }

    #[test]
    fn numbers_have_one_to_nine_digits() {
        for (bytes, number, rest) in [
            ("0", 0, ""),
            ("120 f", 120, " f"),
            ("999999999\r", 999_999_999, "\r"),
        ] {
            assert_eq!(
                split_number(bytes.as_bytes()),
                Some((number, rest.as_bytes()))
            );
        }
        for bytes in ["", " 1", "-1", "1234567890", "99999999999999999999 f"] {
            assert_eq!(split_number(bytes.as_bytes()), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_large_value_is_read_into_a_buffer_without_its_metadata() {
        for (flags, begun) in [(0, &b"{\"ct\": 7.5, \"v\": 2}|xx"[..]), (8, b"\x78\x9cabc")] {
            let mut decoder = Decoder::new(1 << 20, StoredFormat::Envelope);
            let mut bytes = format!("VA 100000 f{flags} O0007\r\n").into_bytes();
            bytes.extend_from_slice(begun);
            if flags == 0 {
                // Only now is it known that there is no bar further on.
                bytes.resize(bytes.len() + METADATA_WITHIN, b'x');
            }
            let mut rest = bytes.as_slice();
            let response = decoder.decode(&mut rest, &mut Expected::One { tag: 7 });
            assert!(matches!(response, Ok(None)) && rest.is_empty());
            let (body, missing) = decoder.large().unwrap();
            let head = if flags == 0 { begun.len() - 2 } else { 0 };
            assert_eq!(body.len() + missing, 100_002 - head);
            assert_eq!(body.first(), begun.get(head));
        }
    }

    #[test]
    fn a_value_with_another_length_than_announced_is_refused() {
        let metadata = br#"{"ct": 7.5, "v": 2}|"#;
        // Of each kind: small, large, skipped.
        for len in [100, 2 * LARGE, 4 * LARGE] {
            for (end, is_valid) in [(&b"\r\n"[..], true), (b"vv", false), (b"v\r\n", false)] {
                let mut decoder = Decoder::new(3 * LARGE, StoredFormat::Envelope);
                let mut bytes = format!("VA {len} f0 O0007\r\n").into_bytes();
                let head = bytes.len();
                bytes.extend_from_slice(metadata);
                bytes.resize(head + len, b'v');
                bytes.extend_from_slice(end);
                let mut expected = Expected::One { tag: 7 };
                let (mut first, mut rest) = bytes.split_at(head + METADATA_WITHIN.min(len - 1));
                assert!(matches!(
                    decoder.decode(&mut first, &mut expected),
                    Ok(None)
                ));
                let mut first = [first, rest].concat();
                if let Some((body, missing)) = decoder.large() {
                    body.extend_from_slice(rest.split_off(..missing).unwrap());
                    first = rest.to_vec();
                }
                let response = decoder.decode(&mut first.as_slice(), &mut expected);
                assert_eq!(response.is_ok(), is_valid, "{len} bytes and {end:?}");
            }
        }
    }

    #[test]
    fn a_value_beyond_the_limit_is_skipped() {
        let mut bytes = b"VA 2000 f0 O7\r\n".to_vec();
        bytes.resize(bytes.len() + 2000, b'x');
        bytes.extend_from_slice(b"\r\nEN\r\n");
        let mut decoder = Decoder::new(1000, StoredFormat::Envelope);
        let mut rest = bytes.as_slice();
        let first = decoder.decode(&mut rest, &mut Expected::One { tag: 7 });
        assert!(matches!(
            first,
            Ok(Some(Response::One(Reply::TooLarge(2000))))
        ));
        let second = decoder.decode(&mut rest, &mut Expected::One { tag: 8 });
        assert!(matches!(second, Ok(Some(Response::One(Reply::Missing)))));
        assert!(decode(b"VA 9999999999 f0 O7\r\n", Expected::One { tag: 7 }).is_err());
    }
}
