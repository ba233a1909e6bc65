//! [`CachedValue`], a payload with its metadata.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A payload and what a cache knows of it: when it was cached, and how long it lives.
///
/// It is the counterpart of dogpile.cache's `CachedValue`, whose metadata is the cached time.
///
/// ```
/// use std::time::Duration;
/// use cache_core::CachedValue;
///
/// let value = CachedValue::new("hello").with_ttl(Duration::from_secs(60));
/// assert_eq!(*value.payload(), "hello");
/// assert_eq!(value.ttl(), Some(Duration::from_secs(60)));
/// assert!(value.age() < Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CachedValue<V> {
    payload: V,
    /// Nanoseconds since the epoch: half the size of a `SystemTime`, and finer than the float
    /// seconds that travel on the wire.
    cached_at: u64,
    ttl: Option<Duration>,
}

impl<V> CachedValue<V> {
    /// `payload`, cached now, with no lifetime of its own: the backend's default applies.
    pub fn new(payload: V) -> Self {
        Self::new_at(payload, SystemTime::now())
    }

    /// [`new`](Self::new) and [`with_cached_at`](Self::with_cached_at) in one, without asking
    /// the clock.
    pub(crate) fn new_at(payload: V, cached_at: SystemTime) -> Self {
        Self::from_nanos(payload, nanos(cached_at))
    }

    /// `payload`, cached so many nanoseconds after the beginning of 1970.
    ///
    /// For backends in memory, which keep this number: going by way of a [`SystemTime`] takes
    /// as long as the rest of a lookup.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// let stored = CachedValue::new("hello").cached_at_nanos();
    /// let value = CachedValue::from_nanos("hello", stored);
    /// assert_eq!(value.cached_at_nanos(), stored);
    /// assert_eq!(value.ttl(), None);
    /// ```
    pub fn from_nanos(payload: V, cached_at: u64) -> Self {
        Self {
            payload,
            cached_at,
            ttl: None,
        }
    }

    /// Gives the value a lifetime of its own, counted from the moment it is set, in place of
    /// the backend's default. Zero: expired at once. More than can be represented, such as
    /// [`Duration::MAX`]: never expires.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cache_core::CachedValue;
    /// let session = CachedValue::new("…").with_ttl(Duration::from_secs(900));
    /// assert_eq!(session.ttl(), Some(Duration::from_secs(900)));
    /// ```
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Replaces the cached time, for values that were computed earlier, and for backends that
    /// hand out what they stored. Kept to the nanosecond; times before 1970 or after 2554 are
    /// moved to the nearer of these limits.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use cache_core::CachedValue;
    /// let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    /// assert!(CachedValue::new(1).with_cached_at(an_hour_ago).age() >= Duration::from_secs(3600));
    /// ```
    #[must_use]
    pub fn with_cached_at(mut self, cached_at: SystemTime) -> Self {
        self.cached_at = nanos(cached_at);
        self
    }

    /// The payload.
    pub fn payload(&self) -> &V {
        &self.payload
    }

    /// Gives up the metadata.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// assert_eq!(CachedValue::new(7).into_payload(), 7);
    /// ```
    pub fn into_payload(self) -> V {
        self.payload
    }

    /// When the payload was cached, by the wall clock of whoever cached it.
    pub fn cached_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.cached_at)
    }

    /// [`cached_at`](Self::cached_at) in nanoseconds since 1970; see
    /// [`from_nanos`](Self::from_nanos).
    pub fn cached_at_nanos(&self) -> u64 {
        self.cached_at
    }

    /// How long ago the payload was cached. Never negative: zero when the clock says that it
    /// will be cached only later.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(nanos(SystemTime::now()).saturating_sub(self.cached_at))
    }

    /// The lifetime of this value, `None` if it has none of its own.
    ///
    /// On a value that a backend returned: the time it had left when it was read, `None` if it
    /// never expires. A value that is copied to another cache therefore dies there no later
    /// than here.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// The lifetime that a backend with this default has to give the value: its own, else the
    /// default unless that is zero, else none (it never expires).
    ///
    /// This is the rule of the contract in one place, for those who write backends. A lifetime
    /// of zero means that the value is expired at once.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cache_core::CachedValue;
    /// const MINUTE: Duration = Duration::from_secs(60);
    /// let value = CachedValue::new(1);
    /// assert_eq!(value.lifetime(MINUTE), Some(MINUTE));
    /// assert_eq!(value.lifetime(Duration::ZERO), None);
    /// assert_eq!(value.with_ttl(Duration::ZERO).lifetime(MINUTE), Some(Duration::ZERO));
    /// ```
    pub fn lifetime(&self, default_ttl: Duration) -> Option<Duration> {
        match self.ttl {
            None if default_ttl.is_zero() => None,
            None => Some(default_ttl),
            own => own,
        }
    }

    /// Changes the payload and keeps the metadata.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// let text = CachedValue::new(b"7".to_vec());
    /// let number = text.clone().map(|bytes| bytes[0] - b'0');
    /// assert_eq!(*number.payload(), 7);
    /// assert_eq!(number.cached_at(), text.cached_at());
    /// ```
    pub fn map<U>(self, f: impl FnOnce(V) -> U) -> CachedValue<U> {
        CachedValue {
            payload: f(self.payload),
            cached_at: self.cached_at,
            ttl: self.ttl,
        }
    }
}

/// Nanoseconds since the epoch, held within what 64 bits can say.
fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_zero_for_a_time_to_come() {
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(
            CachedValue::new(()).with_cached_at(later).age(),
            Duration::ZERO
        );
    }

    #[test]
    fn cached_at_keeps_nanoseconds_and_is_held_at_the_limits() {
        let at = |time| CachedValue::new(()).with_cached_at(time).cached_at();
        let fine = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        assert_eq!(at(fine), fine);
        assert_eq!(at(UNIX_EPOCH - Duration::from_secs(1)), UNIX_EPOCH);
        let far = UNIX_EPOCH + Duration::from_secs(100_000_000_000);
        assert_eq!(at(far), UNIX_EPOCH + Duration::from_nanos(u64::MAX));
    }
}
