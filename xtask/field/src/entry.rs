//! What a cache is given to keep.

use std::time::{Duration, Instant, SystemTime};

use cache_core::wire::{self, Metadata};
use cache_core::{CachedValue, Ttl};

/// A value and when it expires.
#[derive(Clone)]
pub struct Entry {
    value: CachedValue<Vec<u8>>,
    /// `None`: never.
    deadline: Option<Instant>,
}

impl Entry {
    pub fn new(value: CachedValue<Vec<u8>>, ttl: Option<Duration>) -> Self {
        let deadline = ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        let value = value.with_ttl(ttl.map_or(Ttl::Never, Ttl::from));
        Self { value, deadline }
    }

    /// What it was given; `None`: for ever.
    pub fn ttl(&self) -> Option<Duration> {
        let ttl = self.value.ttl().or_default(Duration::ZERO);
        self.deadline.and(ttl)
    }

    /// How long it has left; `None`: for ever.
    pub fn left(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    pub fn is_alive(&self) -> bool {
        self.left() != Some(Duration::ZERO)
    }

    /// What a cache returns is served, so that a value that it returns too late is seen.
    pub fn into_value(self) -> CachedValue<Vec<u8>> {
        let left = self.left().map(|left| left.max(Duration::from_nanos(1)));
        self.value.with_ttl(left.map_or(Ttl::Never, Ttl::from))
    }

    /// For clients of servers: the envelope, which carries the deadline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let metadata = Metadata::of(&self.value, Duration::ZERO, SystemTime::now());
        let mut bytes = Vec::new();
        wire::encode(&metadata, self.value.payload(), &mut bytes);
        bytes
    }

    /// What such bytes say; `None` after the deadline as well.
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
