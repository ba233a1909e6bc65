//! [`Error`] and [`ErrorKind`], the one error type of all backends.

use std::error::Error as StdError;
use std::fmt;

/// The result of a cache operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller can act on it.
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
    /// The backend cannot keep this key faithfully: it is empty, too long, or holds what the
    /// store cannot. Nothing was sent. Shorten the key, or wrap the backend in a
    /// [`KeyMap`](crate::KeyMap).
    InvalidKey,
    /// The value is larger than the store takes. What was stored under the key before is gone.
    /// Store less, or raise the limit on both the server and the backend.
    ValueTooLarge,
    /// No answer came within the time configured. A write may or may not have been applied, or
    /// be applied yet. Go on without the cache, or try again; if it lasts, the server that the
    /// message names is down or overloaded, or its time is too short.
    Timeout,
    /// No server could be reached. Nothing was applied as far as the backend knows, which tries
    /// the servers again by itself. Go on without the cache; if it lasts, see to the address,
    /// the network and the server that the message names.
    Unavailable,
    /// All connections were busy for as long as a caller may wait for one. Send less, raise the
    /// pool's size, or find out why the server answers slowly.
    PoolExhausted,
    /// The server refused the credentials, wants some and was given none, or they do not permit
    /// the operation. Correct them, or have the server permit it; trying again does not help.
    PermissionDenied,
    /// The server said something that its protocol does not allow. The connection was closed;
    /// the next call uses another one. If it lasts, something else listens at this address, or
    /// a server of another version.
    Protocol,
    /// What is stored under the key was not written in the format that the backend reads: by
    /// another program, or with other settings. Set the key anew, or delete it; where the
    /// writer is to share the cache, the message says what it has to do.
    Decode,
    /// The value could not be turned into bytes; the message says why. Nothing was
    /// sent, and what was stored before stays.
    Encode,
    /// The configuration makes no sense, and there is no backend. The message names the field
    /// and what it takes.
    Config,
    /// A multi operation was applied to some of its keys only; [`Error::keys`] names those
    /// that failed, [`source`](StdError::source) is one of the failures. Do for those keys what it
    /// calls for.
    Partial,
    /// The store failed in a way that no other kind describes: it is full, say, or refused the
    /// request for reasons of its own. The message says what it said.
    Backend,
}

impl ErrorKind {
    /// Whether the same call may succeed later without anybody changing anything: true for
    /// `Timeout`, `Unavailable`, `PoolExhausted` and `Protocol`.
    ///
    /// For a `Partial` error ask [`Error::is_transient`], which knows the cause.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Timeout | Self::Unavailable | Self::PoolExhausted | Self::Protocol
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidKey => "invalid key",
            Self::ValueTooLarge => "value too large",
            Self::Timeout => "timed out",
            Self::Unavailable => "unavailable",
            Self::PoolExhausted => "pool exhausted",
            Self::PermissionDenied => "permission denied",
            Self::Protocol => "protocol violated",
            Self::Decode => "cannot decode",
            Self::Encode => "cannot encode",
            Self::Config => "bad configuration",
            Self::Partial => "partly applied",
            Self::Backend => "backend failed",
        })
    }
}

/// The error of every cache operation: a kind to match on, the backend's name, a sentence for
/// people, the keys concerned, and the cause.
///
/// It is one pointer wide, so that an answer that succeeds carries no weight for it.
///
/// ```
/// use cache_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Timeout, "cache-example", "no answer within 3 s").with_key("user:42");
/// assert_eq!(error.kind(), ErrorKind::Timeout);
/// assert_eq!(error.keys(), ["user:42"]);
/// assert!(error.is_transient());
/// assert_eq!(
///     error.to_string(),
///     r#"cache-example: timed out: no answer within 3 s (key "user:42")"#
/// );
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("{backend}: {kind}: {message}{}", Keys(keys))]
struct Inner {
    kind: ErrorKind,
    backend: &'static str,
    message: String,
    keys: Vec<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` from the backend named `backend` (its crate name, say). `message`
    /// says what happened and, where that helps, what to do; it is shown behind the kind.
    pub fn new(kind: ErrorKind, backend: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            backend,
            message: message.into(),
            keys: Vec::new(),
            source: None,
        }))
    }

    /// The error of a multi operation that failed for `failed` out of `total` keys, because of
    /// `cause`.
    ///
    /// It is `cause` itself, naming the keys, when nothing was applied; else a
    /// [`ErrorKind::Partial`] with `cause` as its source.
    ///
    /// ```
    /// use cache_core::{Error, ErrorKind};
    ///
    /// let cause = || Error::new(ErrorKind::Timeout, "cache-example", "no answer within 3 s");
    /// let error = Error::partial(cause(), ["b"], 2);
    /// assert_eq!(error.kind(), ErrorKind::Partial);
    /// assert!(error.message().contains("no answer within 3 s"));
    /// assert_eq!(Error::partial(cause(), ["a", "b"], 2).kind(), ErrorKind::Timeout);
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
            "{} of {total} keys failed; the first: {}: {}",
            keys.len(),
            cause.kind(),
            cause.message()
        );
        Self::new(ErrorKind::Partial, cause.backend(), message)
            .with_keys(keys)
            .with_source(cause)
    }

    /// Names the one key concerned.
    #[must_use]
    pub fn with_key(self, key: impl Into<String>) -> Self {
        self.with_keys([key])
    }

    /// Names the keys concerned, replacing those named before.
    #[must_use]
    pub fn with_keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.0.keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Keeps `source` as the cause, for [`StdError::source`].
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong, as far as a caller can act on it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The name of the backend that failed.
    pub fn backend(&self) -> &'static str {
        self.0.backend
    }

    /// What happened, in words: the [`Display`](fmt::Display) form without backend, kind and keys.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The keys concerned, as the caller of the operation wrote them; empty where the failure
    /// has nothing to do with a key. For a multi operation: each key that failed.
    pub fn keys(&self) -> &[String] {
        &self.0.keys
    }

    /// Whether the same call may succeed later without anybody changing anything. A `Partial`
    /// error is as transient as its cause.
    pub fn is_transient(&self) -> bool {
        match (self.kind(), &self.0.source) {
            (ErrorKind::Partial, Some(source)) => {
                source.downcast_ref().is_some_and(Self::is_transient)
            }
            (kind, _) => kind.is_transient(),
        }
    }
}

/// The tail of a message: the first keys, quoted and shortened, and how many more there are.
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
        assert_eq!(error.to_string(), "b: backend failed: m");
        let error = error.with_keys(["ü".repeat(1000), "\r\n".into(), "c".into(), "d".into()]);
        let shown = error.to_string();
        assert!(shown.contains("… of 2000 bytes"), "{shown}");
        assert!(shown.contains(r#""\r\n""#), "{shown}");
        assert!(shown.ends_with("and 1 more)"), "{shown}");
    }

    #[test]
    fn partial_is_as_transient_as_its_cause() {
        let partial = |kind| Error::partial(Error::new(kind, "b", "m"), ["k"], 2);
        assert!(partial(ErrorKind::Timeout).is_transient());
        assert!(!partial(ErrorKind::ValueTooLarge).is_transient());
        assert!(StdError::source(&partial(ErrorKind::Timeout)).is_some());
    }

    #[test]
    fn result_is_not_widened_by_the_error() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
