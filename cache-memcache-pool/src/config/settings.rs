//! [`Settings`]: the checked configuration.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_core::{Result, ServerEvent};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{MAX_ITEM, MemcachePoolConfig, Protocol, bad_config, without_effect};
use crate::protocol::{Decoder, Dialect, StoredFormat};
use crate::router::Routing;

/// Called when a server goes down or returns.
pub(crate) type OnServerEvent = dyn Fn(&ServerEvent) + Send + Sync;

/// See [`clock`](crate::MemcachePoolBuilder::clock).
pub(crate) type Clock = dyn Fn() -> SystemTime + Send + Sync;

/// A connection made by [`connect_with`](crate::MemcachePoolBuilder::connect_with).
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// See [`connect_with`](crate::MemcachePoolBuilder::connect_with).
pub(crate) type Connector = dyn Fn(&str) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>
    + Send
    + Sync;

/// The timeouts of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) socket: Duration,
    pub(crate) unused: Duration,
}

/// Settings that only code can provide, not a configuration file.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) on_event: Option<Arc<OnServerEvent>>,
    pub(crate) clock: Option<Arc<Clock>>,
    pub(crate) connector: Option<Arc<Connector>>,
    pub(crate) jitter_seed: Option<u64>,
}

/// An upper bound that the clock can represent.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

pub(crate) struct Settings {
    pub(crate) pool_maxsize: usize,
    pub(crate) pool_connection_get_timeout: Duration,
    pub(crate) dead_retry: Duration,
    pub(crate) timeouts: Timeouts,
    pub(crate) flush_on_reconnect: bool,
    pub(crate) expire_on_reconnect: bool,
    pub(crate) max_value: usize,
    pub(crate) stored_format: StoredFormat,
    /// The client flags of values that are not compressed.
    pub(crate) client_flags: u32,
    /// Values of at least this many bytes are compressed; `None`: no compression.
    pub(crate) min_compress_len: Option<usize>,
    pub(crate) default_ttl: Duration,
    pub(crate) routing: Routing,
    pub(crate) failover: bool,
    pub(crate) dialect: Dialect,
    /// `username password`, as the server expects it.
    pub(crate) credentials: Option<String>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<super::tls::Tls>,
    pub(crate) on_event: Option<Arc<OnServerEvent>>,
    pub(crate) connector: Option<Arc<Connector>>,
    clock: Option<Arc<Clock>>,
    jitter_seed: u64,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

impl Settings {
    pub(crate) fn new(config: &MemcachePoolConfig, hooks: &Hooks) -> Result<Self> {
        if config.tls_enabled && cfg!(not(feature = "tls")) {
            return Err(bad_config(
                "`tls_enabled` requires the feature `tls` of cache-memcache-pool; enable it",
            ));
        }
        if config.min_compress_len > 0 && cfg!(not(feature = "zlib")) {
            return Err(bad_config(
                "`min_compress_len` requires the feature `zlib` of cache-memcache-pool; enable it",
            ));
        }
        if config.min_compress_len > 0 && config.stored_format == StoredFormat::Raw {
            return Err(bad_config(
                "`min_compress_len` is set, but `stored_format` \"raw\" does not change payloads; \
                 use \"envelope\"",
            ));
        }
        if let (Some(on_event), Some(message)) = (&hooks.on_event, without_effect(config)) {
            let event = ServerEvent::warning(None, message);
            let _ = catch_unwind(AssertUnwindSafe(|| on_event(&event)));
        }
        let credentials = match (&config.username, &config.password) {
            (Some(username), Some(password)) => Some(format!("{username} {password}")),
            _ => None,
        };
        Ok(Self {
            pool_maxsize: or_unlimited(config.pool_maxsize, usize::MAX),
            pool_connection_get_timeout: config.pool_connection_get_timeout.min(LONGEST),
            dead_retry: config.dead_retry,
            timeouts: Timeouts {
                socket: config.socket_timeout.min(LONGEST),
                unused: config.pool_unused_timeout.min(LONGEST),
            },
            flush_on_reconnect: config.pool_flush_on_reconnect,
            expire_on_reconnect: config.pool_expire_on_reconnect,
            max_value: or_unlimited(config.server_max_value_length, MAX_ITEM),
            stored_format: config.stored_format,
            client_flags: config.python_client.flags_of_bytes(),
            min_compress_len: Some(config.min_compress_len).filter(|&len| len > 0),
            default_ttl: config.memcached_expire_time,
            routing: config.routing,
            failover: config.failover,
            dialect: match config.protocol {
                Protocol::Meta => Dialect::Meta,
                Protocol::Classic => Dialect::Classic,
            },
            credentials,
            #[cfg(feature = "tls")]
            tls: super::tls::Tls::new(config)?,
            on_event: hooks.on_event.clone(),
            connector: hooks.connector.clone(),
            clock: hooks.clock.clone(),
            jitter_seed: hooks.jitter_seed.unwrap_or_else(|| {
                use std::hash::{BuildHasher as _, RandomState};
                RandomState::new().hash_one(())
            }),
        })
    }

    /// A decoder for values in the configured format.
    pub(crate) fn decoder(&self) -> Decoder {
        Decoder::new(self.max_value, self.stored_format)
    }

    /// The time of day.
    pub(crate) fn now(&self) -> SystemTime {
        self.clock
            .as_ref()
            .map_or_else(SystemTime::now, |clock| clock())
    }

    /// The seed that randomizes the waits for `server`.
    pub(crate) fn jitter(&self, server: &str) -> u64 {
        server.bytes().fold(self.jitter_seed, |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

/// Replaces zero, which means no limit.
fn or_unlimited(number: usize, unlimited: usize) -> usize {
    if number == 0 { unlimited } else { number }
}
