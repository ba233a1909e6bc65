//! The backend against real memcached servers: what only they can show. Nothing here depends on
//! how fast the machine is; what does is in the simulation.

#![allow(clippy::cast_possible_truncation)]

mod cancellation;
mod common;
mod conformance;
mod faults;
mod formats;
mod messages;
mod meta;
mod operations;
mod security;
