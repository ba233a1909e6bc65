//! [`Limits`]: the size of requests.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::coalescer;
use crate::failure::Excess;

/// etcd's own default limit of a transaction (`--max-txn-ops`).
const MAX_OPERATIONS: usize = 128;

/// Well below etcd's default limit of a request of 1.5 MiB (`--max-request-bytes`).
const MAX_BYTES: usize = 1024 * 1024;

/// Approximate framing overhead of an operation in bytes.
pub(crate) const OVERHEAD: usize = 64;

/// Larger values are sent in requests of their own, so that they do not delay others.
pub(crate) const MAX_SHARED_BYTES: usize = 16 * 1024;

/// The largest size of a request, as far as the server has reported it.
#[derive(Debug)]
pub(crate) struct Limits {
    operations: AtomicUsize,
    bytes: AtomicUsize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations: AtomicUsize::new(MAX_OPERATIONS),
            bytes: AtomicUsize::new(MAX_BYTES),
        }
    }
}

impl Limits {
    pub(crate) fn get(&self) -> coalescer::Limits {
        coalescer::Limits {
            operations: self.operations.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Lowers a limit after a request that exceeded it.
    pub(crate) fn learn(&self, excess: Excess, operations: usize, bytes: usize) {
        match excess {
            Excess::Operations => {
                self.operations.fetch_min(operations / 2, Ordering::Relaxed);
            }
            Excess::Bytes => {
                let least = MAX_SHARED_BYTES;
                self.bytes
                    .fetch_min((bytes / 2).max(least), Ordering::Relaxed);
            }
            // The size of a response depends on the stored values.
            Excess::Answer => {}
        }
    }

    /// Splits `items` into pieces that each fit into a request, in order.
    pub(crate) fn cut<T>(&self, items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
        let limits = self.get();
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        let mut piece_bytes = 0;
        for item in items {
            let bytes = bytes(&item);
            let is_full = piece.len() >= limits.operations || piece_bytes + bytes > limits.bytes;
            if is_full && !piece.is_empty() {
                pieces.push(std::mem::take(&mut piece));
                piece_bytes = 0;
            }
            piece_bytes += bytes;
            piece.push(item);
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_by_count_and_by_bytes() {
        let limits = Limits::default();
        let lengths = |items: Vec<usize>| -> Vec<usize> {
            let pieces = limits.cut(items, |bytes| *bytes);
            pieces.iter().map(Vec::len).collect()
        };
        assert_eq!(lengths(vec![]), [0; 0]);
        assert_eq!(lengths(vec![1; 128]), [128]);
        assert_eq!(lengths(vec![1; 300]), [128, 128, 44]);
        assert_eq!(lengths(vec![MAX_BYTES / 2; 5]), [2, 2, 1]);
        assert_eq!(lengths(vec![1, 9 * MAX_BYTES, 1]), [1, 1, 1]);
        limits.learn(Excess::Operations, 100, 1);
        assert_eq!(lengths(vec![1; 128]), [50, 50, 28]);
        limits.learn(Excess::Bytes, 1, 200);
        assert_eq!(limits.get().bytes, MAX_SHARED_BYTES);
    }
}
