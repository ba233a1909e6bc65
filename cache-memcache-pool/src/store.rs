//! [`Store`]: encodes and decodes values, and sends single commands.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::wire::Metadata;
use cache_core::{CachedValue, Error, ErrorKind, Result, Ttl};

use crate::NAME;
use crate::cluster::{Cluster, MARK, Sending};
use crate::config::Settings;
use crate::connection::Exchange;
use crate::protocol::{
    COMPRESSED, Command, Expected, Outgoing, Reply, Response, Stored, StoredFormat, check_key,
    compress, encode_many, encode_one,
};

/// The metadata of a value has at most this length, apart from what other programs have added.
const HEAD: usize = 128;

/// How many bytes weigh as much as a small call.
pub(crate) const WEIGHT_BYTES: usize = 4096;

/// A value ready to be sent.
pub(crate) struct Prepared {
    /// `None` if the stored format has none.
    metadata: Option<Metadata>,
    /// Metadata and payload together, instead of both.
    compressed: Option<Vec<u8>>,
    /// The client flags.
    flags: u32,
    /// The expiry in memcached's form.
    expires: u32,
    /// Why the key is deleted instead.
    pub(crate) removal: Option<Removal>,
}

pub(crate) enum Removal {
    /// The value has already expired.
    Expired,
    /// The value is too large, with this size in bytes.
    TooLarge(usize),
}

impl Prepared {
    /// Compresses the value if it is large, and deletes it instead if it is too large.
    fn measure(&mut self, payload: &[u8], settings: &Settings) {
        let mut head = Vec::new();
        if let Some(metadata) = &self.metadata {
            metadata.write_json(&mut head);
            head.push(b'|');
        }
        let len = head.len() + payload.len();
        if len > settings.max_value {
            self.removal = Some(Removal::TooLarge(len));
        } else if settings.min_compress_len.is_some_and(|min| len >= min)
            && let Some(compressed) = compress(&head, payload)
        {
            self.compressed = Some(compressed);
            self.metadata = None;
            self.flags |= COMPRESSED;
        }
    }

    /// The command that stores `payload` under `key`, or deletes it.
    pub(crate) fn command<'a>(&'a self, key: &'a str, payload: &'a [u8]) -> Command<'a> {
        match self.removal {
            Some(_) => Command::Delete(key),
            None => Command::Set {
                key,
                metadata: self.metadata.as_ref(),
                payload: self.compressed.as_deref().unwrap_or(payload),
                expires: self.expires,
                flags: self.flags,
            },
        }
    }
}

/// The cluster as a store of values: common to operations on one key and on many.
pub(crate) struct Store {
    pub(crate) cluster: Cluster,
}

