//! Meta commands of callers: [`MetaRequest`], [`MetaResponse`].

use std::fmt;

use cache_core::{Error, ErrorKind, Result};
use memcache::exp::MetaOp;

use super::encode::{Outgoing, encode_line, encode_number};
use super::line::{Item, decimal, server_error};
use super::response::{Expected, Reply, Violation};
use crate::NAME;

/// memcached accepts about 20 tokens per line.
const MAX_FLAGS: usize = 12;

/// The longest meaningful token is a 64-bit number.
const MAX_TOKEN: usize = 32;

/// A command of memcached's meta protocol: a verb, a key, flags, and for `ms` a value.
///
/// The flags are those of [memcached's documentation][protocol]: a letter, and a token if the
/// letter takes one. [`MemcachePoolBackend::meta`] sends the request.
///
/// ```
/// use cache_memcache_pool::MetaRequest;
///
/// // Adds 5, or stores 5 for ten minutes if the key has no value; returns the number.
/// let increment = MetaRequest::arithmetic("visits")
///     .flag_with('D', 5)
///     .flag_with('N', 600)
///     .flag_with('J', 5)
///     .flag('v');
/// assert_eq!(increment.key(), "visits");
/// ```
///
/// [protocol]: https://docs.memcached.org/protocols/meta/
/// [`MemcachePoolBackend::meta`]: crate::MemcachePoolBackend::meta
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaRequest {
    verb: Verb,
    key: String,
    value: Vec<u8>,
    flags: Vec<(char, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    Set,
    Delete,
    Arithmetic,
    Debug,
    Noop,
}

impl Verb {
    fn op(self) -> MetaOp {
        match self {
            Self::Get => MetaOp::Get,
            Self::Set => MetaOp::Set,
            Self::Delete => MetaOp::Delete,
            Self::Arithmetic => MetaOp::Arithmetic,
            Self::Debug => MetaOp::Debug,
            Self::Noop => MetaOp::Noop,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Get => "mg",
            Self::Set => "ms",
            Self::Delete => "md",
            Self::Arithmetic => "ma",
            Self::Debug => "me",
            Self::Noop => "mn",
        }
    }

    /// The flags with which the command is idempotent.
    fn repeatable_flags(self) -> Option<&'static str> {
        match self {
            // Not `h` and `l`: the first attempt counts as an access.
            Self::Get => Some("cfstvET"),
            Self::Set => Some("EFT"),
            Self::Debug | Self::Noop => Some(""),
            // A repeated delete may find nothing.
            Self::Delete | Self::Arithmetic => None,
        }
    }
}

impl MetaRequest {
    fn new(verb: Verb, key: impl Into<String>, value: Vec<u8>) -> Self {
        Self {
            verb,
            key: key.into(),
            value,
            flags: Vec::new(),
        }
    }

    /// `mg`: reads a value (`v`), its properties (`t`, `s`, `c`, …), or changes its lifetime
    /// (`T`).
    ///
    /// ```
    /// # use cache_memcache_pool::MetaRequest;
    /// let touch = MetaRequest::get("session").flag_with('T', 300);
    /// ```
    pub fn get(key: impl Into<String>) -> Self {
        Self::new(Verb::Get, key, Vec::new())
    }

    /// `ms`: stores `value` without the metadata that [`set`] adds. Modes (`M`) are `E` for add,
    /// `A` and `P` for append and prepend, `R` for replace; `C` compares the unique number (CAS)
    /// of the current value.
    ///
    /// ```
    /// # use cache_memcache_pool::MetaRequest;
    /// let add = MetaRequest::set("lock", "me").flag_with('M', 'E').flag_with('T', 30);
    /// ```
    ///
    /// [`set`]: cache_core::CacheBackend::set
    pub fn set(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self::new(Verb::Set, key, value.into())
    }

    /// `md`: deletes a value, or marks it as stale (`I`).
    ///
    /// ```
    /// # use cache_memcache_pool::MetaRequest;
    /// let if_unchanged = MetaRequest::delete("session").flag_with('C', 1789);
    /// ```
    pub fn delete(key: impl Into<String>) -> Self {
        Self::new(Verb::Delete, key, Vec::new())
    }

