#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod answer;
mod backend;
mod builder;
mod cluster;
mod command;
mod config;
mod connection;
mod driver;
mod health;
mod journey;
mod line;
mod multi;
mod parser;
mod server;
mod settings;
mod stats;
mod stream;
#[cfg(feature = "tls")]
mod tls;

pub use backend::MemcachePoolBackend;
pub use builder::MemcachePoolBuilder;
pub use cluster::router::Routing;
pub use config::MemcachePoolConfig;
pub use stats::{MemcachePoolStats, ServerEvent, ServerStats};

/// What errors call this backend.
const NAME: &str = env!("CARGO_PKG_NAME");
