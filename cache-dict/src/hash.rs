//! [`KeyHasher`], a seeded hash of keys.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::key::KeyRef;

/// Constants without structure: digits of pi.
const PI: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345];

/// Hashes keys by folded multiplication. For keys of usual length it is several times as fast as
/// the `SipHash` of std, which would take most of the time of a hit. Each backend has random seeds,
/// so that attackers cannot prepare keys that collide.
#[derive(Clone)]
pub(crate) struct KeyHasher {
    seeds: [u64; 3],
    /// The bits that are used, to make collisions in tests.
    #[cfg(test)]
    mask: u64,
}

impl KeyHasher {
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        let seed = |n: u64| {
            let mut hasher = random.build_hasher();
            hasher.write_u64(n);
            hasher.finish()
        };
        Self {
            seeds: [seed(0), seed(1), seed(2)],
            #[cfg(test)]
            mask: u64::MAX,
        }
    }

    #[cfg(test)]
    pub(crate) fn masked(mut self, mask: u64) -> Self {
        self.mask = mask;
        self
    }

    #[inline]
    pub(crate) fn hash(&self, key: &KeyRef<'_>) -> KeyHash {
        let [seed_a, seed_b, seed_c] = self.seeds;
        let mut state = seed_a;
        let mut rest = key.bytes();
        while let Some((chunk, behind)) = rest.split_first_chunk::<16>() {
            let (a, b) = halves(chunk);
            state = fold(a ^ state, b ^ seed_b);
            rest = behind;
        }
        let (a, b) = ends(rest);
        state = fold(a ^ state, b ^ seed_b);
        // The length is mixed in by multiplication: `ends` reads some bytes twice and fills others
        // with zeros, so keys of different lengths may have the same state here.
        let length = key.code().wrapping_mul(PI[0]) ^ PI[1];
        let hash = fold(state ^ length, seed_c | 1);
        #[cfg(test)]
        let hash = hash & self.mask;
        KeyHash(hash)
    }
}

/// The hash of a key. Different bits select the shard and the slot within it.
#[derive(Clone, Copy, Default)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    /// The number of the entry's shard. `shards` is a power of two.
    #[inline]
    pub(crate) fn shard(self, shards: usize) -> usize {
        (self.0 >> 32) as usize & (shards - 1)
    }

    #[cfg(test)]
    pub(crate) fn of_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// A byte that is independent of the shard and of the place within it. It is not zero.
    #[inline]
    pub(crate) fn tag(self) -> u8 {
        ((self.0 >> 56) as u8).max(1)
    }

    /// One of `places`, independent of the shard, the bucket and the tag.
    #[inline]
    pub(crate) fn place(self, places: usize) -> usize {
        (((self.0 >> 40) & 0xffff) as usize * places) >> 16
    }

    /// The bits that select the place within the shard.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub(crate) fn low(self) -> u32 {
        self.0 as u32
    }
}

/// Both halves of the 128-bit product: each bit of it depends on all bits below.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[inline]
fn halves(chunk: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*chunk);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    (both as u64, (both >> 64) as u64)
}

/// Up to fifteen bytes as two numbers: the first and the last eight (or four) bytes, which
/// overlap.
#[inline]
fn ends(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (
            u32::from_le_bytes(*first).into(),
            u32::from_le_bytes(*last).into(),
        )
    } else {
        let (first, middle, last) = match *bytes {
            [] => (0, 0, 0),
            [a] => (a, a, a),
            [a, b] => (a, b, b),
            [a, b, c, ..] => (a, b, c),
        };
        (u64::from(first) << 8 | u64::from(middle), u64::from(last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn hashes_of_similar_keys_differ_and_spread() {
        let hasher = KeyHasher::new();
        let mut keys: Vec<String> = (0..20_000).map(|n| format!("k{n}")).collect();
        keys.extend((1..2_000).map(|len| "a".repeat(len)));
        keys.extend((1..2_000).map(|len| "\0".repeat(len)));
        keys.extend((0..2_000).map(|n| format!("{n:040x}")));
        keys.extend((0..2_000).map(|n| format!("a-long-prefix-that-all-share:{n}:and-a-tail")));
        let different: HashSet<u64> = keys
            .iter()
            .map(|key| hasher.hash(&KeyRef::new(key)).0)
            .collect();
        assert_eq!(different.len(), keys.len());
        for shift in [0, 8, 32, 40] {
            let mut counts = [0_u32; 256];
            for hash in &different {
                counts[(hash >> shift & 0xff) as usize] += 1;
            }
            // About a hundred in each on average; ten is nine standard deviations away.
            assert!(
                counts.iter().all(|&n| (10..200).contains(&n)),
                "bits {shift}: {counts:?}"
            );
        }
    }

    #[test]
    fn backends_hash_differently() {
        let (one, other) = (KeyHasher::new(), KeyHasher::new());
        let key = KeyRef::new("key");
        assert_ne!(one.hash(&key).0, other.hash(&key).0);
        assert_eq!(one.hash(&key).0, one.hash(&key).0);
    }
}
