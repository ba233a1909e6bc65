//! Which server pymemcache keeps a key on: its `RendezvousHash` over `MurmurHash3`.

/// The server of `servers` for `key`, among those that are up.
pub(crate) fn server_of(
    key: &str,
    servers: &[String],
    is_up: &dyn Fn(usize) -> bool,
) -> Option<usize> {
    let up = servers
        .iter()
        .enumerate()
        .filter(|(index, _)| is_up(*index));
    // The name breaks a tie.
    let best = up.max_by_key(|(_, name)| (murmur3(format!("{name}-{key}").as_bytes()), *name));
    best.map(|(index, _)| index)
}

/// `MurmurHash3`, x86, 32 bits, seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let scramble = |block: u32| {
        let block = block.wrapping_mul(0xcc9e_2d51).rotate_left(15);
        block.wrapping_mul(0x1b87_3593)
    };
    let little_endian = |bytes: &[u8]| {
        let bytes = bytes.iter().rev();
        bytes.fold(0, |word, &byte| word << 8 | u32::from(byte))
    };
    let blocks = bytes.chunks_exact(4);
    let tail = scramble(little_endian(blocks.remainder()));
    let mut hash = blocks.fold(0_u32, |hash, block| {
        let hash = (hash ^ scramble(little_endian(block))).rotate_left(13);
        hash.wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    hash ^= tail;
    hash ^= u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_its_author() {
        assert_eq!(murmur3(b""), 0);
        assert_eq!(murmur3(b"aaaa"), 0x7eee_d987);
        assert_eq!(murmur3(b"hello, world"), 0x149b_bb7f);
        assert_eq!(
            murmur3(b"The quick brown fox jumps over the lazy dog"),
            0x2e4f_f723
        );
    }

    /// As `RendezvousHash` of pymemcache 4.0 chose.
    #[test]
    fn the_choice_is_that_of_pymemcache() {
        let servers = ["a:1", "b:2", "c:3"].map(str::to_owned);
        let choices = |is_up: &dyn Fn(usize) -> bool| {
            let keys = ["k1", "k2", "k3", "k4", "k5", "k6"];
            keys.map(|key| server_of(key, &servers, is_up).unwrap())
        };
        assert_eq!(choices(&|_| true), [1, 0, 2, 2, 0, 1]);
        assert_eq!(choices(&|index| index != 1), [0, 0, 2, 2, 0, 0]);
    }
}
