//! What a cache that keeps any type is given to keep.

use std::time::{Duration, Instant};

use cache_core::{CachedValue, Ttl};

/// A value and when it expires.
#[derive(Clone)]
pub struct Entry {
    value: CachedValue<Vec<u8>>,
    /// `None`: never.
    deadline: Option<Instant>,
}

impl Entry {
    /// `None` for a value that is expired at once.
    pub fn new(value: CachedValue<Vec<u8>>, default_ttl: Duration) -> Option<Self> {
        let ttl = value.ttl().or_default(default_ttl);
        if ttl == Some(Duration::ZERO) {
            return None;
        }
        let deadline = ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        Some(Self { value, deadline })
    }

    /// How long it has left; `None`: for ever.
    pub fn left(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    pub fn is_expired(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// As a cache that does not expire values returns it: the adapter looks at the deadline.
    pub fn checked(self) -> Option<CachedValue<Vec<u8>>> {
        (!self.is_expired()).then(|| self.trusted())
    }

    /// As a cache that expires values returns it: what it returns is served.
    pub fn trusted(self) -> CachedValue<Vec<u8>> {
        let left = self.left();
        // A value that is served too late is to be seen as such.
        let ttl = left.map_or(Ttl::Never, |left| left.max(Duration::from_nanos(1)).into());
        self.value.with_ttl(ttl)
    }
}
