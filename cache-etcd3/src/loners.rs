//! [`Loners`]: keys that are not batched with others, because they were refused recently or have
//! large values.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// How long a refusal is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

const MAX: usize = 4096;

/// Keys, or prefixes of keys, that are sent separately for a while, since the refusal of one fails
/// its whole request.
#[derive(Debug, Default)]
pub(crate) struct Loners {
    until: HashMap<u64, Instant>,
    hasher: RandomState,
}

impl Loners {
    pub(crate) fn has(&self, now: Instant, name: &[u8]) -> bool {
        if self.until.is_empty() {
            return false;
        }
        let is_noted = |part: &[u8]| {
            let until = self.until.get(&self.hasher.hash_one(part));
            until.is_some_and(|until| now < *until)
        };
        is_noted(name) || prefix(name).is_some_and(is_noted)
    }

    /// Adds a key, or with `whole_prefix` all keys with its prefix.
    pub(crate) fn note(&mut self, now: Instant, name: &[u8], whole_prefix: bool) {
        if self.until.len() >= MAX {
            self.until.retain(|_, until| now < *until);
        }
        if self.until.len() >= MAX {
            self.until.clear();
        }
        let part = if whole_prefix { prefix(name) } else { None };
        let hash = self.hasher.hash_one(part.unwrap_or(name));
        self.until.insert(hash, now + REMEMBERED);
    }

    /// Removes a key that was accepted, and its prefix.
    pub(crate) fn forget(&mut self, name: &[u8]) {
        if self.until.is_empty() {
            return;
        }
        self.until.remove(&self.hasher.hash_one(name));
        if let Some(prefix) = prefix(name) {
            self.until.remove(&self.hasher.hash_one(prefix));
        }
    }
}

/// The prefix that the keys of one tenant have in common: up to the last separator.
fn prefix(name: &[u8]) -> Option<&[u8]> {
    let end = name.iter().rposition(|byte| b"/:.|".contains(byte))?;
    name.get(..=end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_a_refused_prefix_are_sent_separately_until_one_is_accepted() {
        let now = Instant::now();
        let mut loners = Loners::default();
        assert!(!loners.has(now, b"other/1"));
        loners.note(now, b"other/1", true);
        assert!(loners.has(now, b"other/2") && !loners.has(now, b"app/1"));
        assert!(!loners.has(now + REMEMBERED, b"other/2"));
        loners.forget(b"other/3");
        assert!(!loners.has(now, b"other/1"));
    }

    #[test]
    fn without_a_separator_only_the_key_is_noted() {
        let now = Instant::now();
        let mut loners = Loners::default();
        loners.note(now, b"one", true);
        loners.note(now, b"a/large", false);
        assert!(loners.has(now, b"one") && !loners.has(now, b"two"));
        assert!(loners.has(now, b"a/large") && !loners.has(now, b"a/small"));
    }

    #[test]
    fn the_number_of_remembered_keys_is_bounded() {
        let now = Instant::now();
        let mut loners = Loners::default();
        for i in 0..3 * MAX {
            loners.note(now, format!("{i}").as_bytes(), true);
        }
        assert!(loners.until.len() <= MAX);
    }
}
