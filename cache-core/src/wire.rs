//! The bytes that backends with a server store: dogpile.cache's serialized form, so that Rust and
//! Python can share one cache.
//!
//! ```text
//! {"ct": 1700000000.123456, "v": 2, "exp": 1700000060.123456}|payload
//! ```
//!
//! The metadata is a JSON object that ends at the first `|`; the payload is any bytes.
//! `ct` is the cached time and `exp` the deadline, both in seconds since the Unix epoch, printed
//! as Python prints floats; `v` is dogpile.cache's version of the format, which readers ignore.
//! `exp` is written only for values that expire. Python ignores it: for Python, a value expires
//! when the server removes it. Such floats are a quarter of a microsecond apart; [`Metadata::of`]
//! takes the last one that is not after the deadline.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use cache_core::{CachedValue, wire::{self, Metadata}};
//!
//! let now = SystemTime::now();
//! let value = CachedValue::new(b"hello".to_vec()).with_ttl(Duration::from_secs(60));
//!
//! let metadata = Metadata::of(&value, Duration::ZERO, now);
//! let mut stored = Vec::new();
//! wire::encode(&metadata, value.payload(), &mut stored);
//!
//! let (metadata, payload) = wire::decode(&stored, "my-backend")?;
//! let found = metadata.attach(payload, now + Duration::from_secs(59));
//! assert_eq!(found.map(|found| found.into_payload()), Some(&b"hello"[..]));
//! assert!(metadata.attach(payload, now + Duration::from_secs(61)).is_none());
//! # Ok::<(), cache_core::Error>(())
//! ```

mod digits;

use std::cmp::Ordering;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{CachedValue, Error, ErrorKind, Result, Ttl};

/// The metadata before the payload: when it was cached, and until when it may be served.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use cache_core::wire::Metadata;
///
/// let cached_at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
/// let metadata = Metadata::new(cached_at, None);
/// let mut json = Vec::new();
/// metadata.write_json(&mut json);
/// assert_eq!(json, br#"{"ct": 1700000000.5, "v": 2}"#);
/// assert_eq!(Metadata::read_json(&json, "my-backend")?, metadata);
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Metadata {
    /// When the payload was cached.
    pub cached_at: SystemTime,
    /// When the payload expires; `None`: never.
    pub deadline: Option<SystemTime>,
    /// Fields that another program wrote, as the text between the braces of the JSON object: they
    /// are kept when the value is read and written again.
    extra: Option<Box<str>>,
}

impl Metadata {
    /// Creates the metadata of a payload that was cached at `cached_at` and expires at `deadline`,
    /// or never.
    #[inline]
    pub fn new(cached_at: SystemTime, deadline: Option<SystemTime>) -> Self {
        Self {
            cached_at,
            deadline,
            extra: None,
        }
    }

    /// Returns the metadata of `value` when it is set at `now` in a backend with this default
    /// TTL. [`Ttl::or_default`] decides which TTL applies.
    pub fn of<V>(value: &CachedValue<V>, default_ttl: Duration, now: SystemTime) -> Self {
        Self {
            cached_at: value.cached_at(),
            // A deadline beyond the clock's range means no expiry.
            deadline: value
                .ttl()
                .or_default(default_ttl)
                .and_then(|ttl| now.checked_add(ttl))
                .map(not_after),
            extra: value.extra().map(Into::into),
        }
    }

    /// Returns the value as `get` returns it at `now`, with the time it has left as its TTL, or
    /// `None` if it has expired.
    pub fn attach<V>(&self, payload: V, now: SystemTime) -> Option<CachedValue<V>> {
        let ttl = match self.deadline {
            None => Ttl::Never,
            Some(deadline) => match deadline.duration_since(now) {
                Ok(left) if !left.is_zero() => Ttl::For(left),
                _ => return None,
            },
        };
        let extra = self.extra.clone();
        Some(CachedValue::stored(payload, self.cached_at, ttl, extra))
    }

