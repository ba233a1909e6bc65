//! Shared by the release tests: a registry on loopback, and temporary workspaces.
#![allow(dead_code, unreachable_pub)] // Each test program uses only a part.

pub mod playground;
pub mod registry;
pub mod upstream;
