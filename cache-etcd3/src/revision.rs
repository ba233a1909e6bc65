//! The newest revision of the store seen so far, and the keys in doubt. Both prevent a late write
//! from undoing a newer one.
//!
//! Each write carries the newest revision seen when it was sent, and etcd refuses it if its key has
//! a newer one. Writes acknowledged after it was sent have a newer revision, so a request that a
//! member applies late, after its caller has gone, has no effect. A deleted key has no revision: if
//! one of our writes may arrive late, a delete stores a mark for a minute instead.
//!
//! A plain put would be cheaper on etcd 3.4, but is not safe even if nothing else is in flight: the
//! late write itself must carry the revision, and which write will be late is unknown when it is
//! sent.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use etcd_client::ResponseHeader;
use tokio::time::Instant;

use crate::sync::lock;

/// The newest revision seen in a response.
#[derive(Debug, Default)]
pub(crate) struct Revision(AtomicI64);

impl Revision {
    pub(crate) fn newest(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Records the revision of a linearizable response. `sent` was the newest revision when its
    /// request was sent.
    pub(crate) fn saw(&self, sent: i64, told: i64) {
        if told < sent {
            // The store has started over: its data is gone.
            self.0.store(told, Ordering::Relaxed);
        } else {
            self.0.fetch_max(told, Ordering::Relaxed);
        }
    }

    /// The same for the header of a response.
    pub(crate) fn told(&self, sent: i64, header: Option<&ResponseHeader>) {
        if let Some(header) = header {
            self.saw(sent, header.revision());
        }
    }
}

/// How long a write without a response is expected to possibly arrive late.
const REMEMBERED: Duration = Duration::from_secs(300);

/// How many keys are remembered for that long; with more keys the time is shorter.
const MAX_KEYS: usize = 32 * 1024;

/// The hashes of keys in doubt: of writes that were sent but not answered.
#[derive(Debug)]
pub(crate) struct Doubts(Mutex<Generations>);

#[derive(Debug)]
struct Generations {
    young: HashSet<u64>,
    old: HashSet<u64>,
    began: Instant,
}

impl Doubts {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Generations {
            young: HashSet::new(),
            old: HashSet::new(),
            began: now,
        }))
    }

    pub(crate) fn note(&self, now: Instant, keys: impl IntoIterator<Item = u64>) {
        let mut generations = lock(&self.0);
        generations.age(now);
        generations.young.extend(keys);
    }

    pub(crate) fn has(&self, now: Instant, key: u64) -> bool {
        let mut generations = lock(&self.0);
        generations.age(now);
        generations.young.contains(&key) || generations.old.contains(&key)
    }
}

impl Generations {
    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age >= 2 * REMEMBERED {
            self.young = HashSet::new();
        }
        if age >= REMEMBERED || self.young.len() >= MAX_KEYS {
            self.old = std::mem::take(&mut self.young);
            self.began = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_revision_is_kept_unless_the_store_started_over() {
        let revision = Revision::default();
        revision.saw(0, 7);
        revision.saw(0, 5);
        assert_eq!(revision.newest(), 7);
        revision.saw(7, 9);
        assert_eq!(revision.newest(), 9);
        revision.saw(9, 2);
        assert_eq!(revision.newest(), 2);
    }

    #[test]
    fn doubts_expire_and_are_bounded() {
        let start = Instant::now();
        let doubts = Doubts::new(start);
        doubts.note(start, [1]);
        assert!(doubts.has(start, 1) && !doubts.has(start, 2));
        assert!(doubts.has(start + REMEMBERED, 1));
        assert!(!doubts.has(start + 2 * REMEMBERED, 1));
        for key in 0..10 * MAX_KEYS as u64 {
            doubts.note(start, [key]);
        }
        let generations = lock(&doubts.0);
        assert!(generations.young.len() + generations.old.len() <= 2 * MAX_KEYS);
    }
}
