//! The rules, one file per group. `life.rs` and `tasks.rs` hold what several groups use.

mod basic;
mod bounds;
mod cancellation;
mod concurrency;
mod errors;
mod expiry;
mod faults;
mod keys;
mod life;
mod limits;
mod metadata;
mod model;
mod multi;
mod outages;
mod promises;
mod races;
mod recovery;
mod sharing;
mod source;
mod tasks;
mod unreadable;
mod values;

use std::sync::LazyLock;

use crate::rule::Rule;

pub(crate) use basic::pace;

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
            expiry::ttls::RULES,
            expiry::deadlines::RULES,
            sharing::RULES,
            concurrency::RULES,
            races::RULES,
            cancellation::RULES,
            faults::RULES,
            outages::RULES,
            bounds::RULES,
            errors::RULES,
            model::RULES,
            unreadable::RULES,
            promises::RULES,
        ]
        .concat()
    });
    &ALL
}
