//! [`DictStats`].

use serde::Serialize;

/// The counters of a [`DictBackend`](crate::DictBackend).
///
/// Hits and misses are not counted, because that would slow down each `get`; to count them, use
/// [`Observed`](cache_core::Observed).
///
/// ```
/// # use cache_core::CachedValue;
/// # use cache_dict::DictBackend;
/// let cache = DictBackend::builder().max_entries(1).build()?;
/// cache.set_sync("a", CachedValue::new(1));
/// cache.set_sync("b", CachedValue::new(2));
/// assert_eq!(cache.stats().entries, 1);
/// assert_eq!(cache.stats().evicted, 1);
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DictStats {
    /// The number of entries, including expired ones that have not been removed yet.
    pub entries: usize,
    /// The number of entries that were removed because they had expired. Expired entries that
    /// were replaced, deleted or cleared are not counted.
    pub expired: u64,
    /// The number of entries that were removed because the cache was at `max_entries`.
    pub evicted: u64,
}
