//! Encoding of keys, commands and requests, in either protocol. A request says which response it
//! expects.

use std::borrow::Cow;

use cache_core::wire::Metadata;
use cache_core::{Error, ErrorKind, Result};

use super::base64;
use super::response::Expected;
use crate::NAME;

/// Of memcached: in bytes on the wire.
const MAX_KEY_LENGTH: usize = 250;

/// The length of `key` on the wire in bytes. Keys that the text protocol cannot carry are encoded
/// in base64.
pub(crate) fn wire_len(key: &str) -> usize {
    if is_plain(key) {
        key.len()
    } else {
        base64::encoded_len(key.len())
    }
}

/// Whether `key` is sent unencoded.
pub(crate) fn is_plain(key: &str) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Eight bytes at once: of ASCII, a byte below 0x21 borrows from its highest bit, and 0x7f plus
    // one carries into it. No byte of UTF-8 is so large that one carries into the next byte.
    let odd = |word: u64| (word.wrapping_sub(ONES * 0x21) | word.wrapping_add(ONES)) & !word & HIGH;
    let bytes = key.as_bytes();
    let Some(last) = bytes.last_chunk() else {
        return !bytes.iter().any(|&byte| byte <= 0x20 || byte == 0x7f);
    };
    let (words, _) = bytes.as_chunks();
    let last = odd(u64::from_le_bytes(*last));
    let all = words.iter().map(|word| odd(u64::from_le_bytes(*word)));
    all.fold(last, |all, word| all | word) == 0
}

/// The protocol of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `mg`, `ms`, `md`: memcached 1.6.10 and later.
    #[default]
    Meta,
    /// `get`, `set`, `delete`: for proxies and older servers.
    Classic,
}

/// Checks that memcached accepts `key`. Otherwise returns an `InvalidKey` error that names it.
pub(crate) fn check_key(key: &str, dialect: Dialect) -> Result<()> {
    let refused =
        |why: Cow<'static, str>| Err(Error::new(ErrorKind::InvalidKey, NAME, why).with_key(key));
    if dialect == Dialect::Classic && !is_plain(key) {
        return refused(
            "the key contains spaces or control characters: the classic protocol cannot carry \
             them; hash keys with `sha1_keys()`"
                .into(),
        );
    }
    // The common case, without scanning the key.
    if (1..=MAX_KEY_LENGTH * 3 / 4 - 1).contains(&key.len()) {
        return Ok(());
    }
    match wire_len(key) {
        0 => refused("the key is empty; use at least one character".into()),
        1..=MAX_KEY_LENGTH => Ok(()),
        n if is_plain(key) => refused(
            format!(
                "the key has {n} bytes: the limit is {MAX_KEY_LENGTH}; shorten it, or hash keys \
                 with `sha1_keys()`"
            )
            .into(),
        ),
        n => refused(
            format!(
                "the key has {n} bytes in base64, which spaces and control characters require: \
                 the limit is {MAX_KEY_LENGTH}; shorten it, or hash keys with `sha1_keys()`"
            )
            .into(),
        ),
    }
}

/// Tags are numbers of four digits: there are more than commands in flight.
const TAGS: usize = 10_000;

/// The tag of the command `n` places after the one with the tag `first`.
pub(crate) fn tag_behind(first: usize, n: usize) -> usize {
    first.wrapping_add(n) % TAGS
}

/// The digits of `tag` on the wire, always four, so that they are compared without being parsed.
#[expect(clippy::cast_possible_truncation, reason = "it has four digits")]
pub(super) fn tag_digits(tag: usize) -> [u8; 4] {
    const ZEROS: u32 = u32::from_le_bytes([b'0'; 4]);
    let tag = tag as u32;
    // Two numbers of two digits, and their division by ten at once.
    let pairs = tag / 100 + ((tag % 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f;
    (ZEROS + tens + ((pairs - tens * 10) << 8)).to_le_bytes()
}

/// Commands to be written, in order.
///
/// Each meta command has a tag, a number that its reply repeats, so that an unexpected response is
/// never mistaken for a reply. Only quiet commands and a classic `get` have no tags; the values for
/// the latter contain their keys.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    /// Where each command ends.
    pub(crate) ends: Vec<usize>,
    /// It has contained a value for a meta command.
    pub(crate) has_value: bool,
    dialect: Dialect,
    next_tag: usize,
    /// The metadata of the current command, of which the length comes first.
    head: Vec<u8>,
}

impl Outgoing {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            ..Self::default()
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) fn tag(&mut self) -> usize {
        let tag = self.next_tag;
        self.next_tag = tag_behind(tag, 1);
        tag
    }
}

