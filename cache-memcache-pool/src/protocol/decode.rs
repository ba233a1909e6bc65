//! [`Decoder`]: decodes responses from bytes that may end anywhere.

use cache_core::wire::Metadata;

use super::item::Item;
use super::line::{read_line, split_done, split_line, split_value};
use super::response::{Expected, Reply, Response, Violation};
use super::value::{COMPRESSED, Stored, StoredFormat};

/// Metadata usually ends within this many bytes, unless other programs have extended it.
const METADATA_WITHIN: usize = 512;

/// A value of at least this many bytes that has not arrived completely gets its own buffer.
const LARGE: usize = 16 * 1024;

/// The largest item that memcached can be configured to store. A larger announced value is a
/// protocol violation.
const MAX_ITEM: usize = 1 << 30;

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
    /// A large value, which is read into its own buffer.
    Large(Large),
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
                        Item::Remark { has_failed: this } => {
                            if let Expected::Quiet { has_failed, .. } = expected {
                                *has_failed |= this;
                            }
                            continue;
                        }
                        Item::MetaValue { response, len } => {
                            if let Expected::Meta { response: head, .. } = expected {
                                *head = Some(response);
                            }
                            self.state = self.value(0, len)?;
                            continue;
                        }
                        Item::End => return expected.finish().map(Some),
                        Item::Value { key, flags, len } => {
                            if let Some(key) = key {
                                expected.skip_to(key)?;
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
        self.state = State::Large(Large {
            flags,
            metadata,
            body,
            len,
        });
        Ok(None)
    }

    fn take_large(&mut self, format: StoredFormat) -> Result<Option<Reply>, Violation> {
        if self.large().is_some() {
            return Ok(None);
        }
        let State::Large(mut large) = std::mem::replace(&mut self.state, State::Line) else {
            return Ok(None);
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Expected {
        Expected::Quiet {
            commands: 3,
            has_failed: false,
        }
    }

    fn decode(mut bytes: &[u8], mut expected: Expected) -> Result<Option<Response>, Violation> {
        Decoder::new(1000, StoredFormat::Envelope).decode(&mut bytes, &mut expected)
    }

    #[test]
    fn quiet_commands_are_done_at_the_final_response() {
        for bytes in [&b"MN\r\n"[..], b"NF O7\r\nNF O8\r\nMN\r\n"] {
            let response = decode(bytes, quiet()).unwrap();
            let Some(Response::Many(replies)) = response else {
                panic!("{response:?}");
            };
            assert_eq!(replies.len(), 3);
            assert!(replies.iter().all(|reply| matches!(reply, Reply::Done)));
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
    fn unexpected_responses_to_quiet_commands_are_violations() {
        for line in ["HD O7", "VA 1 f0 O7", "EN", "END", "ERROR", "MNX"] {
            let bytes = format!("{line}\r\nMN\r\n");
            assert!(decode(bytes.as_bytes(), quiet()).is_err(), "{line}");
        }
        assert!(decode(b"MN\r\n", Expected::One { tag: 7 }).is_err());
    }

    #[test]
    fn a_value_may_be_announced_in_other_words() {
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
    }

    #[test]
    fn values_are_those_of_the_keys_in_their_order() {
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
        for keys in [&["b", "a"][..], &["a", "b", "c", ""], &["ab"], &["c", "c"]] {
            let bytes: String = keys.iter().map(|key| value(key)).collect();
            assert!(get(bytes).is_err(), "{keys:?}");
        }
    }

    #[test]
    fn a_value_beyond_the_limit_is_passed_over() {
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
