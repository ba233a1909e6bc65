//! The servers as a whole.

pub(crate) mod router;