    /// `ma`: adds to a number in decimal digits (`MI`, the default) or subtracts from it (`MD`).
    ///
    /// ```
    /// # use cache_memcache_pool::MetaRequest;
    /// let decrement = MetaRequest::arithmetic("stock").flag_with('M', 'D').flag('v');
    /// ```
    pub fn arithmetic(key: impl Into<String>) -> Self {
        Self::new(Verb::Arithmetic, key, Vec::new())
    }

    /// `me`: memcached's information about an item, as text in the response's value.
    ///
    /// ```
    /// # use cache_memcache_pool::MetaRequest;
    /// let about = MetaRequest::debug("session");
    /// ```
    pub fn debug(key: impl Into<String>) -> Self {
        Self::new(Verb::Debug, key, Vec::new())
    }

    /// `mn`: checks that the server that `key` routes to responds. The key is not sent.
    ///
    /// ```
    /// # use cache_memcache_pool::MetaRequest;
    /// let check = MetaRequest::noop("session");
    /// ```
    pub fn noop(key: impl Into<String>) -> Self {
        Self::new(Verb::Noop, key, Vec::new())
    }

    /// Adds a flag without a token, such as `v`.
    ///
    /// ```
    /// # use cache_memcache_pool::MetaRequest;
    /// let value_and_client_flags = MetaRequest::get("session").flag('v').flag('f');
    /// ```
    #[must_use]
    pub fn flag(self, letter: char) -> Self {
        self.flag_with(letter, "")
    }

    /// Adds a flag with its token, such as `T` with a number of seconds.
    ///
    /// ```
    /// # use cache_memcache_pool::MetaRequest;
    /// let touch = MetaRequest::get("session").flag_with('T', 300);
    /// ```
    #[must_use]
    pub fn flag_with(mut self, letter: char, token: impl fmt::Display) -> Self {
        self.flags.push((letter, token.to_string()));
        self
    }

    /// The key.
    ///
    /// ```
    /// # use cache_memcache_pool::MetaRequest;
    /// assert_eq!(MetaRequest::get("session").key(), "session");
    /// ```
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The approximate size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.value.len()
    }

    /// Whether it is idempotent and may be retried. Unknown flags make it not idempotent.
    pub(crate) fn is_repeatable(&self) -> bool {
        let known = self.verb.repeatable_flags();
        known.is_some_and(|known| self.flags.iter().all(|(letter, _)| known.contains(*letter)))
    }

    /// Checks the flags. The error names the one that cannot be sent.
    pub(crate) fn check_flags(&self) -> Result<()> {
        let verb = self.verb.name();
        let refused = |what: String| {
            let error = Error::new(ErrorKind::Encode, NAME, what);
            Err(error.with_key(&self.key))
        };
        if self.flags.len() > MAX_FLAGS {
            return refused(format!(
                "{verb} has {} flags: the limit is {MAX_FLAGS}; remove some",
                self.flags.len()
            ));
        }
        for (letter, token) in &self.flags {
            if let Some(why) = reserved(*letter) {
                return refused(format!("{verb} has the flag {letter}: {why}; remove it"));
            }
            let is_word = |c: char| c.is_ascii_graphic();
            let is_sound = letter.is_ascii_alphabetic()
                && token.len() <= MAX_TOKEN
                && token.chars().all(is_word);
            if !is_sound {
                return refused(format!(
                    "{verb} has the flag {letter:?} with the token {token:?}: a flag is a letter, \
                     and a token is at most {MAX_TOKEN} printable ASCII characters without spaces"
                ));
            }
            if self.verb == Verb::Noop || self.verb == Verb::Debug {
                return refused(format!(
                    "{verb} has the flag {letter}: it takes no flags; remove it"
                ));
            }
        }
        Ok(())
    }

    /// Appends the command.
    pub(crate) fn encode(&self, out: &mut Outgoing) -> Result<Expected> {
        let is_tagged = !matches!(self.verb, Verb::Noop | Verb::Debug);
        let tag = is_tagged.then(|| out.tag());
        if self.verb == Verb::Noop {
            out.bytes.extend_from_slice(b"mn\r\n");
        } else {
            let rest = |line: &mut Vec<u8>| {
                if self.verb == Verb::Set {
                    line.push(b' ');
                    encode_number(self.value.len() as u64, line);
                }
                for (letter, token) in &self.flags {
                    line.extend_from_slice(format!(" {letter}{token}").as_bytes());
                }
                if let Some(tag) = tag {
                    line.extend_from_slice(b" O");
                    encode_number(u64::from(tag), line);
                }
            };
            encode_line(self.verb.op(), &self.key, rest, &mut out.bytes)?;
        }
        if self.verb == Verb::Set {
            out.bytes.extend_from_slice(&self.value);
            out.bytes.extend_from_slice(b"\r\n");
        }
        out.ends.push(out.bytes.len());
        Ok(Expected::Meta {
            tag,
            status: match self.verb {
                Verb::Debug => Some(MetaStatus::Value),
                Verb::Noop => Some(MetaStatus::Done),
                _ => None,
            },
            response: None,
        })
    }
}

