//! Locking without poisoning.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Ignores poisoning: the data of this crate's locks is consistent wherever a panic could occur.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
