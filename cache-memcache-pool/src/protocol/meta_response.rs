//! [`MetaResponse`]: the response to a meta command of a caller.

/// The response to a [`MetaRequest`](crate::MetaRequest).
///
/// ```no_run
/// # use cache_memcache_pool::{MemcachePoolBackend, MetaRequest, MetaStatus};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
/// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
/// let found = cache.meta(MetaRequest::get("session").flag('v').flag('t')).await?;
/// if found.status() == MetaStatus::Value {
///     println!("{} bytes, {} s left", found.value().len(), found.flag('t').unwrap_or("?"));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaResponse {
    pub(super) status: MetaStatus,
    pub(super) flags: Vec<(char, String)>,
    pub(super) value: Vec<u8>,
}

/// The status code of a [`MetaResponse`].
///
/// ```
/// # use cache_memcache_pool::MetaStatus;
/// assert_ne!(MetaStatus::Missing, MetaStatus::NotStored);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetaStatus {
    /// `HD` or `MN`: success, without a value.
    Done,
    /// `VA` or `ME`: success, with a value.
    Value,
    /// `EN`: the key to read does not exist.
    Missing,
    /// `NF`: the key to change does not exist.
    NotFound,
    /// `NS`: the mode did not allow it, for example add if the key has a value.
    NotStored,
    /// `EX`: the value was changed after its unique number was read.
    Exists,
}

impl MetaResponse {
    /// The status code.
    ///
    /// ```no_run
    /// # use cache_memcache_pool::{MemcachePoolBackend, MetaRequest, MetaStatus};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// let add = MetaRequest::set("lock", "me").flag_with('M', 'E').flag_with('T', 30);
    /// let is_mine = cache.meta(add).await?.status() == MetaStatus::Done;
    /// # Ok(()) }
    /// ```
    pub fn status(&self) -> MetaStatus {
        self.status
    }

    /// The token of a flag in the response, empty if the flag has none; `None` if the response
    /// does not contain the flag.
    ///
    /// ```no_run
    /// # use cache_memcache_pool::{MemcachePoolBackend, MetaRequest};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// let found = cache.meta(MetaRequest::get("session").flag('t')).await?;
    /// let seconds_left: Option<i64> = found.flag('t').and_then(|token| token.parse().ok());
    /// # Ok(()) }
    /// ```
    pub fn flag(&self, letter: char) -> Option<&str> {
        let found = self.flags.iter().find(|(found, _)| *found == letter);
        found.map(|(_, token)| token.as_str())
    }

    /// The value, as it is stored; empty unless the status is [`MetaStatus::Value`].
    ///
    /// ```no_run
    /// # use cache_memcache_pool::{MemcachePoolBackend, MetaRequest};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// let found = cache.meta(MetaRequest::debug("session")).await?;
    /// println!("{}", String::from_utf8_lossy(found.value()));
    /// # Ok(()) }
    /// ```
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Consumes the response and returns the value.
    ///
    /// ```no_run
    /// # use cache_memcache_pool::{MemcachePoolBackend, MetaRequest};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// # let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    /// let stored: Vec<u8> = cache.meta(MetaRequest::get("k").flag('v')).await?.into_value();
    /// # Ok(()) }
    /// ```
    pub fn into_value(self) -> Vec<u8> {
        self.value
    }

    pub(super) fn with_value(mut self, value: Vec<u8>) -> Self {
        self.value = value;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_what_was_stored() {
        let response = MetaResponse {
            status: MetaStatus::Value,
            flags: vec![('t', "7".into())],
            value: Vec::new(),
        };
        let response = response.with_value(b"ab".to_vec());
        assert_eq!(response.value(), b"ab");
        assert_eq!((response.flag('t'), response.flag('s')), (Some("7"), None));
        assert_eq!(response.into_value(), b"ab");
    }
}
