//! The backend against real memcached servers, where a simulation is not enough. No test depends on
//! the speed of the machine; those about time are in the simulation.

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
