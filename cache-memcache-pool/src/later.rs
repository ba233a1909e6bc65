//! Deadlines beyond the range of the clock.

use std::time::Duration;

use tokio::time::Instant;

/// The time after `wait`; beyond the clock's range, a century.
pub(crate) fn later(now: Instant, wait: Duration) -> Instant {
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    now.checked_add(wait).unwrap_or_else(|| now + century)
}