    /// Appends the JSON object to `out`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ct\": ");
        write_time(self.cached_at, out);
        out.extend_from_slice(b", \"v\": 2");
        if let Some(deadline) = self.deadline {
            out.extend_from_slice(b", \"exp\": ");
            write_time(deadline, out);
        }
        if let Some(extra) = &self.extra {
            out.extend_from_slice(b", ");
            out.extend_from_slice(extra.as_bytes());
        }
        out.push(b'}');
    }

    /// Reads the JSON object. Fields may be in any order, floats may be integers, `v` may be
    /// missing, and unknown fields are kept. `backend` is the name in the error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if `json` is not an object with a valid cached time.
    pub fn read_json(json: &[u8], backend: &'static str) -> Result<Self> {
        read_metadata(json).map_err(|reason| {
            Error::new(
                ErrorKind::Decode,
                backend,
                format!(
                    "the metadata of the stored value is invalid: {reason}; set the key again, or \
                     delete it"
                ),
            )
        })
    }
}

/// Appends the stored form of `payload` to `out`.
pub fn encode(metadata: &Metadata, payload: &[u8], out: &mut Vec<u8>) {
    /// Room for the metadata, two floats of up to 20 characters and the names.
    const METADATA_LEN: usize = 72;
    out.reserve(METADATA_LEN + payload.len());
    metadata.write_json(out);
    out.push(b'|');
    out.extend_from_slice(payload);
}

/// Splits the stored form into metadata and payload. `backend` is the name in the error.
///
/// # Errors
///
/// [`ErrorKind::Decode`], which says what is wrong and, for a value from Python, what to change
/// there.
#[inline]
pub fn decode<'a>(stored: &'a [u8], backend: &'static str) -> Result<(Metadata, &'a [u8])> {
    if let Some((metadata, rest)) = read_own(stored)
        && let Some(payload) = rest.strip_prefix(b"|")
    {
        return Ok((metadata, payload));
    }
    decode_other(stored, backend)
}

fn decode_other<'a>(stored: &'a [u8], backend: &'static str) -> Result<(Metadata, &'a [u8])> {
    let undecodable = |reason: &str| Error::new(ErrorKind::Decode, backend, reason);
    if let Some(reason) = foreign(stored) {
        return Err(undecodable(reason));
    }
    let Some(end) = stored.iter().position(|&byte| byte == b'|') else {
        return Err(undecodable(
            "the stored value has no metadata before a '|': neither one of these backends nor a \
             dogpile.cache region with a serializer wrote it; set the key again, or delete it",
        ));
    };
    let (json, payload) = stored.split_at(end);
    let metadata = Metadata::read_json(json, backend)?;
    Ok((metadata, payload.get(1..).unwrap_or_default()))
}

/// Recognizes other formats that Python stores, by their first bytes, and says what to change. No
/// JSON object begins with them.
fn foreign(stored: &[u8]) -> Option<&'static str> {
    let starts_with = |beginnings: &[&[u8]]| {
        let mut beginnings = beginnings.iter();
        beginnings.any(|beginning| stored.starts_with(beginning))
    };
    // pymemcache pickles by protocol 5, python-memcached by protocol 0.
    if starts_with(&[b"\x80", b"ccopy_reg"]) {
        Some(
            "the stored value was pickled by Python, and Rust cannot read pickles; give the \
             dogpile.cache region a serializer that returns bytes, such as \
             lambda value: json.dumps(value).encode(), and a deserializer, such as json.loads",
        )
    // zlib, at any compression level.
    } else if starts_with(&[b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"]) {
        Some(
            "the stored value was compressed by Python; remove min_compress_len from the \
             arguments of the dogpile.cache region",
        )
    } else if starts_with(&[b"["]) {
        Some(
            "the stored value is a JSON array, the format of oslo.cache's etcd3gw backend; \
             configure the Rust backend to read that format, or give the writer a serializer",
        )
    } else {
        None
    }
}

/// The last time at or before `deadline` that is kept when it is written as a float: the nearest
/// float may be later, and the value would be served after its deadline.
fn not_after(deadline: SystemTime) -> SystemTime {
    let since = deadline.duration_since(UNIX_EPOCH).unwrap_or_default();
    let magnitude = since.as_secs().checked_ilog2().unwrap_or_default();
    let binary_digits = (f64::MANTISSA_DIGITS - 1).saturating_sub(magnitude);
    // 30 bits or more keep a nanosecond. There are fewer from April 1970 on.
    if binary_digits >= 30 {
        return deadline;
    }
    let float = (u64::from(since.subsec_nanos()) << binary_digits) / 1_000_000_000;
    let nanos = divide(float * 1_000_000_000, 1 << binary_digits);
    UNIX_EPOCH + Duration::from_secs(since.as_secs()) + Duration::from_nanos(nanos)
}

