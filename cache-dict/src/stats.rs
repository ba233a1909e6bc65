//! [`DictStats`].

use serde::Serialize;

/// What a [`DictBackend`](crate::DictBackend) holds and has removed.
///
/// Hits and misses are not among it: counting them would slow down each `get`, for those too
/// who do not ask. Count them where the values are used.
///
/// ```
/// # use cache_core::CachedValue;
/// # use cache_dict::DictBackend;
/// let cache = DictBackend::builder().max_entries(1).build()?;
/// cache.set_sync("a", CachedValue::new(1))?;
/// cache.set_sync("b", CachedValue::new(2))?;
/// assert_eq!(cache.stats().entries, 1);
/// assert_eq!(cache.stats().evicted, 1);
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DictStats {
    /// Entries held, including some that have expired and are not yet removed.
    pub entries: usize,
    /// Entries removed because they had expired.
    pub expired: u64,
    /// Entries removed because there were too many.
    pub evicted: u64,
}
