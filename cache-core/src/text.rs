//! Numbers, switches and lists in configuration files that may be written as text, as in
//! environment variables and in oslo.cache's `backend_argument = pool_maxsize:20`. [`field`] adds
//! the name of the field to an error.
//!
//! Use the functions with `#[serde(deserialize_with = "cache_core::text::number")]`:
//!
//! ```
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     #[serde(deserialize_with = "cache_core::text::list")]
//!     url: Vec<String>,
//!     #[serde(deserialize_with = "cache_core::text::number")]
//!     pool_maxsize: usize,
//!     #[serde(deserialize_with = "cache_core::text::switch")]
//!     failover: bool,
//! }
//!
//! let config = r#"{"url": "a:1, b:2", "pool_maxsize": "20", "failover": "on"}"#;
//! let config: Config = serde_json::from_str(config).unwrap();
//! assert_eq!(config.url, ["a:1", "b:2"]);
//! assert_eq!(config.pool_maxsize, 20);
//! assert!(config.failover);
//!
//! let config = r#"{"url": ["a:1"], "pool_maxsize": -1, "failover": false}"#;
//! let error = serde_json::from_str::<Config>(config).err().unwrap();
//! assert!(error.to_string().contains("integer `-1`, expected a whole number"));
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error, SeqAccess, Unexpected, Visitor};

/// Puts the name of a field before the error of what reads it, which serde leaves out.
///
/// ```
/// use cache_core::text;
/// use serde::Deserializer;
///
/// fn weights<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
///     text::field("weights", text::numbers(deserializer))
/// }
///
/// #[derive(serde::Deserialize)]
/// struct Config {
///     #[serde(deserialize_with = "weights")]
///     weights: Vec<u32>,
/// }
///
/// let config: Config = serde_json::from_str(r#"{"weights": [1, 2]}"#).unwrap();
/// assert_eq!(config.weights, [1, 2]);
/// let error = serde_json::from_str::<Config>(r#"{"weights": [-1]}"#).err().unwrap();
/// let expected = "`weights`: invalid value: integer `-1`, expected a whole number";
/// assert!(error.to_string().starts_with(expected), "{error}");
/// ```
pub fn field<T, E: Error>(name: &str, read: Result<T, E>) -> Result<T, E> {
    read.map_err(|error| E::custom(format_args!("`{name}`: {error}")))
}

/// Reads a choice among words, such as an enum without fields. What is not text is an error that
/// shows it.
///
/// ```
/// # use cache_core::text;
/// #[derive(Debug, PartialEq, serde::Deserialize)]
/// #[serde(rename_all = "kebab-case")]
/// enum Protocol {
///     Meta,
///     Classic,
/// }
///
/// let read = |json| text::word::<_, Protocol>(&mut serde_json::Deserializer::from_str(json));
/// assert_eq!(read(r#""classic""#).unwrap(), Protocol::Classic);
/// assert!(read("5").unwrap_err().to_string().contains("integer `5`, expected a string"));
/// let error = read(r#""binary""#).unwrap_err().to_string();
/// assert!(error.contains("`binary`, expected `meta` or `classic`"), "{error}");
/// ```
pub fn word<'de, D, W>(deserializer: D) -> Result<W, D::Error>
where
    D: Deserializer<'de>,
    W: DeserializeOwned,
{
    let word = String::deserialize(deserializer)?;
    W::deserialize(StrDeserializer::new(word.trim()))
}

/// Reads a password, or nothing. No error shows what was given instead.
///
/// ```
/// # use cache_core::text;
/// let read = |json| text::secret(&mut serde_json::Deserializer::from_str(json));
/// assert_eq!(read(r#""hunter2""#).unwrap().as_deref(), Some("hunter2"));
/// assert_eq!(read("null").unwrap(), None);
/// let error = read("424242").unwrap_err().to_string();
/// assert!(error.contains("write it in quotes") && !error.contains("4242"), "{error}");
/// ```
pub fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
        .map_err(|_| Error::custom("the value is not text; write it in quotes"))
}

/// Reads an unsigned integer, or text that contains one.
///
/// # Errors
///
/// A number that `N` cannot hold and other text are errors that name the number or the text.
pub fn number<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: FromStr + TryFrom<u64>,
{
    deserializer.deserialize_any(Number(PhantomData))
}

struct Number<N>(PhantomData<N>);

impl<N: FromStr + TryFrom<u64>> Visitor<'_> for Number<N> {
    type Value = N;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = 8 * size_of::<N>();
        write!(f, "a whole number from 0 that fits in {bits} bits")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<N, E> {
        N::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<N, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<N, E> {
        // Types with a sign are read like the others.
        let digits = Some(text.trim()).filter(|digits| !digits.starts_with('-'));
        let number = digits.and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Reads a switch: `true` or `false`, or the text `true`, `on`, `yes`, `1`, `false`, `off`, `no`
/// or `0` in upper or lower case, as in oslo.config.
///
/// # Errors
///
/// Other text is an error that names it.
pub fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    deserializer.deserialize_any(Switch)
}

struct Switch;

impl Visitor<'_> for Switch {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false")
    }

    fn visit_bool<E: Error>(self, switch: bool) -> Result<bool, E> {
        Ok(switch)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

/// Reads a list, or text with commas between the elements. Empty elements of the text are left
/// out.
///
/// # Errors
///
/// Anything else, such as a number, is an error that names it.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(List)
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or text with commas between its elements")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
        let elements = text.split(',').map(str::trim);
        let elements = elements.filter(|element| !element.is_empty());
        Ok(elements.map(str::to_owned).collect())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<String>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(list)
    }
}

