//! Implementations of [`Cache`](crate::adapter::Cache).

pub mod hitbox;
pub mod in_process;
pub mod memcached;
pub mod opendal;
pub mod redis;

use std::time::Duration;

/// The timeout of clients that support one: much longer than a call takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(5);
