//! [`MetaRequest`]: a meta command of a caller.

use std::fmt;

use cache_core::{Error, ErrorKind, Result};

use super::decode::MAX_ITEM;
use super::encode::{Outgoing, encode_line, encode_number, encode_tag};
use super::meta_response::MetaStatus;
use super::response::{Expected, ExpectedMeta};
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
    /// The letter after the `m` of all meta commands.
    fn letter(self) -> u8 {
        match self {
            Self::Get => b'g',
            Self::Set => b's',
            Self::Delete => b'd',
            Self::Arithmetic => b'a',
            Self::Debug => b'e',
            Self::Noop => b'n',
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

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", char::from(self.letter()))
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

    /// Checks the size of the value: memcached refuses a length of 2 GiB without skipping the value,
    /// which it then reads as commands.
    pub(crate) fn check_value(&self) -> Result<()> {
        let len = self.value.len();
        if len <= MAX_ITEM {
            return Ok(());
        }
        let message = format!("the value has {len} bytes: memcached accepts at most 1 GiB");
        Err(Error::new(ErrorKind::ValueTooLarge, NAME, message))
    }

    /// Checks the flags. The error names the one that cannot be sent.
    pub(crate) fn check_flags(&self) -> Result<()> {
        let verb = self.verb;
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
    pub(crate) fn encode(&self, out: &mut Outgoing) -> Expected {
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
                    encode_tag(tag, line);
                }
            };
            encode_line(self.verb.letter(), &self.key, rest, &mut out.bytes);
        }
        if self.verb == Verb::Set {
            out.has_value = true;
            out.bytes.extend_from_slice(&self.value);
            out.bytes.extend_from_slice(b"\r\n");
        }
        out.ends.push(out.bytes.len());
        Expected::Meta(Box::new(ExpectedMeta {
            tag,
            status: match self.verb {
                Verb::Debug => Some(MetaStatus::Value),
                Verb::Noop => Some(MetaStatus::Done),
                _ => None,
            },
            response: None,
        }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Dialect;

    fn encoded(request: &MetaRequest) -> String {
        let mut out = Outgoing::new(Dialect::Meta);
        request.encode(&mut out);
        assert_eq!(out.ends, [out.bytes.len()]);
        String::from_utf8(out.bytes).unwrap()
    }

    #[test]
    fn each_verb_is_written_with_its_flags_and_a_tag() {
        let get = MetaRequest::get("k").flag('v').flag_with('T', 30);
        assert_eq!(encoded(&get), "mg k v T30 O0000\r\n");
        let set = MetaRequest::set("k", "a\r\nb").flag_with('M', 'E');
        assert_eq!(encoded(&set), "ms k 4 ME O0000\r\na\r\nb\r\n");
        let spaced = MetaRequest::set("k k", "").flag_with('M', 'E');
        assert_eq!(encoded(&spaced), "ms ayBr 0 ME O0000 b\r\n\r\n");
        assert_eq!(encoded(&MetaRequest::delete("k")), "md k O0000\r\n");
        assert_eq!(encoded(&MetaRequest::arithmetic("k")), "ma k O0000\r\n");
        assert_eq!(encoded(&MetaRequest::debug("k")), "me k\r\n");
        assert_eq!(encoded(&MetaRequest::debug("k k")), "me ayBr b\r\n");
        assert_eq!(encoded(&MetaRequest::noop("k k")), "mn\r\n");
    }

    #[test]
    fn a_request_knows_its_key_and_size() {
        let set = MetaRequest::set("session", "12345");
        assert_eq!((set.key(), set.size()), ("session", 5));
        assert_eq!(MetaRequest::get("k").size(), 0);
    }

    #[test]
    fn flags_that_would_break_the_pipeline_are_refused_and_named() {
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
            let verb = format!("m{} has ", char::from(request.verb.letter()));
            assert!(error.message().starts_with(&verb), "{error}");
        }
        assert!(get().flag('v').flag_with('T', -1).check_flags().is_ok());
    }

    #[test]
    fn a_value_that_memcached_would_read_as_commands_is_refused() {
        assert!(MetaRequest::set("k", "v").check_value().is_ok());
        let large = MetaRequest::set("k", vec![0; MAX_ITEM + 1]);
        let error = large.check_value().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
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
        // The first attempt wins the right to recache, so a second one would not.
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
}
