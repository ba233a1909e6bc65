//! The backend, through its public API.

mod basics;
mod bounded;
mod concurrency;
mod config;
mod conformance;
mod expiry;
mod payloads;
