//! A value is served until its deadline, and never after.

pub(super) mod deadlines;
pub(super) mod ttls;

use cache_core::CachedValue;

use crate::context::Value;

pub(super) fn value() -> Value {
    CachedValue::new(b"value".to_vec())
}