/// One command for one key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command<'a> {
    Get(&'a str),
    Set {
        key: &'a str,
        /// What is written before the payload.
        metadata: Option<&'a Metadata>,
        payload: &'a [u8],
        /// memcached's expiry: 0 for never, seconds up to 30 days, otherwise the time since the
        /// epoch.
        expires: u32,
        /// The client flags.
        flags: u32,
    },
    Delete(&'a str),
}

impl<'a> Command<'a> {
    pub(crate) fn key(&self) -> &'a str {
        match self {
            Self::Get(key) | Self::Delete(key) | Self::Set { key, .. } => key,
        }
    }

    /// The approximate size in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Set { payload, .. } => payload.len(),
            Self::Get(_) | Self::Delete(_) => 0,
        }
    }

    /// Appends the command in the classic protocol.
    pub(crate) fn encode_classic(&self, out: &mut Outgoing) {
        self.encode_head(&mut out.head);
        let line = &mut out.bytes;
        line.extend_from_slice(match self {
            Self::Get(_) => b"get ",
            Self::Set { .. } => b"set ",
            Self::Delete(_) => b"delete ",
        });
        line.extend_from_slice(self.key().as_bytes());
        if let Self::Set {
            payload,
            expires,
            flags,
            ..
        } = self
        {
            line.push(b' ');
            encode_number(u64::from(*flags), line);
            line.push(b' ');
            encode_number(u64::from(*expires), line);
            line.push(b' ');
            encode_number((out.head.len() + payload.len()) as u64, line);
        }
        line.extend_from_slice(b"\r\n");
        self.encode_payload(&out.head, line);
        out.ends.push(out.bytes.len());
    }

    /// Appends the command and returns its tag.
    #[inline]
    pub(crate) fn encode(&self, out: &mut Outgoing) -> usize {
        let tag = out.tag();
        match self {
            // The most frequent command, in three pieces.
            Self::Get(key) if is_plain(key) => {
                let [a, b, c, d] = tag_digits(tag);
                let bytes = &mut out.bytes;
                bytes.extend_from_slice(b"mg ");
                bytes.extend_from_slice(key.as_bytes());
                bytes.extend_from_slice(&[
                    b' ', b'v', b' ', b'f', b' ', b'O', a, b, c, d, b'\r', b'\n',
                ]);
                out.ends.push(bytes.len());
            }
            _ => self.encode_with(Some(tag), out),
        }
        tag
    }

    /// Appends a write that the server answers only if it fails, which saves a tenth of the time
    /// for many writes. [`encode_end`] must follow the last one.
    pub(crate) fn encode_quiet(&self, out: &mut Outgoing) {
        self.encode_with(None, out);
    }

    /// Appends the command with a tag, or a quiet one.
    fn encode_with(&self, tag: Option<usize>, out: &mut Outgoing) {
        let verb = match self {
            Self::Get(_) => b'g',
            Self::Set { .. } => b's',
            Self::Delete(_) => b'd',
        };
        self.encode_head(&mut out.head);
        let rest = |line: &mut Vec<u8>| self.encode_flags(out.head.len(), tag, line);
        encode_line(verb, self.key(), rest, &mut out.bytes);
        out.has_value |= matches!(self, Self::Set { .. });
        self.encode_payload(&out.head, &mut out.bytes);
        out.ends.push(out.bytes.len());
    }

    /// Replaces `head` by the metadata.
    fn encode_head(&self, head: &mut Vec<u8>) {
        /// Other programs may have added much.
        const KEPT: usize = 4 * 1024;
        if head.capacity() > KEPT {
            *head = Vec::new();
        }
        head.clear();
        if let Self::Set {
            metadata: Some(metadata),
            ..
        } = self
        {
            metadata.write_json(head);
            head.push(b'|');
        }
    }

    fn encode_payload(&self, head: &[u8], out: &mut Vec<u8>) {
        if let Self::Set { payload, .. } = self {
            // Otherwise the end of the line would double the buffer.
            out.reserve(head.len() + payload.len() + 2);
            out.extend_from_slice(head);
            out.extend_from_slice(payload);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends the part after the key.
    #[inline]
    fn encode_flags(&self, head: usize, tag: Option<usize>, out: &mut Vec<u8>) {
        match self {
            // The value, and its client flags.
            Self::Get(_) => out.extend_from_slice(b" v f"),
            Self::Delete(_) => {}
            Self::Set {
                payload,
                expires,
                flags: client_flags,
                ..
            } => {
                out.push(b' ');
                encode_number((head + payload.len()) as u64, out);
                // Without the flag, the value never expires.
                if *expires != 0 {
                    out.extend_from_slice(b" T");
                    encode_number(u64::from(*expires), out);
                }
                if *client_flags != 0 {
                    out.extend_from_slice(b" F");
                    encode_number(u64::from(*client_flags), out);
                }
            }
        }
        match tag {
            Some(tag) => encode_tag(tag, out),
            None => out.extend_from_slice(b" q"),
        }
    }
}

/// Appends the flag that the reply repeats.
pub(super) fn encode_tag(tag: usize, out: &mut Vec<u8>) {
    let [a, b, c, d] = tag_digits(tag);
    out.extend_from_slice(&[b' ', b'O', a, b, c, d]);
}

/// Appends the line of the meta command `m` followed by `verb`; `rest` appends the part after the
/// key.
#[inline]
pub(super) fn encode_line(verb: u8, key: &str, rest: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'm', verb, b' ']);
    if is_plain(key) {
        out.extend_from_slice(key.as_bytes());
        rest(out);
    } else {
        base64::encode(key.as_bytes(), out);
        rest(out);
        out.extend_from_slice(b" b");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a command that is answered once all commands before it are done, and never fails.
fn encode_end(out: &mut Outgoing) {
    out.bytes.extend_from_slice(b"mn\r\n");
    out.ends.push(out.bytes.len());
}

/// Appends the decimal digits of `number`, several times faster than `write!`.
pub(super) fn encode_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// Appends the text command that asks for many keys at once, cheaper for the server than as
/// many meta commands, and returns its line and where its keys end. The keys must be
/// [plain](is_plain).
fn encode_get_many<'k>(
    keys: impl ExactSizeIterator<Item = &'k str>,
    out: &mut Outgoing,
) -> (String, Vec<usize>) {
    /// A guess at the length of a key.
    const KEY: usize = 40;
    let mut line = String::with_capacity("get".len() + keys.len() * (1 + KEY));
    line.push_str("get");
    let mut ends = Vec::with_capacity(keys.len());
    for key in keys {
        line.push(' ');
        line.push_str(key);
        ends.push(line.len());
    }
    out.bytes.extend_from_slice(line.as_bytes());
    out.bytes.extend_from_slice(b"\r\n");
    out.ends.push(out.bytes.len());
    (line, ends)
}