/// Appends the seconds since the epoch as Python's `repr` prints the float nearest to them.
fn write_time(time: SystemTime, out: &mut Vec<u8>) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    if write_own(since, out).is_none() {
        write_python_float(since.as_secs_f64(), out);
    }
}

/// Fast path of [`write_time`] from 2004 to 2242, computed with integers. `None`: nothing is
/// written, and the float has to be printed.
///
/// The shortest decimal that reads as the same float has at most six digits behind the point, or
/// seven: floats in this range are more than 1e-7 apart, and less than 1e-6.
fn write_own(since: Duration, out: &mut Vec<u8>) -> Option<()> {
    let seconds = since.as_secs();
    let binary_digits = binary_digits(seconds)?;
    let float = divide(
        u64::from(since.subsec_nanos()) << binary_digits,
        1_000_000_000,
    );
    let micros = shift(float * 1_000_000, binary_digits);
    let fraction = if divide(micros << binary_digits, 1_000_000) == float {
        micros * 10
    } else {
        // Which of two equally near decimals is printed is left to the slow path.
        let exact = float * 10_000_000;
        let is_tie = exact % (1 << binary_digits) == 1 << (binary_digits - 1);
        (!is_tie).then(|| shift(exact, binary_digits))?
    };
    // The float may be that of the next second.
    if fraction == 10_000_000 {
        return None;
    }
    let (tens, ones) = ((seconds / 10 % 10) as u8, (seconds % 10) as u8);
    let fraction = digits::write(fraction * 10);
    let len = (fraction.len() - digits::trailing_zeros(fraction)).max(1);
    out.extend_from_slice(&digits::write(seconds / 100));
    out.extend_from_slice(&[b'0' + tens, b'0' + ones, b'.']);
    out.extend_from_slice(fraction.get(..len).unwrap_or_default());
    Some(())
}

/// Appends `seconds` as Python's `repr` prints it. The two languages differ only in exponents,
/// which Python writes with a sign and two digits.
fn write_python_float(seconds: f64, out: &mut Vec<u8>) {
    let written = if (1e-4..1e16).contains(&seconds) || seconds == 0.0 {
        write!(out, "{seconds:?}")
    } else {
        let shortest = format!("{seconds:e}");
        match shortest.split_once('e') {
            Some((digits, exponent)) => match exponent.strip_prefix('-') {
                Some(exponent) => write!(out, "{digits}e-{exponent:0>2}"),
                None => write!(out, "{digits}e+{exponent:0>2}"),
            },
            None => write!(out, "{shortest}"),
        }
    };
    debug_assert!(written.is_ok(), "writing to a Vec does not fail");
}

/// Fast path for the layout that [`Metadata::write_json`] and Python write. Returns the metadata
/// and the rest. `None`: another layout, which [`read_metadata`] parses.
#[inline]
fn read_own(bytes: &[u8]) -> Option<(Metadata, &[u8])> {
    let (cached_at, rest) = read_time(bytes.strip_prefix(b"{\"ct\": ")?)?;
    let rest = rest.strip_prefix(b", \"v\": 2")?;
    if let Some(rest) = rest.strip_prefix(b"}") {
        return Some((Metadata::new(cached_at, None), rest));
    }
    let (deadline, rest) = read_time(rest.strip_prefix(b", \"exp\": ")?)?;
    let rest = rest.strip_prefix(b"}")?;
    Some((Metadata::new(cached_at, Some(deadline)), rest))
}

