//! Which keys are used, and what they are called.

use serde::{Deserialize, Serialize};

/// How many keys a round has.
pub(crate) const KEYS: usize = 400;

/// A key of the soak. Each round of some seconds has its own keys, so that their histories are
/// short and can be judged whole once the round is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    /// Which of the stores that know nothing of each other.
    pub(crate) space: u32,
    pub(crate) round: u32,
    /// 0 is the one used most.
    pub(crate) index: u32,
}

impl Key {
    /// What it is called in the store. Some names are what a careless protocol chokes on.
    pub(crate) fn name(self, run: u64) -> String {
        let Self {
            space,
            round,
            index,
        } = self;
        let name = format!("soak-{run:x}/{space}/{round}/{index}");
        match index % 16 {
            3 => format!("{name} with spaces"),
            5 => format!("{name}\r\nset injected 0 0 1\r\n"),
            7 => format!("{name}/żółć/日本"),
            9 => format!("{name}/{}", "long".repeat(40)),
            11 => format!("{name}\0\t\u{7f}"),
            _ => name,
        }
    }

    /// Kept to the end instead of being cleared away when its round is long over, so that
    /// values are read hours after they were written.
    pub(crate) fn is_kept(self) -> bool {
        self.index % 16 == 1
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            space,
            round,
            index,
        } = self;
        write!(f, "key {index} of round {round} in space {space}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_keys_share_a_name() {
        let mut names = HashSet::new();
        for round in 0..20 {
            for index in 0..200 {
                let key = Key {
                    space: 0,
                    round,
                    index,
                };
                assert!(names.insert(key.name(1)), "{key}");
                assert!(names.insert(Key { space: 1, ..key }.name(1)), "{key}");
            }
        }
    }
}
