#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// What a caller or a server controls must not be able to panic the process. Tests may panic.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod backend;
#[cfg(feature = "blocking")]
mod blocking;
mod dynamic;
mod error;
mod events;
mod ext;
mod format;
mod forward;
mod map_keys;
mod miss_on_error;
mod observed;
pub mod seconds;
pub mod text;
mod ttl;
mod typed;
mod value;
pub mod wire;
mod wrapper;

pub use backend::CacheBackend;
#[cfg(feature = "blocking")]
#[cfg_attr(docsrs, doc(cfg(feature = "blocking")))]
pub use blocking::Blocking;
pub use dynamic::DynBackend;
pub use error::{Error, ErrorKind, Result};
pub use events::ServerEvent;
pub use ext::CacheBackendExt;
pub use format::Format;
#[cfg(feature = "json")]
pub use format::Json;
pub use map_keys::MapKeys;
pub use miss_on_error::{MissOnError, SwallowedErrors};
pub use observed::{Call, Observed, Observer, Operation};
pub use ttl::Ttl;
pub use typed::Typed;
pub use value::CachedValue;