/// Appends one command.
#[inline]
pub(crate) fn encode_one(command: &Command<'_>, out: &mut Outgoing) -> Expected {
    match (out.dialect(), command) {
        (Dialect::Meta, _) => Expected::One {
            tag: command.encode(out),
        },
        (Dialect::Classic, Command::Get(key)) => encode_get([*key].into_iter(), out),
        (Dialect::Classic, Command::Set { .. } | Command::Delete(_)) => {
            command.encode_classic(out);
            Expected::lines(1)
        }
    }
}

/// Appends a classic `get`.
pub(crate) fn encode_get<'k>(
    keys: impl ExactSizeIterator<Item = &'k str>,
    out: &mut Outgoing,
) -> Expected {
    let (request, ends) = encode_get_many(keys, out);
    Expected::values(request, ends)
}

/// Whether a command can be part of a classic `get` of many keys.
pub(crate) fn is_classic_get(command: &Command<'_>) -> bool {
    matches!(command, Command::Get(key) if is_plain(key))
}

/// Appends the commands `0..n`. They are either all reads or all writes, and either all or none of
/// the reads [are classic](is_classic_get). `is_quiet`: writes are answered together.
pub(crate) fn encode_many<'a>(
    n: usize,
    command: impl Fn(usize) -> Command<'a>,
    is_quiet: bool,
    out: &mut Outgoing,
) -> Result<Expected> {
    if n == 0 {
        return Err(Error::new(ErrorKind::Backend, NAME, "a request is empty"));
    }
    let first = command(0);
    if n == 1 {
        return Ok(encode_one(&first, out));
    }
    if is_classic_get(&command(n - 1)) {
        let keys = (0..n).map(|position| command(position).key());
        return Ok(encode_get(keys, out));
    }
    if out.dialect() == Dialect::Classic {
        for position in 0..n {
            command(position).encode_classic(out);
        }
        return Ok(Expected::lines(n));
    }
    if is_quiet && !matches!(first, Command::Get(_)) {
        for position in 0..n {
            command(position).encode_quiet(out);
        }
        encode_end(out);
        return Ok(Expected::quiet(n));
    }
    let first = first.encode(out);
    for position in 1..n {
        command(position).encode(out);
    }
    Ok(Expected::many(first, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, expires: u32, flags: u32) -> Command<'_> {
        Command::Set {
            key,
            metadata: None,
            payload: b"{}|v",
            expires,
            flags,
        }
    }

    /// The bytes of a request, in which each command ends where it says.
    fn encoded(dialect: Dialect, encode: impl FnOnce(&mut Outgoing)) -> String {
        let mut out = Outgoing::new(dialect);
        encode(&mut out);
        assert_eq!(out.ends.last(), Some(&out.bytes.len()));
        for &end in &out.ends {
            assert!(out.bytes[..end].ends_with(b"\r\n"));
        }
        String::from_utf8(out.bytes).unwrap()
    }

    #[test]
    fn single_commands_have_the_forms_of_memcached() {
        for (command, meta, classic) in [
            (Command::Get("k"), "mg k v f O0000\r\n", "get k\r\n"),
            (
                set("k", 0, 0),
                "ms k 4 O0000\r\n{}|v\r\n",
                "set k 0 0 4\r\n{}|v\r\n",
            ),
            (
                set("k", 60, 16),
                "ms k 4 T60 F16 O0000\r\n{}|v\r\n",
                "set k 16 60 4\r\n{}|v\r\n",
            ),
            (Command::Delete("k"), "md k O0000\r\n", "delete k\r\n"),
        ] {
            for (dialect, bytes) in [(Dialect::Meta, meta), (Dialect::Classic, classic)] {
                let one = encoded(dialect, |out| drop(encode_one(&command, out)));
                assert_eq!(one, bytes);
                let only = |out: &mut Outgoing| drop(encode_many(1, |_| command, true, out));
                assert_eq!(encoded(dialect, only), bytes);
            }
        }
        let odd = |out: &mut Outgoing| drop(encode_one(&Command::Get("a b"), out));
        assert_eq!(encoded(Dialect::Meta, odd), "mg YSBi v f O0000 b\r\n");
    }

    #[test]
    fn many_commands_are_one_request() {
        let many = |dialect, is_quiet, command: &dyn Fn(usize) -> Command<'static>| {
            let both = |out: &mut Outgoing| drop(encode_many(2, command, is_quiet, out));
            encoded(dialect, both)
        };
        let keys = ["k", "l"];
        let get = |n: usize| Command::Get(keys[n]);
        let odd = |n: usize| Command::Get(["a b", "c d"][n]);
        let delete = |n: usize| Command::Delete(keys[n]);
        let set = |n: usize| set(keys[n], 0, 0);
        let (meta, classic) = (Dialect::Meta, Dialect::Classic);
        for is_quiet in [true, false] {
            assert_eq!(many(meta, is_quiet, &get), "get k l\r\n");
            assert_eq!(many(classic, is_quiet, &get), "get k l\r\n");
            let found = many(meta, is_quiet, &odd);
            assert_eq!(found, "mg YSBi v f O0000 b\r\nmg YyBk v f O0001 b\r\n");
            let found = many(classic, is_quiet, &delete);
            assert_eq!(found, "delete k\r\ndelete l\r\n");
        }
        let found = many(meta, true, &set);
        assert_eq!(found, "ms k 4 q\r\n{}|v\r\nms l 4 q\r\n{}|v\r\nmn\r\n");
        assert_eq!(many(meta, false, &delete), "md k O0000\r\nmd l O0001\r\n");
        let mut none = Outgoing::new(meta);
        assert!(encode_many(0, get, false, &mut none).is_err());
    }

    #[test]
    fn only_values_for_meta_commands_are_noted() {
        for (dialect, command, is_noted) in [
            (Dialect::Meta, set("k", 0, 0), true),
            (Dialect::Meta, Command::Get("k"), false),
            (Dialect::Meta, Command::Delete("k"), false),
            (Dialect::Classic, set("k", 0, 0), false),
        ] {
            let mut out = Outgoing::new(dialect);
            encode_one(&command, &mut out);
            assert_eq!(out.has_value, is_noted, "{dialect:?} {command:?}");
            encode_one(&Command::Get("k"), &mut out);
            assert_eq!(out.has_value, is_noted, "for good");
        }
    }

    #[test]
    fn tags_wrap_around() {
        assert_eq!(tag_behind(TAGS - 1, 1), 0);
        assert_eq!(tag_behind(TAGS - 2, 1), TAGS - 1);
        assert_eq!(tag_behind(3, TAGS * 2), 3);
        let mut out = Outgoing::new(Dialect::Meta);
        out.next_tag = TAGS - 1;
        assert_eq!((out.tag(), out.tag(), out.tag()), (TAGS - 1, 0, 1));
    }

    #[test]
    fn metadata_is_part_of_the_value_and_its_buffer_is_freed_if_it_is_large() {
        let long = format!(r#"{{"ct": 1.5, "by": "{}"}}"#, "x".repeat(10_000));
        let metadata = Metadata::read_json(long.as_bytes(), NAME).unwrap();
        let mut stored = Vec::new();
        metadata.write_json(&mut stored);
        let set = Command::Set {
            key: "k",
            metadata: Some(&metadata),
            payload: b"v",
            expires: 0,
            flags: 0,
        };
        let stored = format!("{}|v\r\n", String::from_utf8(stored).unwrap());
        let len = stored.len() - 2;
        for (dialect, line) in [
            (Dialect::Meta, format!("ms k {len} O0000\r\n")),
            (Dialect::Classic, format!("set k 0 0 {len}\r\n")),
        ] {
            let mut out = Outgoing::new(dialect);
            encode_one(&set, &mut out);
            assert_eq!(out.bytes, (line + &stored).into_bytes());
            encode_one(&Command::Delete("k"), &mut out);
            assert_eq!(out.head.capacity(), 0, "{dialect:?}");
        }
    }

    #[test]
    fn the_buffer_of_a_large_value_is_hardly_larger() {
        const LEN: usize = 1 << 20;
        let payload = vec![b'v'; LEN];
        let command = Command::Set {
            key: "k",
            metadata: None,
            payload: &payload,
            expires: 0,
            flags: 0,
        };
        for dialect in [Dialect::Meta, Dialect::Classic] {
            let mut out = Outgoing::new(dialect);
            encode_one(&command, &mut out);
            let capacity = out.bytes.capacity();
            assert!(capacity < LEN + LEN / 16, "{dialect:?}: {capacity} bytes");
        }
    }

    #[test]
    fn tags_have_four_digits() {
        for tag in 0..TAGS {
            assert_eq!(&tag_digits(tag), format!("{tag:04}").as_bytes());
        }
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 99, 1_234_567_890, u64::MAX] {
            let mut out = Vec::new();
            encode_number(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn keys_have_at_most_250_bytes_on_the_wire() {
        // 186 bytes are 248 in base64, 187 are 252.
        let odd = |len: usize| " ".repeat(len);
        let plain = |len: usize| "k".repeat(len);
        for key in [plain(1), plain(187), plain(250), odd(1), odd(186)] {
            check_key(&key, Dialect::Meta).unwrap();
        }
        for (key, words) in [
            (plain(0), "is empty"),
            (plain(251), "has 251 bytes: the limit is 250"),
            (odd(187), "has 252 bytes in base64"),
        ] {
            let error = check_key(&key, Dialect::Meta).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(error.message().contains(words), "{error}");
            assert_eq!(error.keys(), [key]);
        }
        check_key(&plain(250), Dialect::Classic).unwrap();
        for key in [plain(0), plain(251), odd(1)] {
            assert!(check_key(&key, Dialect::Classic).is_err());
        }
    }

    #[test]
    fn keys_are_plain_if_they_contain_no_spaces_or_control_characters() {
        for len in 0..40 {
            assert!(is_plain(&"k".repeat(len)));
            for at in 0..len {
                for byte in 0..=0x7f {
                    let mut key = vec![b'~'; len];
                    key[at] = byte;
                    let key = String::from_utf8(key).unwrap();
                    let is_odd = byte <= 0x20 || byte == 0x7f;
                    assert_eq!(is_plain(&key), !is_odd, "{key:?}");
                }
            }
        }
        assert!(is_plain("ключ-ключ") && is_plain("\u{80}\u{a0}\u{ff}\u{ffff}"));
    }
}
