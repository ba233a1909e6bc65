//! The caches, each made a [`Cache`](crate::adapter::Cache).

pub mod hitbox;
pub mod in_process;
pub mod memcached;
pub mod opendal;
pub mod redis;

use std::time::Duration;

/// Of clients that have one: much more than a call takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(5);
