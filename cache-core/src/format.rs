//! [`Format`], the conversion of values to bytes and back.

use std::error::Error;

/// Converts values of type `T` to bytes and back.
///
/// [`Typed`](crate::Typed) quotes the errors, so their text must be one short line without any
/// part of the value.
///
/// ```
/// use std::error::Error;
/// use cache_core::Format;
///
/// struct Decimal;
///
/// impl Format<u64> for Decimal {
///     fn encode(&self, value: &u64) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
///         Ok(value.to_string().into_bytes())
///     }
///     fn decode(&self, bytes: &[u8]) -> Result<u64, Box<dyn Error + Send + Sync>> {
///         Ok(std::str::from_utf8(bytes)?.parse()?)
///     }
/// }
/// ```
pub trait Format<T>: Send + Sync {
    /// Returns the bytes that represent `value`.
    ///
    /// # Errors
    ///
    /// If the format cannot represent the value; [`Typed`](crate::Typed) returns
    /// [`ErrorKind::Encode`](crate::ErrorKind::Encode).
    fn encode(&self, value: &T) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;

    /// Returns the value that `bytes` represent. They may come from another program, or from
    /// another version of this one.
    ///
    /// # Errors
    ///
    /// If the bytes do not represent a `T`; [`Typed`](crate::Typed) returns
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode).
    fn decode(&self, bytes: &[u8]) -> Result<T, Box<dyn Error + Send + Sync>>;
}

/// JSON by serde, as a Python service writes and reads it with `json.dumps` and `json.loads`.
///
/// Python writes and reads a few things that Rust does not. Decoding them is an error, never a
/// different value:
/// - an integer beyond 64 bits, which serde would read as a float into types that accept both.
///   Encoding one is also an error;
/// - `NaN`, `Infinity` and `-Infinity`, which are not JSON. In the other direction, serde writes
///   `null` for such a float, which can be read as `Option<f64>` but not as `f64`;
/// - text with half of a surrogate pair, such as `"\ud800"`;
/// - arrays and objects nested more than 127 deep.
///
/// An error says where decoding failed and what was expected, but does not show the value. The
/// message of an error from a type's own `Deserialize` implementation is quoted unchanged.
///
/// ```
/// use cache_core::{Format, Json};
///
/// let bytes = Format::<Vec<u32>>::encode(&Json, &vec![1, 2])?;
/// assert_eq!(bytes, b"[1,2]");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Format<T> for Json {
    fn encode(&self, value: &T) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        let bytes = serde_json::to_vec(value)?;
        check_integers(&bytes)?;
        Ok(bytes)
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, Box<dyn Error + Send + Sync>> {
        check_integers(bytes)?;
        serde_json::from_slice(bytes).map_err(|error| without_value(&error.to_string()).into())
    }
}

/// The message of a serde error without the value that it quotes, which may be secret, and large.
#[cfg(feature = "json")]
fn without_value(message: &str) -> String {
    const QUOTING: [&str; 4] = [
        "invalid type",
        "invalid value",
        "unknown variant",
        "unknown field",
    ];
    let what = QUOTING.into_iter().find(|what| message.starts_with(what));
    // The value may contain these words, too; what was expected comes last. Types without variants
    // or fields expect nothing.
    let expected = message
        .rfind(", expected ")
        .max(message.rfind(", there are no "));
    match (what, expected) {
        (Some(what), Some(expected)) => {
            format!("{what}{}", message.get(expected..).unwrap_or_default())
        }
        _ => message.to_owned(),
    }
}

/// Refuses JSON with an integer beyond 64 bits.
#[cfg(feature = "json")]
fn check_integers(json: &[u8]) -> Result<(), String> {
    /// Every integer of up to this many digits fits in 64 bits.
    const SAFE: usize = 18;
    // Nearly all values end here: if no 19th byte is a digit, there are no 19 digits in a row.
    if !json
        .iter()
        .skip(SAFE)
        .step_by(SAFE + 1)
        .any(u8::is_ascii_digit)
    {
        return Ok(());
    }
    let mut rest = json;
    while let Some(&byte) = rest.first() {
        let len = match byte {
            b'"' => string_len(rest),
            b'-' | b'0'..=b'9' => {
                let is_number = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                let len = rest.iter().take_while(is_number).count();
                let number = rest.get(..len).unwrap_or_default();
                if number.len() > SAFE && is_beyond_64_bits(number) {
                    return Err(format!(
                        "an integer of {} characters does not fit in 64 bits; store it as a \
                         float or as text",
                        number.len()
                    ));
                }
                len
            }
            _ => 1,
        };
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(())
}

/// The length of the string that `json` begins with, quotes included.
#[cfg(feature = "json")]
fn string_len(json: &[u8]) -> usize {
    let mut escaped = false;
    let end = json.iter().skip(1).position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |end| end + 2)
}

