//! [`DictConfig`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The configuration of a [`DictBackend`](crate::DictBackend) in a file, with the argument names
/// and defaults of oslo.cache.
///
/// Unknown fields and durations that are negative or not finite are errors that name the field
/// or the number.
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
    #[serde(with = "cache_core::seconds")]
    pub expiration_time: Duration,
    /// The maximum number of entries. 0, the default: no bound.
    #[serde(deserialize_with = "cache_core::text::number")]
    pub max_entries: usize,
}
