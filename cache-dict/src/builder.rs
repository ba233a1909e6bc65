//! [`DictBuilder`].

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use cache_core::Result;

use crate::backend::DictBackend;
use crate::clock::{Clock, Time};
use crate::config::DictConfig;

impl<V: Clone + Send + Sync + 'static> DictBackend<V> {
    /// Builds a backend with this configuration.
    ///
    /// # Errors
    ///
    /// None; see [`DictBuilder::build`].
    ///
    /// ```
    /// # use cache_dict::{DictBackend, DictConfig};
    /// let cache: DictBackend<String> = DictBackend::from_config(DictConfig::default())?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn from_config(config: DictConfig) -> Result<Self> {
        DictBuilder::from(config).build()
    }

    /// Returns a builder with the defaults: no expiry and no bound.
    pub fn builder() -> DictBuilder<V> {
        DictBuilder::default()
    }
}

/// Builds a [`DictBackend`]. It comes from [`DictBackend::builder`], or from a [`DictConfig`] that was
/// read from a file.
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
#[must_use = "nothing is built until `build` is called"]
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
    /// Sets the lifetime of values without a TTL of their own. The default, zero, means that they
    /// do not expire.
    pub fn expiration_time(mut self, expiration_time: Duration) -> Self {
        self.config.expiration_time = expiration_time;
        self
    }

    /// Sets the maximum number of entries. The default, 0, means no bound. [Bounded
    /// size](crate#bounded-size) says which entries are evicted.
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.config.max_entries = max_entries;
        self
    }

    /// Sets the clock by which values expire, which replaces the system's monotonic clock, for
    /// example with a [`ManualClock`](crate::ManualClock) in tests.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Sets whether reads use the coarse clock of the system; the default is `true`. It has no
    /// effect on systems without one, or with a [`clock`](Self::clock). See [The coarse
    /// clock](crate#the-coarse-clock).
    ///
    /// ```
    /// # use cache_dict::DictBackend;
    /// let exact: DictBackend<u64> = DictBackend::builder().coarse_clock(false).build()?;
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    #[cfg(feature = "coarse-clock")]
    #[cfg_attr(docsrs, doc(cfg(feature = "coarse-clock")))]
    pub fn coarse_clock(mut self, coarse: bool) -> Self {
        self.coarse = coarse;
        self
    }
}

impl<V: Clone + Send + Sync + 'static> DictBuilder<V> {
    /// Builds the backend.
    ///
    /// # Errors
    ///
    /// None, because every setting is valid. The method returns a `Result` so that this builder
    /// and those of the other backends can replace each other.
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
