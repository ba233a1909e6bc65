//! The routing of pymemcache's `HashClient`: its `RendezvousHash` over `murmur3_32`.

use std::cmp::Reverse;

use super::server_spec::ServerSpec;

/// Each server's name, and the hash state after `name-`.
pub(super) struct Pymemcache {
    servers: Vec<(String, Murmur3)>,
}

impl Pymemcache {
    pub(super) fn new(servers: &[ServerSpec]) -> Self {
        let servers = servers.iter().map(|server| {
            let name = name(&server.name);
            let mut hash = Murmur3::default();
            hash.write(&name);
            hash.write("-");
            (name, hash)
        });
        Self {
            servers: servers.collect(),
        }
    }

    pub(super) fn pick(&self, key: &str, is_up: &dyn Fn(usize) -> bool) -> Option<usize> {
        let servers = self.servers.iter().enumerate();
        let up = servers.filter(|&(position, _)| is_up(position));
        let best = up.max_by_key(|(position, (name, hash))| {
            let mut hash = hash.clone();
            hash.write(key);
            // The name breaks a tie. A name listed twice is one server.
            (hash.finish(), name, Reverse(*position))
        });
        best.map(|(position, _)| position)
    }
}

/// pymemcache's name of the server: a path without `unix:`, an IPv6 address without brackets.
fn name(name: &str) -> String {
    let name = name.strip_prefix("unix:").unwrap_or(name);
    name.replacen('[', "", 1).replacen(']', "", 1)
}

/// `MurmurHash3`, x86, 32 bits, seed 0, of a text in parts. As in pymemcache it hashes the low eight
/// bits of each character: for ASCII that is the text.
#[derive(Clone, Default)]
struct Murmur3 {
    hash: u32,
    /// The characters of an incomplete block.
    block: u32,
    len: u32,
}

impl Murmur3 {
    fn write(&mut self, text: &str) {
        for character in text.chars() {
            self.block |= (u32::from(character) & 0xff) << (8 * (self.len % 4));
            self.len = self.len.wrapping_add(1);
            if self.len.is_multiple_of(4) {
                let hash = (self.hash ^ scramble(self.block)).rotate_left(13);
                self.hash = hash.wrapping_mul(5).wrapping_add(0xe654_6b64);
                self.block = 0;
            }
        }
    }

    fn finish(&self) -> u32 {
        let mut hash = self.hash ^ scramble(self.block) ^ self.len;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }
}

fn scramble(block: u32) -> u32 {
    let block = block.wrapping_mul(0xcc9e_2d51).rotate_left(15);
    block.wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::super::tests::agrees_with;
    use super::*;

    #[test]
    fn the_hash_matches_the_reference_implementation() {
        let murmur3 = |text: &str| {
            let mut hash = Murmur3::default();
            hash.write(text);
            hash.finish()
        };
        assert_eq!(murmur3(""), 0);
        assert_eq!(murmur3("aaaa"), 0x7eee_d987);
        assert_eq!(murmur3("hello, world"), 0x149b_bb7f);
        assert_eq!(
            murmur3("The quick brown fox jumps over the lazy dog"),
            0x2e4f_f723
        );
    }

    #[test]
    fn chooses_like_pymemcache() {
        let vectors = include_str!("../../tests/data/pymemcache-routing.tsv");
        let n = agrees_with(vectors, |servers| {
            let router = Pymemcache::new(servers);
            move |key, is_up| router.pick(key, is_up)
        });
        assert_eq!(n, 480);
    }
}