#[cfg(feature = "json")]
fn is_beyond_64_bits(number: &[u8]) -> bool {
    let (sign, digits) = match number.strip_prefix(b"-") {
        Some(digits) => ("-", digits),
        None => ("", number),
    };
    // A fraction or an exponent makes a float; anything that is not a number is left to the parser.
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let text = format!("{sign}{}", String::from_utf8_lossy(digits));
    text.parse::<i64>().is_err() && text.parse::<u64>().is_err()
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use serde_json::Value;

    use super::*;

    fn decoded(json: &str) -> Result<Value, String> {
        Format::<Value>::decode(&Json, json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn errors_do_not_show_the_value() {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Color {
            Red,
        }

        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct NoFields {}

        let secret = "hunter2, expected by nobody";
        let text = format!("\"{secret}\"");
        let list = format!("[1, \"{secret}\"]");
        let object = format!("{{\"{secret}\": 1}}");
        let errors = [
            Format::<u64>::decode(&Json, text.as_bytes()).unwrap_err(),
            Format::<Vec<u64>>::decode(&Json, list.as_bytes()).unwrap_err(),
            Format::<Color>::decode(&Json, text.as_bytes()).unwrap_err(),
            Format::<std::net::IpAddr>::decode(&Json, b"7").unwrap_err(),
            Format::<NoFields>::decode(&Json, object.as_bytes()).unwrap_err(),
        ];
        let expected = ["u64", "u64", "red", "IP address", "there are no fields"];
        for (error, expected) in errors.iter().zip(expected) {
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains("hunter2"), "{shown}");
                assert!(!shown.contains("nobody"), "{shown}");
                assert!(shown.contains(expected), "{shown}");
            }
        }
        assert!(matches!(
            Format::<Color>::decode(&Json, b"\"red\""),
            Ok(Color::Red)
        ));
    }

    #[test]
    fn floats_are_exact() {
        let mut bits = 1_u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let float = f64::from_bits(bits);
            if float.is_finite() {
                let json = Format::<f64>::encode(&Json, &float).unwrap();
                let read = Format::<f64>::decode(&Json, &json).unwrap();
                assert_eq!(read.to_bits(), bits, "{float:e}");
            }
        }
        // As Python reads it; not the neighbor 992.996466272898.
        let read = Format::<f64>::decode(&Json, b"992.9964662728979").unwrap();
        assert_eq!(read.to_bits(), 0x408f_07f8_c34f_2d4f);
    }

    #[test]
    fn integers_of_64_bits_are_exact_and_larger_ones_refused() {
        for exact in [i64::MIN.to_string(), u64::MAX.to_string()] {
            let json = format!("{{\"a\": [1, {exact}]}}");
            assert_eq!(decoded(&json).unwrap()["a"][1].to_string(), exact);
        }
        for refused in [
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678901234567890",
        ] {
            // Wherever it is, sampling must not skip it.
            for indent in 0..40 {
                let json = format!("{}[{refused}]", " ".repeat(indent));
                let error = decoded(&json).unwrap_err();
                assert!(error.contains("does not fit in 64 bits"), "{error}");
                assert!(!error.contains(refused), "{error}");
            }
        }
        assert!(Format::<u128>::encode(&Json, &(1 << 64)).is_err());
        assert!(Format::<u128>::encode(&Json, &u128::from(u64::MAX)).is_ok());
    }

    #[test]
    fn digits_outside_integers_are_accepted() {
        let digits = "123456789012345678901234567890";
        for json in [
            format!("\"{digits}\""),
            format!("\"\\\"{digits}\\\\\""),
            format!("{{\"{digits}\": 1.{digits}}}"),
            format!("{digits}.0"),
            format!("{digits}e-5"),
        ] {
            assert!(decoded(&json).is_ok(), "{json}");
        }
    }

    #[test]
    fn json_that_only_python_writes_is_an_error() {
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        let tokens = ["NaN", "Infinity", "-Infinity", r#""\ud800""#, deep.as_str()];
        for json in tokens {
            assert!(decoded(json).is_err(), "{json}");
        }
        let just = format!("{}{}", "[".repeat(127), "]".repeat(127));
        assert!(decoded(&just).is_ok());
        let nan = Format::<f64>::encode(&Json, &f64::NAN).unwrap();
        assert!(Format::<f64>::decode(&Json, &nan).is_err());
    }
}
