//! Durations in configuration files: seconds, with fractions, as oslo.cache takes them.
//!
//! Text that is a number is taken too, since that is how environment variables and arguments of
//! the form `timeout:600` arrive.
//!
//! For `#[serde(with = "cache_core::seconds")]`:
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

/// Reads a number of seconds. Negative numbers, NaN, infinities and numbers that a `Duration`
/// cannot hold are refused with the number in the message.
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
        Duration::try_from_secs_f64(seconds).map_err(|_| refusal(seconds))
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
        match text.trim().parse() {
            Ok(seconds) => self.visit_f64(seconds),
            Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

fn refusal<E: Error>(seconds: impl fmt::Display) -> E {
    E::custom(format!(
        "{seconds} is not a valid duration; use a number of seconds from 0 to 1e19"
    ))
}

/// Writes the number of seconds.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
