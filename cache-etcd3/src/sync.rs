//! Locks that outlive a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the locks of this crate guard is consistent at every point where a panic could strike.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
