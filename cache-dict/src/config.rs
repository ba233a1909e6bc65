//! [`DictConfig`] and [`DictBuilder`].

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use cache_core::Result;
use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::{Clock, DictBackend};

/// The configuration of a [`DictBackend`], as it stands in a file: the argument names and
/// defaults of oslo.cache.
///
/// Unknown fields are refused by name, and so are durations that are negative or not finite.
///
/// ```
/// use std::time::Duration;
/// use cache_dict::{DictBackend, DictConfig};
/// use serde::Deserialize;
/// use serde::de::value::{Error, MapDeserializer};
///
/// // Any serde format will do: TOML, JSON, YAML…
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
    /// How long values live that have no TTL of their own, in seconds. 0, the default: for ever.
    #[serde(with = "cache_core::seconds")]
    pub expiration_time: Duration,
    /// How many entries are kept at most. 0, the default: as many as are set.
    #[serde(deserialize_with = "cache_core::text::number")]
    pub max_entries: usize,
}

/// Makes a [`DictBackend`], from [`DictBackend::builder`] or from a [`DictConfig`] that was
/// read, to which it adds what is not in a file.
///
/// ```
/// use std::time::Duration;
/// use cache_dict::DictBackend;
///
/// let cache: DictBackend<u64> = DictBackend::builder()
///     .expiration_time(Duration::from_secs(300))
///     .max_entries(100_000)
///     .build()?;
///
/// # use cache_dict::{DictBuilder, DictConfig, ManualClock};
/// # let config = DictConfig::default();
/// let in_a_test: DictBackend<u64> = DictBuilder::from(config)
///     .clock(ManualClock::new())
///     .build()?;
/// # Ok::<(), cache_core::Error>(())
/// ```
#[must_use = "nothing is made before `build`"]
pub struct DictBuilder<V> {
    config: DictConfig,
    clock: Option<Arc<dyn Clock>>,
    coarse: bool,
    value: PhantomData<fn() -> V>,
}

impl<V> From<DictConfig> for DictBuilder<V> {
    fn from(config: DictConfig) -> Self {
        Self {
            config,
            clock: None,
            coarse: cfg!(feature = "coarse-clock"),
            value: PhantomData,
        }
    }
}

impl<V> Default for DictBuilder<V> {
    fn default() -> Self {
        DictConfig::default().into()
    }
}

impl<V> Clone for DictBuilder<V> {
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            clock: self.clock.clone(),
            coarse: self.coarse,
            value: PhantomData,
        }
    }
}

impl<V> DictBuilder<V> {
    /// How long values live that have no TTL of their own. Zero, the default: for ever.
    pub fn expiration_time(mut self, expiration_time: Duration) -> Self {
        self.config.expiration_time = expiration_time;
        self
    }

    /// How many entries are kept at most. 0, the default: as many as are set. See
    /// [Bounded size](crate#bounded-size) for what has to go when they are too many.
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.config.max_entries = max_entries;
        self
    }

    /// Lets values expire by this clock instead of the system's monotonic one: in tests, by a
    /// [`ManualClock`](crate::ManualClock).
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Whether reads take the time from the coarse clock of the system, where it has one and
    /// that is good enough; `true` unless said otherwise. See [The coarse
    /// clock](crate#the-coarse-clock).
    ///
    /// ```
    /// # use cache_dict::DictBackend;
    /// let exact: DictBackend<u64> = DictBackend::builder().coarse_clock(false).build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    #[cfg(feature = "coarse-clock")]
    pub fn coarse_clock(mut self, coarse: bool) -> Self {
        self.coarse = coarse;
        self
    }
}

impl<V: Clone + Send + Sync + 'static> DictBuilder<V> {
    /// The backend. Nothing that can be set here is wrong, so it does not fail; the other
    /// backends of the family do, and are built alike.
    pub fn build(self) -> Result<DictBackend<V>> {
        let system = || Time::system(self.coarse);
        let time = self.clock.map_or_else(system, Time::of);
        Ok(DictBackend::new(self.config, time))
    }
}

impl<V> fmt::Debug for DictBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DictBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