/// Reads seconds with a fraction of up to seven digits that denote a time from 2004 to 2242, and
/// returns the rest. The result is that of parsing a float, but is computed with integers: all
/// floats between two powers of two have the same number of binary digits after the point.
fn read_time(bytes: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (upper, rest) = bytes.split_first_chunk()?;
    let ([tens, ones, b'.'], rest) = rest.split_first_chunk()? else {
        return None;
    };
    let (upper, 8) = digits::read(*upper) else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(10).map(u64::from);
    let seconds = upper * 100 + digit(tens)? * 10 + digit(ones)?;
    let binary_digits = binary_digits(seconds)?;
    let (fraction, len @ 1..=7) = digits::read(*rest.first_chunk()?) else {
        return None;
    };
    let float = divide(fraction << binary_digits, 100_000_000);
    let nanos = shift(float * 1_000_000_000, binary_digits);
    let since = Duration::new(seconds, u32::try_from(nanos).ok()?);
    Some((UNIX_EPOCH + since, rest.get(len as usize..)?))
}

/// Returns how many binary digits floats have behind the point from `seconds` to the next power of
/// two, for times from 2004 to 2242.
fn binary_digits(seconds: u64) -> Option<u32> {
    match seconds.checked_ilog2()? {
        magnitude @ 30..=32 => Some(f64::MANTISSA_DIGITS - 1 - magnitude),
        _ => None,
    }
}

/// Divides and rounds to the nearest integer, ties to even, as float operations do.
#[inline]
fn divide(dividend: u64, divisor: u64) -> u64 {
    let (whole, rest) = (dividend / divisor, dividend % divisor);
    match (2 * rest).cmp(&divisor) {
        Ordering::Less => whole,
        Ordering::Equal => whole + whole % 2,
        Ordering::Greater => whole + 1,
    }
}

/// Divides by a power of two, at least 2, and rounds like [`divide`].
fn shift(dividend: u64, exponent: u32) -> u64 {
    let is_odd = (dividend >> exponent) & 1;
    (dividend + (1 << (exponent - 1)) - 1 + is_odd) >> exponent
}

/// Reads the object, or says what is wrong with it.
fn read_metadata(json: &[u8]) -> Result<Metadata, String> {
    let mut scanner = Scanner { rest: json };
    let mut cached_at = None;
    let mut deadline = None;
    let mut extra = Vec::new();
    scanner.expect(b'{', "it is not a JSON object")?;
    if !scanner.accept(b'}') {
        loop {
            let name = scanner.string()?;
            scanner.expect(b':', "a field has no value")?;
            let value = scanner.value()?;
            match name {
                b"ct" => cached_at = Some(read_cached_at(value)?),
                b"exp" => deadline = read_deadline(value)?,
                b"v" => {}
                _ => keep(name, value, &mut extra),
            }
            if !scanner.accept(b',') {
                break;
            }
        }
        scanner.expect(b'}', "the object does not end")?;
    }
    scanner.end()?;
    Ok(Metadata {
        cached_at: cached_at.ok_or("it has no cached time (\"ct\")")?,
        deadline,
        extra: String::from_utf8(extra)
            .ok()
            .filter(|extra| !extra.is_empty())
            .map(String::into_boxed_str),
    })
}

/// Keeps a field of another program, unless it contains a `|`, which would end the metadata when
/// it is written again.
fn keep(name: &[u8], value: &[u8], extra: &mut Vec<u8>) {
    if name.contains(&b'|') || value.contains(&b'|') {
        return;
    }
    let separator: &[u8] = if extra.is_empty() { b"" } else { b", " };
    for part in [separator, b"\"", name, b"\": ", value] {
        extra.extend_from_slice(part);
    }
}

fn read_cached_at(value: &[u8]) -> Result<SystemTime, String> {
    // `CachedValue` counts nanoseconds in 64 bits, up to the year 2554; the last one is written as
    // the nearest float, which is a little larger.
    let last = Duration::from_nanos(u64::MAX).as_secs_f64();
    number(value)
        .filter(|&seconds| seconds <= last)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map(|since| UNIX_EPOCH + since)
        .ok_or_else(|| format!("the cached time is {}", excerpt(value)))
}