impl Store {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// Prepares a value.
    pub(crate) fn prepare(&self, value: &CachedValue<Vec<u8>>) -> Prepared {
        let settings = &self.cluster.settings;
        let lifetime = value.ttl().or_default(settings.default_ttl);
        // Only values that expire need the clock.
        let now = lifetime.map_or(UNIX_EPOCH, |_| settings.now());
        let metadata = Metadata::of(value, settings.default_ttl, now);
        let expires = memcached_expiry(lifetime.filter(|_| metadata.deadline.is_some()), now);
        let has_metadata = settings.stored_format == StoredFormat::Envelope;
        let mut prepared = Prepared {
            metadata: has_metadata.then_some(metadata),
            compressed: None,
            flags: settings.client_flags,
            expires,
            removal: None,
        };
        let extra = value.extra().map_or(0, str::len);
        let most = value.payload().len().saturating_add(HEAD + extra);
        let least = settings.min_compress_len.unwrap_or(usize::MAX);
        if lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
            prepared.removal = Some(Removal::Expired);
        } else if most >= least.min(settings.max_value) {
            prepared.measure(value.payload(), settings);
        }
        prepared
    }

    pub(crate) fn too_large_to_read(&self, len: usize) -> Error {
        let message = format!(
            "the stored value has {len} bytes: the limit is {} (`server_max_value_length`); raise \
             it to read this value",
            self.cluster.settings.max_value
        );
        Error::new(ErrorKind::ValueTooLarge, NAME, message)
    }

    pub(crate) fn too_large(&self, len: usize) -> Error {
        Error::new(
            ErrorKind::ValueTooLarge,
            NAME,
            format!(
                "the value has {len} bytes with its metadata: the limit is {} \
                 (`server_max_value_length`); store less, or raise it and memcached's -I. The old \
                 value was removed",
                self.cluster.settings.max_value
            ),
        )
    }

    /// Reads one key.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        check_key(key, self.cluster.settings.dialect)?;
        let is_marked = self.cluster.settings.expire_on_reconnect;
        let exchange = Exchange {
            encode: |out: &mut Outgoing| {
                if is_marked {
                    let both = |n| Command::Get(if n == 0 { MARK } else { key });
                    encode_many(2, both, false, out)
                } else {
                    Ok(encode_one(&Command::Get(key), out))
                }
            },
            weight: 1,
            has_mark: is_marked,
        };
        let mut sending = Sending::new(&self.cluster, key, &exchange, false);
        poll_fn(|cx| {
            Poll::Ready(match ready!(Pin::new(&mut sending).poll(cx)) {
                // Without moving the value more often than necessary, since that is half of what
                // delivering it costs.
                Ok(Response::One(Reply::Found(Ok(stored)))) => Ok(self.value(stored, &mut None)),
                response => response
                    .and_then(|response| reply(&sending, key, is_marked, response))
                    .and_then(|reply| self.found(reply, &mut None))
                    .map_err(|error| error.with_key(key)),
            })
        })
        .await
    }

    /// Sends one write, with failover.
    async fn call(&self, command: &Command<'_>) -> Result<Reply> {
        let exchange = Exchange {
            encode: |out: &mut Outgoing| Ok(encode_one(command, out)),
            weight: 1 + command.size() / WEIGHT_BYTES,
            has_mark: false,
        };
        let mut sending = Sending::new(&self.cluster, command.key(), &exchange, false);
        let response = (&mut sending).await?;
        reply(&sending, command.key(), false, response)
    }

    pub(crate) async fn write(&self, command: &Command<'_>) -> Result<()> {
        match self.call(command).await? {
            Reply::Done => Ok(()),
            Reply::Failed(reason) => {
                let error = refused(&reason);
                if error.kind() == ErrorKind::ValueTooLarge {
                    // memcached has removed the old value; not every version is known to.
                    Box::pin(self.call(&Command::Delete(command.key()))).await?;
                }
                Err(error)
            }
            Reply::Found(_) | Reply::TooLarge(_) | Reply::Missing | Reply::Meta(_) => {
                Err(senseless())
            }
        }
    }

    /// The value of a read, unless it has expired. `now` caches the time.
    #[inline]
    pub(crate) fn found(
        &self,
        reply: Reply,
        now: &mut Option<SystemTime>,
    ) -> Result<Option<CachedValue<Vec<u8>>>> {
        match reply {
            Reply::Missing => Ok(None),
            Reply::Failed(reason) => Err(refused(&reason)),
            Reply::Done | Reply::Meta(_) => Err(senseless()),
            Reply::TooLarge(len) => Err(self.too_large_to_read(len)),
            Reply::Found(Err(error)) => Err(error),
            Reply::Found(Ok(stored)) => Ok(self.value(stored, now)),
        }
    }

    /// The stored value, unless it has expired. `now` caches the time.
    #[inline]
    fn value(&self, stored: Stored, now: &mut Option<SystemTime>) -> Option<CachedValue<Vec<u8>>> {
        let mut now = || *now.get_or_insert_with(|| self.cluster.settings.now());
        match &stored.metadata {
            // Only values that expire need the clock.
            Some(metadata) => {
                let now = metadata.deadline.map_or(UNIX_EPOCH, |_| now());
                metadata.attach(stored.payload, now)
            }
            // The time of the write is unknown.
            None => {
                let value = CachedValue::new(stored.payload).with_cached_at(now());
                Some(value.with_ttl(Ttl::Never))
            }
        }
    }
}

