//! [`MemcachePoolBackend::meta`]: commands beyond the six operations.

use cache_core::{Error, ErrorKind, Result};

use crate::cluster::Sending;
use crate::connection::Exchange;
use crate::protocol::{Dialect, MetaRequest, MetaResponse, Outgoing, Reply, Response, check_key};
use crate::store::{WEIGHT_BYTES, refused, senseless};
use crate::{MemcachePoolBackend, NAME};

impl MemcachePoolBackend {
    /// Sends a meta command to the server that its key routes to: counting, touching,
    /// compare-and-swap, and all other meta commands.
    ///
    /// ```no_run
    /// use cache_core::ErrorKind;
    /// use cache_memcache_pool::{MemcachePoolBackend, MetaRequest, MetaStatus};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cache_core::Result<()> {
    /// let cache = MemcachePoolBackend::builder().url(["localhost:11211"]).build()?;
    ///
    /// // Increments a counter, which starts at 1 and then lives for an hour.
    /// let count = MetaRequest::arithmetic("visits");
    /// let count = count.flag_with('N', 3600).flag_with('J', 1).flag('v');
    /// println!("{}", String::from_utf8_lossy(cache.meta(count).await?.value()));
    ///
    /// // Extends the lifetime of a value to five minutes, without reading it.
    /// let touched = cache.meta(MetaRequest::get("session").flag_with('T', 300)).await?;
    /// let was_there = touched.status() != MetaStatus::Missing;
    ///
    /// // Changes a value unless it was changed since it was read.
    /// let found = cache.meta(MetaRequest::get("plan").flag('v').flag('c')).await?;
    /// if let Some(unique) = found.flag('c') {
    ///     let changed = MetaRequest::set("plan", "another").flag_with('C', unique);
    ///     let is_mine = cache.meta(changed).await?.status() == MetaStatus::Done;
    /// }
    ///
    /// // Stores a value unless the key has one.
    /// let add = MetaRequest::set("lock", "me").flag_with('M', 'E').flag_with('T', 30);
    /// match cache.meta(add).await {
    ///     Ok(response) => println!("{:?}", response.status()),
    ///     Err(error) if error.kind() == ErrorKind::Timeout => println!("perhaps: {error}"),
    ///     Err(error) => println!("no: {error}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Keys and values
    ///
    /// The key is used as it is, without the mapping of [`MapKeys`], and in base64 if it contains
    /// spaces or control characters. Values are those of the server. [`set`] stores metadata before
    /// the payload, with a deadline that `T` does not change. `ms` and `ma` store none, so [`get`]
    /// reads their values only with `stored_format = "raw"`. `pool_expire_on_reconnect` does not
    /// apply.
    ///
    /// # Timeouts and failover
    ///
    /// As for [`get`]: servers that are down are skipped, and the call ends within twice
    /// `socket_timeout`, plus `pool_connection_get_timeout` if it has to wait for a connection.
    /// With failover a counter may be incremented on two servers, one after the other.
    ///
    /// An idempotent command is retried when its connection ends: `mg` without `N`, `R`, `h` and
    /// `l`, `ms` without `M`, `C` and `I`, `me` and `mn`. Any other command is retried only if no
    /// part of it was written.
    ///
    /// # Errors
    ///
    /// A missing or an existing value is a [`MetaStatus`], not an error. For a command that is not
    /// idempotent, [`Timeout`], [`Protocol`] and [`PermissionDenied`] mean that the server may have
    /// executed it; after any other error it has not.
    ///
    /// - [`InvalidKey`]: the key is empty or too long for memcached.
    /// - [`Encode`]: a flag is invalid or reserved.
    /// - [`Config`]: `protocol = "classic"` has no meta commands.
    /// - [`Backend`]: the server refused the command; the message contains its reason.
    /// - [`ValueTooLarge`]: memcached refused the value, and may have removed the old one; the value
    ///   has more than 1 GiB, and was not sent; or the value that memcached sent is larger than
    ///   `server_max_value_length`.
    /// - All others as for the six operations.
    ///
    /// # Cancellation
    ///
    /// The future may be dropped at any time. A command that has not been written is withdrawn; one
    /// that has been written may still be executed.
    ///
    /// [`MapKeys`]: cache_core::MapKeys
    /// [`MetaStatus`]: crate::MetaStatus
    /// [`get`]: cache_core::CacheBackend::get
    /// [`set`]: cache_core::CacheBackend::set
    /// [`Backend`]: ErrorKind::Backend
    /// [`Config`]: ErrorKind::Config
    /// [`Encode`]: ErrorKind::Encode
    /// [`InvalidKey`]: ErrorKind::InvalidKey
    /// [`PermissionDenied`]: ErrorKind::PermissionDenied
    /// [`Protocol`]: ErrorKind::Protocol
    /// [`Timeout`]: ErrorKind::Timeout
    /// [`ValueTooLarge`]: ErrorKind::ValueTooLarge
    pub async fn meta(&self, request: MetaRequest) -> Result<MetaResponse> {
        self.send_meta(&request)
            .await
            .map_err(|error| error.with_key(request.key()))
    }

    async fn send_meta(&self, request: &MetaRequest) -> Result<MetaResponse> {
        let cluster = &self.inner.store.cluster;
        if cluster.settings.dialect == Dialect::Classic {
            let message = "`protocol` \"classic\" has no meta commands; set it to \"meta\"";
            return Err(Error::new(ErrorKind::Config, NAME, message));
        }
        check_key(request.key(), Dialect::Meta)?;
        request.check_flags()?;
        request.check_value()?;
        let exchange = Exchange {
            encode: |out: &mut Outgoing| Ok(request.encode(out)),
            weight: 1 + request.size() / WEIGHT_BYTES,
            has_mark: false,
        };
        let is_once = !request.is_repeatable();
        let mut sending = Sending::new(cluster, request.key(), &exchange, is_once);
        let Response::One(mut reply) = (&mut sending).await? else {
            return Err(senseless());
        };
        sending.name_refuser(&mut reply);
        match reply {
            Reply::Meta(response) => Ok(*response),
            Reply::Failed(reason) => Err(refused(&reason)),
            Reply::TooLarge(len) => Err(self.inner.store.too_large_to_read(len)),
            Reply::Found(_) | Reply::Missing | Reply::Done => Err(senseless()),
        }
    }
}