fn read_deadline(value: &[u8]) -> Result<Option<SystemTime>, String> {
    if value == b"null" {
        return Ok(None);
    }
    let seconds = number(value).ok_or_else(|| format!("the deadline is {}", excerpt(value)))?;
    if seconds <= 0.0 {
        return Ok(Some(UNIX_EPOCH));
    }
    // A deadline beyond the clock's range means no expiry.
    let since = Duration::try_from_secs_f64(seconds).ok();
    Ok(since.and_then(|since| UNIX_EPOCH.checked_add(since)))
}

/// A finite JSON number.
fn number(token: &[u8]) -> Option<f64> {
    // Rust's parser accepts more than JSON allows: `inf`, `nan`, a leading `+`.
    if !matches!(token.first(), Some(b'0'..=b'9' | b'-')) {
        return None;
    }
    let number: f64 = std::str::from_utf8(token).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// The beginning of what was read, for a message.
fn excerpt(token: &[u8]) -> String {
    const SHOWN: usize = 32;
    let shown = token.get(..SHOWN).unwrap_or(token);
    format!("{:?}", String::from_utf8_lossy(shown))
}

/// Scans one JSON object. The values of unknown fields are skipped, not validated.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let accepted = self.peek() == Some(byte);
        if accepted {
            self.take(1);
        }
        accepted
    }

    fn expect(&mut self, byte: u8, otherwise: &str) -> Result<(), String> {
        if self.accept(byte) {
            Ok(())
        } else {
            Err(otherwise.to_owned())
        }
    }

    fn end(&mut self) -> Result<(), String> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err("unexpected data after the object".to_owned()),
        }
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(n).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// The text between two quotes, with its escapes, which no known name has.
    fn string(&mut self) -> Result<&'a [u8], String> {
        self.expect(b'"', "a field has no name")?;
        let mut escaped = false;
        let end = self.rest.iter().position(|&byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        });
        let string = self.take(end.ok_or("a string does not end")?);
        self.take(1);
        Ok(string)
    }

    /// A value of any type.
    fn value(&mut self) -> Result<&'a [u8], String> {
        self.peek();
        let start = self.rest;
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                None => return Err("the object does not end".to_owned()),
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'{' | b'[') => {
                    self.take(1);
                    depth += 1;
                }
                Some(b'}' | b']') if depth > 0 => {
                    self.take(1);
                    depth -= 1;
                }
                Some(b',' | b':') if depth > 0 => {
                    self.take(1);
                }
                Some(_) => {
                    let is_delimiter =
                        |byte: &u8| byte.is_ascii_whitespace() || b",:{}[]\"".contains(byte);
                    let len = self.rest.iter().position(is_delimiter);
                    if self.take(len.unwrap_or(self.rest.len())).is_empty() {
                        return Err("a field has no value".to_owned());
                    }
                }
            }
            if depth == 0 {
                let taken = start.len() - self.rest.len();
                return Ok(start.get(..taken).unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(stored: &[u8]) -> String {
        let error = decode(stored, "b").expect_err("undecodable");
        assert_eq!(error.kind(), ErrorKind::Decode);
        error.message().to_owned()
    }

    fn cached_at(json: &str) -> Option<f64> {
        let stored = format!("{json}|payload");
        let (metadata, payload) = decode(stored.as_bytes(), "b").ok()?;
        assert_eq!(payload, b"payload");
        let since = metadata.cached_at.duration_since(UNIX_EPOCH);
        since.ok().map(|since| since.as_secs_f64())
    }

    #[test]
    fn variations_by_other_writers_are_accepted() {
        for json in [
            r#"{"ct": 7.5, "v": 2}"#,
            r#"{"v":2,"ct":7.5}"#,
            "  { \"ct\"\t:\n7.5 , \"v\" : 2 }  ",
            r#"{"ct": 7.5}"#,
            r#"{"ct": 75e-1, "v": 2.0}"#,
            r#"{"a": "x\"y}\\", "b": [1, {"c": [null]}], "d": {}, "e": true, "ct": 7.5, "f": NaN}"#,
            r#"{"ct": 1, "ct": 7.5}"#,
            r#"{"ct": 7.5, "exp": null}"#,
            r#"{"ct": 7.5, "v": 3}"#,
            r#"{"ct": 7.5, "v": "two"}"#,
        ] {
            assert_eq!(cached_at(json), Some(7.5), "{json}");
        }
        assert_eq!(cached_at(r#"{"ct": 7}"#), Some(7.0));
    }

    #[test]
    fn an_invalid_cached_time_is_refused() {
        for ct in [
            "-1",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e300",
            "1e11",
            "\"7\"",
            "null",
            "true",
            "[7]",
            "{}",
            "inf",
            "+7",
            "7x",
            "--7",
        ] {
            let reason = reason(format!("{{\"ct\": {ct}, \"v\": 2}}|p").as_bytes());
            assert!(reason.contains("the cached time is"), "{ct}: {reason}");
        }
        assert!(reason(b"{\"v\": 2}|p").contains("no cached time"));
        assert!(reason(b"{}|p").contains("no cached time"));
    }

    #[test]
    fn other_formats_are_refused_with_a_reason() {
        assert!(reason(b"\x80\x04\x95|").contains("json.dumps"));
        assert!(reason(b"").contains("no metadata"));
        assert!(reason(b"hello").contains("no metadata"));
        assert!(reason(br#"{"ct": 7.5, "v": 2}"#).contains("no metadata"));
        for (json, because) in [
            ("", "not a JSON object"),
            ("[1]", "JSON array"),
            ("7", "not a JSON object"),
            ("{", "no name"),
            ("{ct: 7}", "no name"),
            ("{\"ct", "does not end"),
            ("{\"ct\"", "no value"),
            ("{\"ct\":", "does not end"),
            ("{\"ct\":,", "no value"),
            ("{\"ct\":}", "no value"),
            ("{\"ct\": 7", "does not end"),
            ("{\"ct\": 7,", "no name"),
            ("{\"ct\": 7,}", "no name"),
            ("{\"ct\": 7 7}", "does not end"),
            ("{\"ct\": 7}}", "after the object"),
            ("{\"a\": [1, \"ct\": 7}", "the object does not end"),
            ("{\"ct\": 7, \"exp\": \"x\"}", "the deadline is"),
            ("{\"ct\": 7, \"exp\": NaN}", "the deadline is"),
        ] {
            let reason = reason(format!("{json}|p").as_bytes());
            assert!(reason.contains(because), "{json}: {reason}");
        }
    }

    #[test]
    fn deadlines_out_of_range_are_past_or_never() {
        let deadline = |exp: &str| {
            let json = format!("{{\"ct\": 7, \"exp\": {exp}}}");
            Metadata::read_json(json.as_bytes(), "b").map(|metadata| metadata.deadline)
        };
        assert_eq!(deadline("-5").unwrap(), Some(UNIX_EPOCH));
        assert_eq!(deadline("0").unwrap(), Some(UNIX_EPOCH));
        assert_eq!(deadline("1e300").unwrap(), None);
        let at = UNIX_EPOCH + Duration::from_millis(1500);
        assert_eq!(deadline("1.5").unwrap(), Some(at));
    }

    #[test]
    fn unknown_fields_survive_a_rewrite() {
        let json = br#"{"a" : "x\"y", "ct": 7.5, "v": 2,"b": [1, {"c": null}], "exp": 9.0}"#;
        let read = Metadata::read_json(json, "b").unwrap();
        let found = read.attach(1, UNIX_EPOCH + Duration::from_secs(8)).unwrap();
        let rewritten = found.map(|n| n + 1);
        let metadata = Metadata::of(&rewritten, Duration::ZERO, UNIX_EPOCH);
        let mut written = Vec::new();
        metadata.write_json(&mut written);
        assert_eq!(
            String::from_utf8(written).unwrap(),
            r#"{"ct": 7.5, "v": 2, "exp": 1.0, "a": "x\"y", "b": [1, {"c": null}]}"#
        );
        // They cannot end the metadata early.
        let read = Metadata::read_json(br#"{"ct": 7.5, "a": "|", "b": 1}"#, "b").unwrap();
        assert_eq!(read.extra.as_deref(), Some("\"b\": 1"));
    }

    proptest! {
        #[test]
        fn the_fast_path_reads_the_same_values_as_the_parser(
            seconds in prop_oneof![0..20_000_000_000_u64, 1 << 30..1_u64 << 33],
            fraction in "[0-9]{1,11}",
            deadline in proptest::option::of(0.0..9e9),
        ) {
            let exp = deadline.map_or(String::new(), |exp| format!(", \"exp\": {exp:?}"));
            let json = format!("{{\"ct\": {seconds}.{fraction}, \"v\": 2{exp}}}");
            let scanned = read_metadata(json.as_bytes());
            if let Some((own, rest)) = read_own(json.as_bytes()) {
                prop_assert_eq!(Ok(own), scanned);
                prop_assert!(rest.is_empty());
            } else {
                let is_common = (1 << 30..1 << 33).contains(&seconds) && fraction.len() <= 7;
                prop_assert!(!is_common || deadline.is_some());
            }
        }
    }

    proptest! {
        #[test]
        fn times_are_printed_as_floats(
            seconds in prop_oneof![0..20_000_000_000_u64, 1 << 30..1_u64 << 33],
            // Few binary digits give ties, and few decimal digits give short decimals.
            nanos in prop_oneof![
                0..1_000_000_000_u32,
                (0..=512_u32).prop_map(|n| n * 1_953_125 % 1_000_000_000),
                (0..1_000_000_u32).prop_map(|n| n * 1_000),
                999_999_000..1_000_000_000_u32,
            ],
        ) {
            let since = Duration::new(seconds, nanos);
            let mut printed = Vec::new();
            write_python_float(since.as_secs_f64(), &mut printed);
            let mut written = Vec::new();
            write_time(UNIX_EPOCH + since, &mut written);
            prop_assert_eq!(String::from_utf8(written), String::from_utf8(printed));
        }
    }

    proptest! {
        #[test]
        fn no_reader_serves_a_value_at_its_deadline(
            seconds in prop_oneof![0..1_u64 << 33, 1 << 30..1_u64 << 33],
            nanos in 0..1_000_000_000_u32,
            ttl in 1..100_000_000_000_u64,
        ) {
            let now = UNIX_EPOCH + Duration::new(seconds, nanos);
            let ttl = Duration::from_nanos(ttl);
            let value = CachedValue::new(()).with_ttl(ttl);
            let mut stored = Vec::new();
            encode(&Metadata::of(&value, Duration::ZERO, now), b"", &mut stored);
            let (metadata, _) = decode(&stored, "b").unwrap();
            prop_assert_eq!(metadata.attach((), now + ttl), None);
            // Floats are 2⁻²⁰ s apart before the year 2242: 953.7 ns, and what is read is rounded to
            // a nanosecond.
            let shortly_before = now + ttl.saturating_sub(Duration::from_nanos(955));
            let is_served = metadata.attach((), shortly_before).is_some();
            prop_assert!(is_served || ttl < Duration::from_micros(1));
        }
    }

    #[test]
    fn floats_are_printed_as_in_python() {
        for (seconds, python) in [
            (0.0, "0.0"),
            (0.000_01, "1e-05"),
            (0.000_1, "0.0001"),
            (1.5, "1.5"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.25e17, "1.25e+17"),
        ] {
            let mut written = Vec::new();
            write_python_float(seconds, &mut written);
            assert_eq!(String::from_utf8(written).unwrap(), python);
        }
    }

    #[test]
    fn only_the_first_bar_ends_the_metadata() {
        let metadata = Metadata::new(UNIX_EPOCH, None);
        let mut stored = Vec::new();
        encode(&metadata, b"a|b|", &mut stored);
        assert_eq!(decode(&stored, "b").unwrap(), (metadata, &b"a|b|"[..]));
    }

    #[test]
    fn a_lifetime_of_zero_or_beyond_the_clock_is_kept() {
        let now = SystemTime::now();
        let value = CachedValue::new(()).with_ttl(Duration::ZERO);
        let metadata = Metadata::of(&value, Duration::ZERO, now);
        let deadline = metadata.deadline.expect("of a value that has expired");
        let kept = now.duration_since(deadline);
        assert!(kept.is_ok_and(|earlier| earlier < Duration::from_micros(1)));
        assert!(metadata.attach((), now).is_none());
        let value = value.with_ttl(Duration::MAX);
        assert_eq!(Metadata::of(&value, Duration::ZERO, now).deadline, None);
    }
}
