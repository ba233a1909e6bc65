//! Durations in configuration files: a number of seconds, possibly with a fraction, as in
//! oslo.cache.
//!
//! A positive number is never read as zero, which often means "none": below a nanosecond it is one.
//!
//! The number may also be text, as in environment variables and in arguments of the form
//! `timeout:600`.
//!
//! Use it with `#[serde(with = "cache_core::seconds")]`:
//!
//! ```
//! use std::time::Duration;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Config {
//!     #[serde(with = "cache_core::seconds")]
//!     socket_timeout: Duration,
//! }
//!
//! let config: Config = serde_json::from_str(r#"{"socket_timeout": 1.5}"#).unwrap();
//! assert_eq!(config.socket_timeout, Duration::from_millis(1500));
//!
//! let error = serde_json::from_str::<Config>(r#"{"socket_timeout": -1}"#).err().unwrap();
//! assert!(error.to_string().contains("-1 is not a valid duration"));
//!
//! let config: Config = serde_json::from_str(r#"{"socket_timeout": "600"}"#).unwrap();
//! assert_eq!(config.socket_timeout, Duration::from_secs(600));
//!
//! let error = serde_json::from_str::<Config>(r#"{"socket_timeout": "3s"}"#).err().unwrap();
//! assert!(error.to_string().contains("expected a number of seconds"));
//! ```

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::ser::Serializer;

/// Reads a number of seconds.
///
/// # Errors
///
/// Negative numbers, NaN, infinities and numbers that a `Duration` cannot hold are errors that
/// name the number.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Seconds)
}

struct Seconds;

impl Visitor<'_> for Seconds {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds, such as 1.5")
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        // `serialize` writes `Duration::MAX` as the nearest float, which is a little larger.
        if seconds.to_bits() == Duration::MAX.as_secs_f64().to_bits() {
            return Ok(Duration::MAX);
        }
        let duration = Duration::try_from_secs_f64(seconds).map_err(|_| refusal(seconds))?;
        let is_rounded_down = duration.is_zero() && seconds > 0.0;
        Ok(if is_rounded_down {
            Duration::from_nanos(1)
        } else {
            duration
        })
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
        match u64::try_from(seconds) {
            Ok(seconds) => self.visit_u64(seconds),
            Err(_) => Err(refusal(seconds)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        let digits = text.trim();
        let Ok(seconds) = digits.parse() else {
            return Err(E::invalid_value(Unexpected::Str(text), &self));
        };
        // Text such as `1e-400` is a positive number that no float holds.
        let significand = digits.split(['e', 'E']).next().unwrap_or_default();
        let is_positive = significand.contains(|digit| matches!(digit, '1'..='9'));
        if seconds == 0.0 && is_positive && !digits.starts_with('-') {
            return self.visit_f64(f64::MIN_POSITIVE);
        }
        self.visit_f64(seconds)
    }
}

fn refusal<E: Error>(seconds: impl fmt::Display) -> E {
    E::custom(format!(
        "{seconds} is not a valid duration; use a number of seconds from 0 to 1e19"
    ))
}

/// Writes the number of seconds as a float.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, F64Deserializer, StrDeserializer};

    use super::*;

    #[test]
    fn written_durations_are_read_back() {
        for written in [
            Duration::ZERO,
            Duration::from_millis(1500),
            Duration::from_secs(1 << 52),
            Duration::MAX,
        ] {
            let float: F64Deserializer<Error> = written.as_secs_f64().into_deserializer();
            assert_eq!(deserialize(float), Ok(written));
        }
    }

    #[test]
    fn only_zero_is_read_as_zero() {
        let read = |seconds: f64| {
            let float: F64Deserializer<Error> = seconds.into_deserializer();
            deserialize(float)
        };
        for tiny in [f64::MIN_POSITIVE, 5e-324, 1e-10, 4.9e-10, 1e-9] {
            assert_eq!(read(tiny), Ok(Duration::from_nanos(1)), "{tiny:e}");
        }
        assert_eq!(read(0.0), Ok(Duration::ZERO));
        assert_eq!(read(-0.0), Ok(Duration::ZERO));
        let read = |text: &str| {
            let text: StrDeserializer<'_, Error> = text.into_deserializer();
            deserialize(text)
        };
        for tiny in ["1e-400", " 0.01E-999 ", "1e-10"] {
            assert_eq!(read(tiny), Ok(Duration::from_nanos(1)), "{tiny}");
        }
        for zero in ["0", "0.0", "0e9", "-0"] {
            assert_eq!(read(zero), Ok(Duration::ZERO), "{zero}");
        }
    }
}
