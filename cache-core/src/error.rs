//! [`Error`] and [`ErrorKind`], the error type of all backends.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The result of a cache operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason for an [`Error`], in a form that programs can match on. Each variant says what
/// happened and what to do.
///
/// ```
/// use cache_core::ErrorKind;
///
/// assert!(ErrorKind::Timeout.is_transient());
/// assert!(!ErrorKind::InvalidKey.is_transient());
/// assert_eq!(ErrorKind::PoolExhausted.to_string(), "pool exhausted");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store cannot keep this key faithfully: it is too long, empty, or contains bytes that
    /// the store does not allow. Nothing was sent for it. Shorten the key, or map keys with
    /// [`MapKeys`](crate::MapKeys).
    InvalidKey,
    /// The value is larger than the store accepts, or than the backend is configured to read.
    /// After a write, the key has no value. Store less, or raise the limit on the server and in
    /// the backend.
    ValueTooLarge,
    /// No response arrived within the configured time. A write may have been applied, or may be
    /// applied later. Continue without the cache, or retry; if it persists, the server that the
    /// message names is down or overloaded, or the timeout is too short.
    Timeout,
    /// No server could be reached, or the connection to it broke. A write that was in flight on a
    /// connection that broke may have been applied. The backend reconnects by itself. Continue
    /// without the cache; if it persists, check the address, the network and the server that the
    /// message names.
    Unavailable,
    /// All connections were at capacity for as long as a caller may wait. Nothing was sent. Send
    /// less, raise the size of the pool, or find out why the server responds slowly.
    PoolExhausted,
    /// The server refused the credentials, requires credentials and received none, or does not
    /// permit the operation. Correct the credentials or grant the permission; retrying does not
    /// help.
    PermissionDenied,
    /// The server sent something that its protocol does not allow. The connection was closed, and
    /// the next call uses another one. A write may have been applied. If it persists, another
    /// program, or another version of the server, listens at this address.
    Protocol,
    /// The stored value is not in the format that the backend reads: another program wrote it, or
    /// the same program with other settings. Set the key again or delete it. For values from
    /// Python, the message says what to change there.
    Decode,
    /// The value could not be converted to bytes; the message says why. Nothing was sent for it,
    /// and the key keeps its old value. Correct the value or the format; retrying does not help.
    Encode,
    /// The configuration is invalid, and no backend was built. Correct the field that the message
    /// names.
    Config,
    /// A write to several keys failed for some of them. [`Error::keys`] names every key that
    /// failed; the others were written. [`source`](StdError::source) is one of the failures,
    /// which says what to do about those keys.
    Partial,
    /// The store failed in a way that no other kind describes: it is full, for example, or refused
    /// the request. The message quotes the store; its log or documentation says what to do.
    Backend,
}

impl ErrorKind {
    /// All kinds in the order of declaration, so that `kind as usize` is the index.
    pub(crate) const ALL: [Self; Self::Backend as usize + 1] = [
        Self::InvalidKey,
        Self::ValueTooLarge,
        Self::Timeout,
        Self::Unavailable,
        Self::PoolExhausted,
        Self::PermissionDenied,
        Self::Protocol,
        Self::Decode,
        Self::Encode,
        Self::Config,
        Self::Partial,
        Self::Backend,
    ];

