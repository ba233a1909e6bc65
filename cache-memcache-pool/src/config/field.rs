//! How the fields are read from a file: an error begins with the name of its field.

use std::path::PathBuf;
use std::time::Duration;

use cache_core::{seconds, text};
use serde::{Deserialize, Deserializer};

use super::protocol::Protocol;
use super::python_client::PythonClient;
use crate::protocol::StoredFormat;
use crate::router::Routing;

macro_rules! readers {
    ($($read:path => $type:ty { $($field:ident)* })*) => {
        $($(
            pub(super) fn $field<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$type, D::Error> {
                text::field(stringify!($field), $read(deserializer))
            }
        )*)*
    };
}

readers! {
    text::list => Vec<String> {
        url
    }
    text::numbers => Vec<u32> {
        weights
    }
    text::number => usize {
        pool_maxsize server_max_value_length min_compress_len
    }
    seconds::deserialize => Duration {
        pool_unused_timeout pool_connection_get_timeout dead_retry socket_timeout
        memcached_expire_time
    }
    text::switch => bool {
        pool_flush_on_reconnect pool_expire_on_reconnect tls_enabled tls_verify failover
    }
    Option::deserialize => Option<String> {
        username tls_server_name
    }
    text::secret => Option<String> {
        password
    }
    Option::deserialize => Option<PathBuf> {
        tls_cafile tls_certfile tls_keyfile
    }
    text::word => Routing {
        routing
    }
    text::word => Protocol {
        protocol
    }
    text::word => StoredFormat {
        stored_format
    }
    text::word => PythonClient {
        python_client
    }
}
