//! A value is served until its deadline, and never after.

pub(super) mod deadlines;
pub(super) mod ttls;

use cache_core::CachedValue;

use crate::context::Value;

/// A rule of this group: it needs TTLs, and waits.
macro_rules! expiry_rule {
    ($name:ident, $statement:literal) => {
        $crate::rule::rule!(
            "expiry",
            $name,
            $crate::rules::source::LIFETIMES,
            $statement
        )
        .requires(&[$crate::Requirement::Ttl])
        .waits()
    };
}
use expiry_rule;

fn value() -> Value {
    CachedValue::new(b"value".to_vec())
}
