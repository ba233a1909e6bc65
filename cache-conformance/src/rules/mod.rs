//! The rules, a file a group.

mod basic;
mod expiry;
mod keys;
mod limits;
mod metadata;
mod multi;
mod values;

use std::sync::LazyLock;

use crate::rule::Rule;

/// Every rule of the suite, group by group.
///
/// ```
/// for rule in cache_conformance::rules() {
///     println!("{} (since {}): {} [{}]", rule.id(), rule.since, rule.statement, rule.source);
/// }
/// ```
pub fn all() -> &'static [Rule] {
    static ALL: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        [
            basic::RULES,
            keys::RULES,
            values::RULES,
            limits::RULES,
            metadata::RULES,
            multi::RULES,
            expiry::RULES,
        ]
        .concat()
    });
    &ALL
}

/// Where the rules come from: the part of [`cache_core::CacheBackend`]'s documentation that
/// states them, and what taught it.
mod source {
    pub(super) const MISSES: &str = "CacheBackend: Misses and errors; dogpile.cache NO_VALUE";
    pub(super) const WRITES: &str = "CacheBackend: Writes";
    pub(super) const MULTI: &str = "CacheBackend: Multi operations; dogpile.cache CacheBackend";
    pub(super) const LIFETIMES: &str = "CacheBackend: Lifetimes; oslo.cache expiration_time";
    pub(super) const METADATA: &str = "CacheBackend: Metadata; dogpile.cache CachedValue";
    pub(super) const KEYS: &str = "CacheBackend: Keys";
    pub(super) const VALUES: &str = "CacheBackend: Values";
}
