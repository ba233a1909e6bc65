//! What the release tests share: a registry on loopback, and workspaces to throw away.
#![allow(dead_code, unreachable_pub)] // Each test program uses a part.

pub mod playground;
pub mod registry;
pub mod upstream;
