//! [`DictConfig`].

use std::time::Duration;

use cache_core::{seconds, text};
use serde::{Deserialize, Deserializer, Serialize};

/// The configuration of a [`DictBackend`](crate::DictBackend) in a file, with the argument names
/// and defaults of oslo.cache.
///
/// Unknown fields and senseless values are errors that name the field, and the value too.
///
/// ```
/// use std::time::Duration;
/// use cache_dict::{DictBackend, DictConfig};
/// use serde::Deserialize;
/// use serde::de::value::{Error, MapDeserializer};
///
/// // Any serde format works: TOML, JSON, YAML…
/// let file = MapDeserializer::<_, Error>::new([("expiration_time", 1.5)].into_iter());
/// let config = DictConfig::deserialize(file).unwrap();
/// assert_eq!(config.expiration_time, Duration::from_millis(1500));
///
/// let cache: DictBackend<String> = DictBackend::from_config(config)?;
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DictConfig {
    /// The lifetime of values without a TTL of their own, in seconds. 0, the default: values do
    /// not expire.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "expiration_time"
    )]
    pub expiration_time: Duration,
    /// The maximum number of entries. 0, the default: no bound.
    #[serde(deserialize_with = "max_entries")]
    pub max_entries: usize,
}

fn expiration_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    text::field("expiration_time", seconds::deserialize(deserializer))
}

fn max_entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    text::field("max_entries", text::number(deserializer))
}
