//! What the tests of the suite share.
#![allow(dead_code)] // Each test binary uses its own part.

pub(crate) mod reference;
