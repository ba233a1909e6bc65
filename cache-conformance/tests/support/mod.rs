//! What the tests of the suite share.
#![allow(dead_code)] // Each test binary uses its own part.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

pub(crate) mod reference;
