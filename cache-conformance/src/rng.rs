//! Random numbers that are determined by a seed.

use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// The environment variable that repeats a run.
pub(crate) const SEED_VARIABLE: &str = "CACHE_CONFORMANCE_SEED";

/// The seed from the environment, else a new one, or why it cannot be read: a run with another
/// seed would not repeat anything.
pub(crate) fn seed() -> Result<u64, String> {
    seed_in(std::env::var_os(SEED_VARIABLE).as_deref())
}

fn seed_in(variable: Option<&OsStr>) -> Result<u64, String> {
    match variable {
        None => Ok(entropy()),
        Some(text) if text.is_empty() => Ok(entropy()),
        Some(text) => {
            let text = text.to_string_lossy();
            text.parse().map_err(|_| {
                format!(
                    "{SEED_VARIABLE} is {text:?}: expected a whole number from 0 to {}, as in the \
                     message of a failure",
                    u64::MAX
                )
            })
        }
    }
}

/// A number that does not depend on the seed, for names that must not be reused.
pub(crate) fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// `SplitMix64`. Clones draw from the same sequence.
#[derive(Clone, Debug)]
pub(crate) struct Rng(Arc<Mutex<u64>>);

impl Rng {
    /// Each rule has its own sequence, whatever order the rules run in.
    pub(crate) fn new(seed: u64, rule: &str) -> Self {
        let state = rule.bytes().fold(seed, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`, which is not zero.
    pub(crate) fn below(&self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    pub(crate) fn bytes(&self, len: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.flatten().take(len).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_that_cannot_be_read_is_an_error() {
        let seed = |text: &str| seed_in(Some(OsStr::new(text)));
        assert_eq!(seed("0"), Ok(0));
        assert_eq!(seed("18446744073709551615"), Ok(u64::MAX));
        for text in ["abc", "-1", "1.5", "18446744073709551616", " 1", "0x1f"] {
            let why = seed(text).expect_err("no seed");
            assert!(
                why.contains(&format!("{SEED_VARIABLE} is {text:?}")),
                "{why}"
            );
        }
        assert!(seed("").is_ok());
        assert_ne!(seed_in(None), seed_in(None));
    }
}
