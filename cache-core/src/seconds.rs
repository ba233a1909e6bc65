//! Durations in configuration files: seconds, with fractions, as `oslo.cache` takes them.
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
//! assert!(error.to_string().contains("-1 is no duration"));
//! ```

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Reads a number of seconds. Refused, with the number in the message: negative ones, NaN,
/// infinities, and numbers that a `Duration` cannot hold.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map_err(|error| {
        D::Error::custom(format!(
            "{seconds} is no duration: {error}; give a number of seconds, 0 or more"
        ))
    })
}

/// Writes the number of seconds.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
