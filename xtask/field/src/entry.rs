//! The entries that caches store.

use std::time::{Duration, Instant, SystemTime};

use cache_core::wire::{self, Metadata};
use cache_core::{CachedValue, Ttl};

/// A value and its deadline.
#[derive(Clone)]
pub struct Entry {
    value: CachedValue<Vec<u8>>,
    /// `None` means never.
    deadline: Option<Instant>,
}

impl Entry {
    pub fn new(value: CachedValue<Vec<u8>>, ttl: Option<Duration>) -> Self {
        let deadline = ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        let value = value.with_ttl(ttl.map_or(Ttl::Never, Ttl::from));
        Self { value, deadline }
    }

    /// The TTL at creation; `None` means forever.
    pub fn ttl(&self) -> Option<Duration> {
        let ttl = self.value.ttl().or_default(Duration::ZERO);
        self.deadline.and(ttl)
    }

    /// The remaining time to live; `None` means forever.
    pub fn left(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    pub fn is_alive(&self) -> bool {
        self.left() != Some(Duration::ZERO)
    }

    /// Converts the entry to a value, even if it has expired, so that the suite notices values
    /// returned too late.
    pub fn into_value(self) -> CachedValue<Vec<u8>> {
        let left = self.left().map(|left| left.max(Duration::from_nanos(1)));
        self.value.with_ttl(left.map_or(Ttl::Never, Ttl::from))
    }

    /// Encodes the entry for servers as an envelope, which includes the deadline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let metadata = Metadata::of(&self.value, Duration::ZERO, SystemTime::now());
        let mut bytes = Vec::new();
        wire::encode(&metadata, self.value.payload(), &mut bytes);
        bytes
    }

    /// Decodes an envelope; returns `None` if it has expired.
    pub fn from_bytes(bytes: Option<Vec<u8>>) -> anyhow::Result<Option<Self>> {
        let Some(bytes) = bytes else { return Ok(None) };
        let (metadata, payload) = wire::decode(&bytes, "field")?;
        let value = metadata.attach(payload.to_vec(), SystemTime::now());
        Ok(value.map(|value| {
            let ttl = value.ttl().or_default(Duration::ZERO);
            Self::new(value, ttl)
        }))
    }
}
