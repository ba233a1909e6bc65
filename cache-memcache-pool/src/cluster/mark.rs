//! The mark of a server's last return: older values of that server are treated as expired.
//!
//! It is stored on the server under its own key, so that all processes see it, including those that
//! never noticed the outage. It is a value without a payload; its `cached_at` is the time of the
//! return.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::wire::Metadata;

use super::Farm;
use crate::protocol::{Command, Outgoing, Reply, encode_one};

/// The key under which a server keeps the time of its last return.
pub(crate) const MARK: &str = "cache-memcache-pool:returned";

/// An atomic time in microseconds since the epoch; 0: none.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicU64);

impl Mark {
    /// Raises it to `to`, unless it is already later.
    pub(super) fn raise(&self, to: SystemTime) {
        let since = to.duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_max(micros, Ordering::AcqRel);
    }

    pub(super) fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.0.load(Ordering::Acquire))
    }
}

impl Farm {
    /// Records the mark that the server `index` returned with a read, for
    /// [`believe`](Self::believe).
    pub(crate) fn note_mark(&self, index: usize, mark: &Reply) {
        if let (Some(server), Reply::Found(Ok(mark))) = (self.server(index), mark)
            && let Some(metadata) = &mark.metadata
        {
            server.returned.raise(metadata.cached_at);
        }
    }

    /// The reply of the server `index` to a read of `key`, or a miss if the value is older than the
    /// last return of that server, or than the time when the home of `key` went down.
    pub(crate) fn believe(&self, index: usize, key: &str, reply: Reply) -> Reply {
        let Reply::Found(Ok(found)) = &reply else {
            return reply;
        };
        let Some(cached_at) = found.metadata.as_ref().map(|metadata| metadata.cached_at) else {
            return reply;
        };
        let returned = self.server(index).map(|server| server.returned.time());
        let home = self.router.pick(key, &|_| true);
        let away = home.filter(|&home| home != index);
        let went = away.and_then(|home| self.server(home));
        let went = went.map(|server| server.went.time());
        let is_old = |time: Option<SystemTime>| time.is_some_and(|time| cached_at < time);
        if is_old(returned) || is_old(went) {
            Reply::Missing
        } else {
            reply
        }
    }
}

/// The command that stores the time of a server's return.
pub(super) fn encode_mark(returned: SystemTime, mut out: Outgoing) -> Vec<u8> {
    let metadata = Metadata::new(returned, None);
    let command = Command::Set {
        key: MARK,
        metadata: Some(&metadata),
        payload: b"",
        expires: 0,
        flags: 0,
    };
    encode_one(&command, &mut out);
    out.bytes
}
