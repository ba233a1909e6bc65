//! How the fields are read from a file: an error begins with the name of its field.

use std::path::PathBuf;
use std::time::Duration;

use cache_core::{seconds, text};
use serde::{Deserialize, Deserializer};

use super::consistency::Consistency;
use super::optional_seconds;
use super::stored_format::StoredFormat;

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
    String::deserialize => String {
        host prefix
    }
    text::number => u16 {
        port
    }
    text::list => Vec<String> {
        endpoints
    }
    seconds::deserialize => Duration {
        timeout
    }
    optional_seconds::deserialize => Option<Duration> {
        ttl call_timeout
    }
    Option::deserialize => Option<String> {
        username
    }
    text::secret => Option<String> {
        password
    }
    text::switch => bool {
        tls_enabled refuse_late_writes
    }
    Option::deserialize => Option<PathBuf> {
        tls_cafile tls_certfile tls_keyfile
    }
    text::word => Consistency {
        consistency
    }
    text::word => StoredFormat {
        stored_format
    }
    text::number => usize {
        max_request_bytes
    }
}
