//! What the tests of the suite share.
#![allow(dead_code)] // Each test binary uses its own part.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

pub(crate) mod mutant;
pub(crate) mod reference;
pub(crate) mod store;