/// Why a flag is reserved.
fn reserved(letter: char) -> Option<&'static str> {
    match letter {
        'q' => Some("a quiet command has no response, and the next response would be taken for it"),
        'O' => Some("the backend numbers its commands with it"),
        'k' => Some("the request already names the key"),
        'b' => Some("the backend adds it to keys with spaces or control characters"),
        'S' => Some("the length is taken from the value"),
        _ => None,
    }
}

/// The response to a [`MetaRequest`].
///
/// ```no_run
/// # use cache_memcache_pool::{MemcachePoolBackend, MetaRequest, MetaStatus};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
/// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
/// let found = cache.meta(MetaRequest::get("session").flag('v').flag('t')).await?;
/// if found.status() == MetaStatus::Value {
///     println!("{} bytes, {} s left", found.value().len(), found.flag('t').unwrap_or("?"));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaResponse {
    status: MetaStatus,
    flags: Vec<(char, String)>,
    value: Vec<u8>,
}

/// The status code of a [`MetaResponse`].
///
/// ```
/// # use cache_memcache_pool::MetaStatus;
/// assert_ne!(MetaStatus::Missing, MetaStatus::NotStored);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetaStatus {
    /// `HD` or `MN`: success, without a value.
    Done,
    /// `VA` or `ME`: success, with a value.
    Value,
    /// `EN`: the key to read does not exist.
    Missing,
    /// `NF`: the key to change does not exist.
    NotFound,
    /// `NS`: the mode did not allow it, for example add if the key has a value.
    NotStored,
    /// `EX`: the value was changed after its unique number was read.
    Exists,
}

impl MetaResponse {
    /// The status code.
    ///
    /// ```no_run
    /// # use cache_memcache_pool::{MemcachePoolBackend, MetaRequest, MetaStatus};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// let add = MetaRequest::set("lock", "me").flag_with('M', 'E').flag_with('T', 30);
    /// let is_mine = cache.meta(add).await?.status() == MetaStatus::Done;
    /// # Ok(()) }
    /// ```
    pub fn status(&self) -> MetaStatus {
        self.status
    }

    /// The token of a flag in the response, empty if the flag has none; `None` if the response
    /// does not contain the flag.
    ///
    /// ```no_run
    /// # use cache_memcache_pool::{MemcachePoolBackend, MetaRequest};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// let found = cache.meta(MetaRequest::get("session").flag('t')).await?;
    /// let seconds_left: Option<i64> = found.flag('t').and_then(|token| token.parse().ok());
    /// # Ok(()) }
    /// ```
    pub fn flag(&self, letter: char) -> Option<&str> {
        let found = self.flags.iter().find(|(found, _)| *found == letter);
        found.map(|(_, token)| token.as_str())
    }

    /// The value, as it is stored; empty unless the status is [`MetaStatus::Value`].
    ///
    /// ```no_run
    /// # use cache_memcache_pool::{MemcachePoolBackend, MetaRequest};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// let found = cache.meta(MetaRequest::debug("session")).await?;
    /// println!("{}", String::from_utf8_lossy(found.value()));
    /// # Ok(()) }
    /// ```
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Consumes the response and returns the value.
    ///
    /// ```no_run
    /// # use cache_memcache_pool::{MemcachePoolBackend, MetaRequest};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// let stored: Vec<u8> = cache.meta(MetaRequest::get("k").flag('v')).await?.into_value();
    /// # Ok(()) }
    /// ```
    pub fn into_value(self) -> Vec<u8> {
        self.value
    }

    pub(super) fn with_value(mut self, value: Vec<u8>) -> Self {
        self.value = value;
        self
    }
}

