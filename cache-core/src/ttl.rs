//! [`Ttl`], how long a value lives.

use std::time::Duration;

/// How long a value lives: what [`CachedValue::with_ttl`](crate::CachedValue::with_ttl) sets and
/// [`CachedValue::ttl`](crate::CachedValue::ttl) returns.
///
/// A value that a backend returned has [`For`](Self::For) the time that it had left when it was
/// read, or [`Never`](Self::Never). A copy in another cache lives for that time from the moment it
/// is set, so it outlives the original only by the time between the read and the set.
///
/// ```
/// use std::time::Duration;
/// use cache_core::{CachedValue, Ttl};
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// assert_eq!(CachedValue::new(1).ttl(), Ttl::Default);
/// assert_eq!(CachedValue::new(1).with_ttl(MINUTE).ttl(), Ttl::For(MINUTE));
/// assert_eq!(CachedValue::new(1).with_ttl(Ttl::Never).ttl(), Ttl::Never);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// The backend's default TTL applies.
    #[default]
    Default,
    /// The value does not expire, whatever the backend's default.
    Never,
    /// The value expires this long after it was set. With zero it has expired at once; with a
    /// duration that is too long to represent, such as [`Duration::MAX`], it never expires.
    For(Duration),
}

impl Ttl {
    /// Returns the lifetime that a backend with this default gives to a value. `None` means that
    /// the value never expires, and zero that it has expired at once.
    ///
    /// A value's own TTL takes precedence over the backend's default. A *default* of zero means
    /// that values do not expire, as in oslo.cache.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_core::Ttl;
    ///
    /// const MINUTE: Duration = Duration::from_secs(60);
    /// assert_eq!(Ttl::Default.or_default(MINUTE), Some(MINUTE));
    /// assert_eq!(Ttl::Default.or_default(Duration::ZERO), None);
    /// assert_eq!(Ttl::Never.or_default(MINUTE), None);
    /// assert_eq!(Ttl::For(Duration::ZERO).or_default(MINUTE), Some(Duration::ZERO));
    /// ```
    pub fn or_default(self, default_ttl: Duration) -> Option<Duration> {
        match self {
            Self::Default if default_ttl.is_zero() => None,
            Self::Default => Some(default_ttl),
            Self::Never => None,
            Self::For(ttl) => Some(ttl),
        }
    }

    /// Returns the duration of [`For`](Self::For): for a value that was read, the time it had
    /// left.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_core::Ttl;
    ///
    /// assert_eq!(Ttl::For(Duration::from_secs(5)).duration(), Some(Duration::from_secs(5)));
    /// assert_eq!(Ttl::Never.duration(), None);
    /// ```
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::For(ttl) => Some(ttl),
            Self::Default | Self::Never => None,
        }
    }
}

/// ```
/// use std::time::Duration;
/// use cache_core::Ttl;
///
/// assert_eq!(Ttl::from(Duration::from_secs(5)), Ttl::For(Duration::from_secs(5)));
/// ```
impl From<Duration> for Ttl {
    fn from(ttl: Duration) -> Self {
        Self::For(ttl)
    }
}
