//! Where the rules come from: the part of [`cache_core::CacheBackend`]'s documentation that
//! states them, and what taught it.

pub(super) const MISSES: &str = "CacheBackend: Misses and errors; dogpile.cache NO_VALUE";
pub(super) const WRITES: &str = "CacheBackend: Writes";
pub(super) const MULTI: &str = "CacheBackend: Several keys; dogpile.cache CacheBackend";
pub(super) const LIFETIMES: &str = "CacheBackend: Lifetimes; oslo.cache expiration_time";
pub(super) const METADATA: &str = "CacheBackend: Metadata; dogpile.cache CachedValue";
pub(super) const KEYS: &str = "CacheBackend: Keys";
pub(super) const VALUES: &str = "CacheBackend: Values";
pub(super) const SHARING: &str = "CacheBackend: Writes; what a shared cache is for";
pub(super) const CONCURRENCY: &str = "CacheBackend: callable from many tasks at once";
pub(super) const CANCELLATION: &str = "CacheBackend: Time and cancellation";
pub(super) const MODEL: &str = "CacheBackend: the whole contract";
pub(super) const FAULTS: &str = "CacheBackend: Misses and errors, Time and cancellation";
pub(super) const BOUNDS: &str = "CacheBackend: Time and cancellation";
pub(super) const PARTS: &str = "CacheBackend: Several keys, Misses and errors";
pub(super) const PROMISES: &str = "Capabilities: a promise beyond the contract";
pub(super) const ERRORS: &str = "cache_core::Error";
