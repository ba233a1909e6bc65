//! Multi operations shard by shard.

use crate::hash::{KeyHash, KeyHasher};
use crate::key::KeyRef;
use crate::sharded_map::SHARDS;

/// How many keys are grouped at a time: what that takes fits into the processor's cache.
pub(crate) const BATCH: usize = 1024;

/// How many keys are dealt with while one lock is held.
const HOLD: usize = 64;

/// The keys of a batch in the order of their shards. Keys of one shard keep their order, so that
/// the last of equal keys stays the last.
pub(crate) struct Grouped {
    hashes: Vec<KeyHash>,
    /// Positions in the batch.
    order: Vec<u32>,
    /// Where the positions of each shard end.
    ends: [u32; SHARDS],
}

impl Grouped {
    /// Groups up to [`BATCH`] keys.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are BATCH keys at most"
    )]
    #[expect(clippy::indexing_slicing, reason = "there are SHARDS shards at most")]
    pub(crate) fn new<'k>(
        keys: impl Iterator<Item = &'k str>,
        hasher: &KeyHasher,
        shards: usize,
    ) -> Self {
        let of_keys: Vec<KeyHash> = keys.map(|key| hasher.hash(&KeyRef::new(key))).collect();
        // A counting sort: first how many, then where each shard's begin, moved on as they are
        // filled until it is where they end.
        let mut ends = [0_u32; SHARDS];
        for hash in &of_keys {
            ends[hash.shard(shards)] += 1;
        }
        let mut begin = 0;
        for end in &mut ends {
            begin += std::mem::replace(end, begin);
        }
        let mut order = vec![0; of_keys.len()];
        for (position, hash) in of_keys.iter().enumerate() {
            let end = &mut ends[hash.shard(shards)];
            order[*end as usize] = position as u32;
            *end += 1;
        }
        Self {
            hashes: of_keys,
            order,
            ends,
        }
    }

    /// Calls `visit` with the number of a shard, and some of its keys, few enough to be dealt
    /// with under one lock.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(usize, Group<'_>)) {
        let mut rest = self.order.as_slice();
        let mut begin = 0;
        for (shard, &end) in self.ends.iter().enumerate() {
            let (mine, behind) = rest
                .split_at_checked((end - begin) as usize)
                .unwrap_or_default();
            for positions in mine.chunks(HOLD) {
                let hashes = &self.hashes;
                visit(shard, Group { positions, hashes });
            }
            rest = behind;
            begin = end;
        }
    }
}

/// Some of the keys, all of one shard.
pub(crate) struct Group<'a> {
    positions: &'a [u32],
    hashes: &'a [KeyHash],
}

impl Group<'_> {
    /// Positions and hashes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, KeyHash)> + Clone {
        self.positions.iter().filter_map(|&position| {
            let hash = self.hashes.get(position as usize)?;
            Some((position as usize, *hash))
        })
    }
}
