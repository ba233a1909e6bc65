//! What a server had before it was away is not to be believed: a time for each server, before
//! which its values do not count.
//!
//! It is kept on the server itself, under a key of its own, so that all processes learn of it:
//! also those which never noticed that the server was away. It is a value without a payload, and
//! its time is when that was cached.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::wire::Metadata;

use crate::protocol::{Command, Outgoing, encode_one};

/// The key under which a server keeps the time of its last return.
pub(crate) const MARK: &str = "cache-memcache-pool:returned";

/// A time that is compared by many, in microseconds since the epoch; 0: none.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicU64);

impl Mark {
    /// Sets it, unless it is later already.
    pub(super) fn raise(&self, to: SystemTime) {
        let since = to.duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_max(micros, Ordering::AcqRel);
    }

    pub(super) fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.0.load(Ordering::Acquire))
    }
}

/// The command that stores the time of a server's return.
pub(super) fn encode_mark(returned: SystemTime, mut out: Outgoing) -> Vec<u8> {
    let mut head = Vec::new();
    Metadata::new(returned, None).write_json(&mut head);
    head.push(b'|');
    let command = Command::Set {
        key: MARK,
        head: &head,
        payload: b"",
        expires: 0,
    };
    // Its key is one that every server takes.
    let _ = encode_one(&command, &mut out);
    out.bytes
}
