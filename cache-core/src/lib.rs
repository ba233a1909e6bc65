#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
#[doc = include_str!("../DEPLOYMENT.md")]
pub mod deployment {}
mod dynamic;
mod error;
mod key_map;
mod miss_on_error;
pub mod seconds;
mod serialized;
mod value;
pub mod wire;

pub use backend::CacheBackend;
pub use dynamic::DynBackend;
pub use error::{Error, ErrorKind, Result};
pub use key_map::KeyMap;
pub use miss_on_error::MissOnError;
#[cfg(feature = "json")]
pub use serialized::Json;
pub use serialized::{Format, Serialized};
pub use value::CachedValue;
