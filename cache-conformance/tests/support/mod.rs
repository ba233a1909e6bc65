//! Code shared by the tests of the suite.
#![allow(dead_code)] // Each test binary uses only some of it.

pub(crate) mod reference;
