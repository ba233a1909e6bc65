//! [`CachedValue`], a payload with its metadata.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Ttl;

/// A payload with its metadata: when it was cached, and how long it lives.
///
/// It is the counterpart of dogpile.cache's `CachedValue`, whose metadata is the cached time.
///
/// ```
/// use std::time::Duration;
/// use cache_core::{CachedValue, Ttl};
///
/// let value = CachedValue::new("hello").with_ttl(Duration::from_secs(60));
/// assert_eq!(*value.payload(), "hello");
/// assert_eq!(value.ttl(), Ttl::For(Duration::from_secs(60)));
/// assert!(value.age() < Duration::from_secs(60));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CachedValue<V> {
    payload: V,
    /// Nanoseconds since the Unix epoch: half the size of a `SystemTime`, and more precise than
    /// the float seconds that are stored on servers.
    cached_at: u64,
    ttl: Ttl,
    /// Metadata of other programs; see [`extra`](Self::extra).
    extra: Option<Box<str>>,
}

impl<V> CachedValue<V> {
    /// Creates a value that is cached now, with [`Ttl::Default`]: the backend's default applies.
    pub fn new(payload: V) -> Self {
        Self::from_nanos(payload, nanos(SystemTime::now()))
    }

    /// Creates a value that was cached `cached_at` nanoseconds after the Unix epoch, with
    /// [`Ttl::Default`].
    ///
    /// It is meant for in-memory backends, which store this number: converting it to a
    /// [`SystemTime`] and back takes as long as the rest of a lookup.
    ///
    /// ```
    /// # use cache_core::{CachedValue, Ttl};
    /// let stored = CachedValue::new("hello").cached_at_nanos();
    /// let value = CachedValue::from_nanos("hello", stored);
    /// assert_eq!(value.cached_at_nanos(), stored);
    /// assert_eq!(value.ttl(), Ttl::Default);
    /// ```
    pub fn from_nanos(payload: V, cached_at: u64) -> Self {
        Self {
            payload,
            cached_at,
            ttl: Ttl::Default,
            extra: None,
        }
    }

    /// Sets the TTL, a [`Duration`] or a [`Ttl`], which replaces the backend's default. It counts
    /// from the moment the value is set in a backend.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cache_core::{CachedValue, Ttl};
    /// let session = CachedValue::new("…").with_ttl(Duration::from_secs(900));
    /// assert_eq!(session.ttl(), Ttl::For(Duration::from_secs(900)));
    /// ```
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Sets the cached time, for values that were computed earlier and for backends that return
    /// stored values. The precision is a nanosecond; a time before 1970 or after 2554 is clamped
    /// to that range.
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

    /// Returns the payload.
    pub fn payload(&self) -> &V {
        &self.payload
    }

    /// Returns the payload and discards the metadata.
    ///
    /// ```
    /// # use cache_core::CachedValue;
    /// assert_eq!(CachedValue::new(7).into_payload(), 7);
    /// ```
    pub fn into_payload(self) -> V {
        self.payload
    }

    /// Returns when the payload was cached, by the wall clock of the process that cached it.
    pub fn cached_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.cached_at)
    }

    /// Returns [`cached_at`](Self::cached_at) in nanoseconds since the Unix epoch; see
    /// [`from_nanos`](Self::from_nanos).
    pub fn cached_at_nanos(&self) -> u64 {
        self.cached_at
    }

    /// Returns how long ago the payload was cached; zero if its cached time is in the future.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(nanos(SystemTime::now()).saturating_sub(self.cached_at))
    }

    /// Returns the TTL. For a value that a backend returned, it is [`Ttl::For`] the time that the
    /// value had left when it was read, or [`Ttl::Never`].
    pub fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// Applies `f` to the payload and keeps the metadata.
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
            extra: self.extra,
        }
    }

    /// All in one, since moving a value for each of its fields costs more than reading it.
    pub(crate) fn stored(
        payload: V,
        cached_at: SystemTime,
        ttl: Ttl,
        extra: Option<Box<str>>,
    ) -> Self {
        Self {
            payload,
            cached_at: nanos(cached_at),
            ttl,
            extra,
        }
    }

    /// Returns the metadata that another program stored with the value and that this crate does
    /// not interpret: fields of a JSON object, without its braces.
    ///
    /// Backends that store [`wire`](crate::wire) keep it when the value is set again; in-process
    /// backends drop it. A field that contains a `|` is dropped when the value is read, and all
    /// are if they are not valid UTF-8.
    ///
    /// ```
    /// # use cache_core::wire;
    /// let (metadata, payload) = wire::decode(br#"{"ct": 7.5, "by": "billing"}|hello"#, "b")?;
    /// let value = metadata.attach(payload, std::time::SystemTime::now()).expect("no deadline");
    /// assert_eq!(value.extra(), Some(r#""by": "billing""#));
    /// # Ok::<(), cache_core::Error>(())
    /// ```
    pub fn extra(&self) -> Option<&str> {
        self.extra.as_deref()
    }
}

/// Nanoseconds since the Unix epoch, clamped to 64 bits.
fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        let seconds = since.as_secs().saturating_mul(1_000_000_000);
        seconds.saturating_add(since.subsec_nanos().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_zero_for_a_future_cached_time() {
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(
            CachedValue::new(()).with_cached_at(later).age(),
            Duration::ZERO
        );
    }

    #[test]
    fn cached_at_keeps_nanoseconds_and_is_clamped() {
        let at = |time| CachedValue::new(()).with_cached_at(time).cached_at();
        let fine = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        assert_eq!(at(fine), fine);
        assert_eq!(at(UNIX_EPOCH - Duration::from_secs(1)), UNIX_EPOCH);
        let far = UNIX_EPOCH + Duration::from_secs(100_000_000_000);
        assert_eq!(at(far), UNIX_EPOCH + Duration::from_nanos(u64::MAX));
    }
}