/// Parses a line of the response to a [`MetaRequest`] with this tag. `only` is the status of
/// commands without a tag.
pub(super) fn read_response(
    line: &[u8],
    tag: Option<u32>,
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
            let reason = text()?.trim_start_matches("CLIENT_ERROR").trim();
            return Ok(Item::Reply(Reply::Failed(reason.to_owned())));
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
    use crate::protocol::StoredFormat;
    use crate::protocol::{Decoder, Dialect, Response};

    fn encoded(request: &MetaRequest) -> String {
        let mut out = Outgoing::new(Dialect::Meta);
        request.encode(&mut out).unwrap();
        assert_eq!(out.ends, [out.bytes.len()]);
        String::from_utf8(out.bytes).unwrap()
    }

    fn answered(request: &MetaRequest, mut bytes: &[u8]) -> Result<Option<Response>, Violation> {
        let mut expected = request.encode(&mut Outgoing::new(Dialect::Meta)).unwrap();
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
    fn each_verb_is_written_with_its_flags_and_a_tag() {
        let get = MetaRequest::get("k").flag('v').flag_with('T', 30);
        assert_eq!(encoded(&get), "mg k v T30 O0\r\n");
        let set = MetaRequest::set("k", "a\r\nb").flag_with('M', 'E');
        assert_eq!(encoded(&set), "ms k 4 ME O0\r\na\r\nb\r\n");
        let spaced = MetaRequest::set("k k", "").flag_with('M', 'E');
        assert_eq!(encoded(&spaced), "ms ayBr 0 ME O0 b\r\n\r\n");
        assert_eq!(encoded(&MetaRequest::delete("k")), "md k O0\r\n");
        assert_eq!(encoded(&MetaRequest::arithmetic("k")), "ma k O0\r\n");
        assert_eq!(encoded(&MetaRequest::debug("k")), "me k\r\n");
        assert_eq!(encoded(&MetaRequest::debug("k k")), "me ayBr b\r\n");
        assert_eq!(encoded(&MetaRequest::noop("k k")), "mn\r\n");
    }

    #[test]
    fn flags_that_would_break_the_pipeline_are_refused_by_name() {
        let get = || MetaRequest::get("k");
        for (request, words) in [
            (get().flag('q'), "quiet"),
            (get().flag_with('O', 7), "numbers its commands"),
            (get().flag('k'), "already names the key"),
            (get().flag('b'), "spaces or control characters"),
            (MetaRequest::set("k", "v").flag_with('S', 5), "length"),
            (get().flag(' '), "a flag is a letter"),
            (get().flag('\n'), "a flag is a letter"),
            (get().flag('é'), "a flag is a letter"),
            (get().flag_with('T', "1\r\nflush_all"), "without spaces"),
            (get().flag_with('T', "1 q"), "without spaces"),
            (get().flag_with('T', "1".repeat(33)), "32 printable"),
            (MetaRequest::noop("k").flag('v'), "takes no flags"),
            (MetaRequest::debug("k").flag('v'), "takes no flags"),
            ((0..13).fold(get(), |all, _| all.flag('v')), "13 flags"),
        ] {
            let error = request.check_flags().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encode);
            assert!(error.message().contains(words), "{error}");
        }
        assert!(get().flag('v').flag_with('T', -1).check_flags().is_ok());
    }

    #[test]
    fn only_idempotent_commands_are_repeatable() {
        let get = || MetaRequest::get("k").flag('v');
        let set = || MetaRequest::set("k", "v");
        assert!(get().flag_with('T', 30).is_repeatable());
        assert!(set().flag_with('T', 30).is_repeatable());
        assert!(MetaRequest::noop("k").is_repeatable());
        assert!(MetaRequest::debug("k").is_repeatable());
        assert!(!get().flag('h').is_repeatable());
        assert!(!get().flag('l').is_repeatable());
        // The first attempt wins the right to fill the gap, so a second one would not.
        assert!(!get().flag_with('N', 30).is_repeatable());
        assert!(!get().flag_with('R', 30).is_repeatable());
        for mode in ['E', 'A', 'P', 'R', 'S'] {
            assert!(!set().flag_with('M', mode).is_repeatable());
        }
        assert!(!set().flag_with('C', 1).is_repeatable());
        assert!(!set().flag('I').is_repeatable());
        assert!(!set().flag('x').is_repeatable(), "unknown flag");
        assert!(!MetaRequest::delete("k").is_repeatable());
        assert!(!MetaRequest::arithmetic("k").is_repeatable());
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
