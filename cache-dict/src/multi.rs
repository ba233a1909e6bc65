//! Multi operations shard by shard.

use crate::hash::{KeyHash, KeyHasher};

/// How many keys are dealt with before an asynchronous caller lets other tasks run.
pub(crate) const CHUNK: usize = 1024;

/// How many keys are dealt with while one lock is held.
const HOLD: usize = 64;

/// The keys of a call in the order of their shards. Keys of one shard keep their order, so that
/// the last of equal keys stays the last.
pub(crate) struct Grouped {
    hashes: Vec<KeyHash>,
    /// Positions in the call.
    order: Vec<u32>,
    /// Where the positions of each shard end.
    ends: Vec<u32>,
}

impl Grouped {
    /// Groups up to [`CHUNK`] keys.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are CHUNK keys at most"
    )]
    #[expect(
        clippy::indexing_slicing,
        reason = "the mask is below the number of shards"
    )]
    pub(crate) fn new<'k>(
        keys: impl Iterator<Item = &'k str>,
        hasher: &KeyHasher,
        shards: usize,
    ) -> Self {
        let of_keys: Vec<KeyHash> = keys.map(|key| hasher.hash(key.as_bytes())).collect();
        let mask = shards - 1;
        // A counting sort: first how many, then where each shard's begin, moved on as they are
        // filled until it is where they end.
        let mut ends = vec![0_u32; shards];
        for hash in &of_keys {
            ends[hash.high() as usize & mask] += 1;
        }
        let mut begin = 0;
        for end in &mut ends {
            begin += std::mem::replace(end, begin);
        }
        let mut order = vec![0; of_keys.len()];
        for (position, hash) in of_keys.iter().enumerate() {
            let end = &mut ends[hash.high() as usize & mask];
            order[*end as usize] = position as u32;
            *end += 1;
        }
        Self {
            hashes: of_keys,
            order,
            ends,
        }
    }

    /// The positions and hashes of the keys in the order of their shards, in portions.
    pub(crate) fn portions(&self) -> impl Iterator<Item = Group<'_>> {
        self.order.chunks(HOLD).map(|positions| Group {
            positions,
            hashes: &self.hashes,
        })
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
                visit(
                    shard,
                    Group {
                        positions,
                        hashes: &self.hashes,
                    },
                );
            }
            rest = behind;
            begin = end;
        }
    }
}

/// Some of the keys.
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

/// Lets the executor run other tasks once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