    /// Returns the [`Display`](fmt::Display) form, for labels of metrics, which does not change
    /// between versions.
    ///
    /// ```
    /// assert_eq!(cache_core::ErrorKind::Timeout.as_str(), "timed out");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidKey => "invalid key",
            Self::ValueTooLarge => "value too large",
            Self::Timeout => "timed out",
            Self::Unavailable => "unavailable",
            Self::PoolExhausted => "pool exhausted",
            Self::PermissionDenied => "permission denied",
            Self::Protocol => "protocol violation",
            Self::Decode => "cannot decode",
            Self::Encode => "cannot encode",
            Self::Config => "invalid configuration",
            Self::Partial => "partially applied",
            Self::Backend => "backend failure",
        }
    }

    /// Returns whether the same call may succeed later without any change: `true` for `Timeout`,
    /// `Unavailable`, `PoolExhausted` and `Protocol`.
    ///
    /// It is `false` for `Partial`; [`Error::is_transient`] also considers the cause.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Timeout | Self::Unavailable | Self::PoolExhausted | Self::Protocol
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The error of every cache operation: a kind to match on, the name of the backend, a message, the
/// keys concerned, and the cause.
///
/// The `Display` form of a backend's error is one line whose message includes the text of the
/// cause, so a log needs nothing else; [`source`](StdError::source) is for programs that look for
/// a particular cause.
///
/// An error has the size of a pointer, so that it does not enlarge successful results. A clone
/// shares the message and the cause, so that one failure of a server can be reported for each of
/// its keys.
///
/// ```
/// use cache_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Timeout, "cache-example", "no response within 3 s").with_key("user:42");
/// assert_eq!(error.kind(), ErrorKind::Timeout);
/// assert_eq!(error.keys(), ["user:42"]);
/// assert!(error.is_transient());
/// assert_eq!(
///     error.to_string(),
///     r#"cache-example: timed out: no response within 3 s (key "user:42")"#
/// );
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    backend: &'static str,
    message: Arc<str>,
    keys: Vec<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            backend,
            message,
            keys,
            ..
        } = &*self.0;
        write!(f, "{backend}: {kind}: {message}{}", Keys(keys))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("backend", &self.0.backend)
            .field("message", &self.0.message)
            .field("keys", &self.0.keys)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // Not the `Arc`, which is an error too: `downcast_ref` would then find only that.
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl Error {
    /// Creates an error of the backend named `backend`, usually its crate. `message` says what
    /// happened and, where that helps, what to do; it should be one line, without payloads or
    /// credentials, and include the text of the [cause](Self::with_source), which `Display` does
    /// not add.
    pub fn new(kind: ErrorKind, backend: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            backend,
            message: message.into().into(),
            keys: Vec::new(),
            source: None,
        }))
    }

    /// Creates the error of a write to `total` keys that failed for the keys `failed`.
    ///
    /// If all keys failed, it is `cause` with these keys; otherwise it is
    /// [`ErrorKind::Partial`] with `cause` as its source. A repeated key counts once: in `failed`
    /// and in `total`.
    ///
    /// ```
    /// use cache_core::{Error, ErrorKind};
    ///
    /// let cause = Error::new(ErrorKind::Timeout, "cache-example", "no response within 3 s");
    /// let error = Error::partial(cause.clone(), ["b"], 2);
    /// assert_eq!(error.kind(), ErrorKind::Partial);
    /// assert!(error.message().contains("no response within 3 s"));
    /// assert_eq!(Error::partial(cause, ["a", "b"], 2).kind(), ErrorKind::Timeout);
    /// ```
    pub fn partial<K: Into<String>>(
        cause: Self,
        failed: impl IntoIterator<Item = K>,
        total: usize,
    ) -> Self {
        let keys: Vec<String> = failed.into_iter().map(Into::into).collect();
        if keys.len() >= total {
            return cause.with_keys(keys);
        }
        let message = format!(
            "{} of {total} keys failed; one failure: {}: {}",
            keys.len(),
            cause.kind(),
            cause.message()
        );
        Self::new(ErrorKind::Partial, cause.backend(), message)
            .with_keys(keys)
            .with_source(cause)
    }

    /// Sets the key concerned, replacing any keys set before.
    #[must_use]
    pub fn with_key(self, key: impl Into<String>) -> Self {
        self.with_keys([key])
    }

    /// Sets the keys concerned, replacing any keys set before.
    #[must_use]
    pub fn with_keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.0.keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the cause, which [`StdError::source`] returns.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Returns the reason in a form that programs can match on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the name of the backend, or of the wrapper, that failed.
    pub fn backend(&self) -> &'static str {
        self.0.backend
    }

    /// Returns the message: the [`Display`](fmt::Display) form without backend, kind and keys.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the keys concerned, as the caller of the operation wrote them; after a write to
    /// several keys, each key that failed. It is empty if the error does not concern a key.
    pub fn keys(&self) -> &[String] {
        &self.0.keys
    }

    /// Returns whether the same call may succeed later without any change. A `Partial` error is
    /// transient if its cause is.
    pub fn is_transient(&self) -> bool {
        match (self.kind(), self.source()) {
            (ErrorKind::Partial, Some(source)) => {
                source.downcast_ref().is_some_and(Self::is_transient)
            }
            (kind, _) => kind.is_transient(),
        }
    }
}

/// The end of a message: the first keys, quoted and shortened, and the number of the others.
struct Keys<'a>(&'a [String]);

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_KEYS: usize = 3;
        const SHOWN_CHARS: usize = 64;
        let Some(more) = self.0.len().checked_sub(1) else {
            return Ok(());
        };
        f.write_str(if more == 0 { " (key " } else { " (keys " })?;
        for (i, key) in self.0.iter().take(SHOWN_KEYS).enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match key.char_indices().nth(SHOWN_CHARS) {
                Some((end, _)) => write!(
                    f,
                    "{:?}… of {} bytes",
                    key.get(..end).unwrap_or(key),
                    key.len()
                )?,
                None => write!(f, "{key:?}")?,
            }
        }
        if self.0.len() > SHOWN_KEYS {
            write!(f, " and {} more", self.0.len() - SHOWN_KEYS)?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_shortens_long_keys_and_counts_many() {
        let error = Error::new(ErrorKind::Backend, "b", "m");
        assert_eq!(error.to_string(), "b: backend failure: m");
        let error = error.with_keys(["ü".repeat(1000), "\r\n".into(), "c".into(), "d".into()]);
        let shown = error.to_string();
        assert!(shown.contains("… of 2000 bytes"), "{shown}");
        assert!(shown.contains(r#""\r\n""#), "{shown}");
        assert!(shown.ends_with("and 1 more)"), "{shown}");
    }

    #[test]
    fn all_kinds_are_listed_in_order() {
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn partial_is_as_transient_as_its_cause() {
        let partial = |kind| Error::partial(Error::new(kind, "b", "m"), ["k"], 2);
        assert!(partial(ErrorKind::Timeout).is_transient());
        assert!(!partial(ErrorKind::ValueTooLarge).is_transient());
        let source = partial(ErrorKind::Timeout);
        let source: Option<&Error> = source.source().and_then(|source| source.downcast_ref());
        assert_eq!(source.map(Error::kind), Some(ErrorKind::Timeout));
    }

    #[test]
    fn an_error_has_the_size_of_a_pointer() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
