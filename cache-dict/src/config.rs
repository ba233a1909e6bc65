//! [`DictConfig`].

use std::time::Duration;

use cache_core::{seconds, text};
use serde::{Deserialize, Deserializer, Serialize};

/// The configuration of a [`DictBackend`](crate::DictBackend), for example from a file. The names
/// and the defaults are those of oslo.cache.
///
/// When it is deserialized, an unknown field and an invalid value are errors that name the field
/// and the value.
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
    /// The lifetime of values without a TTL of their own, in seconds. The default, 0, means that
    /// they do not expire.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "expiration_time"
    )]
    pub expiration_time: Duration,
    /// The maximum number of entries. The default, 0, means no bound.
    #[serde(deserialize_with = "max_entries")]
    pub max_entries: usize,
}

fn expiration_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    text::field("expiration_time", seconds::deserialize(deserializer))
}

fn max_entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    text::field("max_entries", text::number(deserializer))
}