/// The reply for `key` in the response to a single command, which follows the mark of the server's
/// last return if `is_marked`.
fn reply<F>(
    sending: &Sending<'_, F>,
    key: &str,
    is_marked: bool,
    response: Response,
) -> Result<Reply>
where
    F: Fn(&mut Outgoing) -> Result<Expected> + Sync,
{
    let mut reply = match response {
        Response::One(reply) => reply,
        Response::Many(replies) => {
            let mut replies = replies.into_iter();
            let mark = is_marked.then(|| replies.next()).flatten();
            let reply = replies.next().ok_or_else(senseless)?;
            match (mark, sending.answered_by()) {
                (Some(mark), Some((farm, index))) => {
                    farm.note_mark(index, &mark);
                    farm.believe(index, key, reply)
                }
                _ => reply,
            }
        }
        Response::AllDone(_) | Response::SomeFailed => return Err(senseless()),
    };
    sending.name_refuser(&mut reply);
    Ok(reply)
}

/// The error for a refusal, with a message from [`Server::name_refuser`].
pub(crate) fn refused(reason: &str) -> Error {
    if reason.contains("too large") {
        let message = format!("{reason}; store less, or raise memcached's -I");
        return Error::new(ErrorKind::ValueTooLarge, NAME, message);
    }
    Error::new(ErrorKind::Backend, NAME, reason)
}

/// The error for a response that does not match its request.
pub(crate) fn senseless() -> Error {
    Error::new(
        ErrorKind::Protocol,
        NAME,
        "the response does not match the request",
    )
}

/// When memcached should remove a value with this lifetime. It must not be early; the deadline
/// in the metadata is exact.
fn memcached_expiry(lifetime: Option<Duration>, now: SystemTime) -> u32 {
    /// memcached interprets larger numbers as a time since the epoch.
    const RELATIVE: u64 = 30 * 24 * 3600;
    /// memcached reads a signed 32-bit number.
    const LAST: u64 = i32::MAX as u64;
    const NEVER: u32 = 0;
    let Some(lifetime) = lifetime else {
        return NEVER;
    };
    // Rounded up, plus two: a second of memcached's clock may be almost over when the value
    // arrives, and the clock, which ticks about once a second, occasionally skips a second.
    let seconds = lifetime
        .as_secs()
        .saturating_add(u64::from(lifetime.subsec_nanos() > 0))
        .saturating_add(2);
    let seconds = match seconds {
        0..=RELATIVE => seconds,
        _ => now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
            .saturating_add(seconds),
    };
    match u32::try_from(seconds) {
        Ok(seconds) if u64::from(seconds) <= LAST => seconds,
        _ => NEVER,
    }
}

#[cfg(test)]
mod tests {
    use cache_core::CacheBackend as _;

    use super::*;
    use crate::MemcachePoolBackend;

    #[test]
    fn a_thousand_calls_in_flight_fit_in_the_cpu_cache() {
        let cache = MemcachePoolBackend::builder().build().unwrap();
        let size = size_of_val(&cache.get("key"));
        assert!(size <= 384, "{size} bytes");
    }

    #[test]
    fn memcached_keeps_a_value_at_least_until_its_deadline() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let expiry = |lifetime| memcached_expiry(Some(lifetime), now);
        assert_eq!(memcached_expiry(None, now), 0);
        assert_eq!(expiry(Duration::from_millis(1)), 3);
        assert_eq!(expiry(Duration::from_millis(900)), 3);
        assert_eq!(expiry(Duration::from_secs(1)), 3);
        assert_eq!(expiry(Duration::from_millis(1001)), 4);
        let month = 30 * 24 * 3600;
        assert_eq!(expiry(Duration::from_secs(month - 2)), 2_592_000);
        assert_eq!(expiry(Duration::from_secs(month - 1)), 1_702_592_001);
        assert_eq!(expiry(Duration::from_secs(400_000_000)), 2_100_000_002);
        // Longer lifetimes never expire in memcached; the metadata has the deadline.
        assert_eq!(expiry(Duration::from_secs(500_000_000)), 0);
        assert_eq!(expiry(Duration::MAX), 0);
    }
}
