//! [`DictConfig`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The configuration of a [`DictBackend`](crate::DictBackend), for example from a file. The names
/// and the defaults are those of oslo.cache.
///
/// When it is deserialized, an unknown field, or a duration that is negative, not finite or too
/// large, is an error that names the field or the number.
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
    #[serde(with = "cache_core::seconds")]
    pub expiration_time: Duration,
    /// The maximum number of entries. The default, 0, means no bound.
    #[serde(deserialize_with = "cache_core::text::number")]
    pub max_entries: usize,
}