/// Reads a list of [numbers](number), text with commas between them, or a single number.
///
/// # Errors
///
/// As for [`number`].
pub fn numbers<'de, D, N>(deserializer: D) -> Result<Vec<N>, D::Error>
where
    D: Deserializer<'de>,
    N: FromStr + TryFrom<u64>,
{
    deserializer.deserialize_any(Numbers(PhantomData))
}

struct Numbers<N>(PhantomData<N>);

impl<'de, N: FromStr + TryFrom<u64>> Visitor<'de> for Numbers<N> {
    type Value = Vec<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of whole numbers, or text with commas between them")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Vec<N>, E> {
        Ok(vec![Number(PhantomData).visit_u64(number)?])
    }

    // All integers of TOML are signed.
    fn visit_i64<E: Error>(self, number: i64) -> Result<Vec<N>, E> {
        Ok(vec![Number(PhantomData).visit_i64(number)?])
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<N>, E> {
        let elements = List.visit_str::<E>(text)?.into_iter();
        let number = |element: String| Number(PhantomData).visit_str(&element);
        elements.map(number).collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<N>, A::Error> {
        let mut list = Vec::new();
        while let Some(One(number)) = elements.next_element()? {
            list.push(number);
        }
        Ok(list)
    }
}

/// An element of a list.
struct One<N>(N);

impl<'de, N: FromStr + TryFrom<u64>> Deserialize<'de> for One<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{
        Error, I64Deserializer, SeqDeserializer, StrDeserializer, U64Deserializer,
    };

    use super::*;

    fn read_number<'de>(from: impl IntoDeserializer<'de, Error>) -> Result<u16, String> {
        number(from.into_deserializer()).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused_and_named() {
        assert_eq!(read_number(65_535_u64), Ok(65_535));
        assert_eq!(read_number(" 11211 "), Ok(11_211));
        for refused in ["", "-1", "65536", "1.5", "ten", "1_0"] {
            let error = read_number(refused).unwrap_err();
            assert!(error.contains(&format!("{refused:?}")), "{error}");
        }
        assert!(read_number(65_536_u64).unwrap_err().contains("16 bits"));
        assert!(read_number(-1_i64).unwrap_err().contains("-1"));
        assert!(read_number(1.0).unwrap_err().contains("whole number"));
        for text in ["-1", " -1", "-0"] {
            let signed = number::<StrDeserializer<'_, Error>, i32>(text.into_deserializer());
            assert!(signed.is_err(), "{text}");
        }
    }

    #[test]
    fn switches_accept_the_words_of_oslo_config() {
        let read = |text: &str| switch::<StrDeserializer<'_, Error>>(text.into_deserializer());
        for word in ["true", "True", "on", "YES", "1"] {
            assert_eq!(read(word), Ok(true), "{word}");
        }
        for word in ["false", "False", "off", "No", "0"] {
            assert_eq!(read(word), Ok(false), "{word}");
        }
        assert!(read("maybe").unwrap_err().to_string().contains("\"maybe\""));
    }

    #[test]
    fn numbers_may_be_a_list_a_string_or_one() {
        let read = |text: &str| numbers::<StrDeserializer<'_, Error>, u8>(text.into_deserializer());
        assert_eq!(read("1, 3").unwrap(), [1, 3]);
        assert!(read("1, -3").unwrap_err().to_string().contains("\"-3\""));
        let list = SeqDeserializer::<_, Error>::new([1_u64, 3].into_iter());
        assert_eq!(numbers::<_, u8>(list).unwrap(), [1, 3]);
        let one: U64Deserializer<Error> = 7_u64.into_deserializer();
        assert_eq!(numbers::<_, u8>(one).unwrap(), [7]);
        let signed = |one: i64| -> I64Deserializer<Error> { one.into_deserializer() };
        assert_eq!(numbers::<_, u8>(signed(7)).unwrap(), [7]);
        let refused = numbers::<_, u8>(signed(-7)).unwrap_err().to_string();
        assert!(refused.contains("`-7`"), "{refused}");
    }

    #[test]
    fn a_list_may_be_one_string() {
        let read = |text: &str| list::<StrDeserializer<'_, Error>>(text.into_deserializer());
        assert_eq!(read("a:1").unwrap(), ["a:1"]);
        assert_eq!(read(" a:1 ,b:2,").unwrap(), ["a:1", "b:2"]);
        assert!(read("").unwrap().is_empty());
    }
}
