//! The routing of python-memcached: `Client._get_server` with its hash `cmemcache_hash`.

use super::server_spec::ServerSpec;

/// `Client._SERVER_RETRIES`
const TRIES: u32 = 10;

/// Each server as often as its weight. A server that is listed twice has two independent entries.
pub(super) struct PythonMemcached {
    buckets: Vec<usize>,
}

impl PythonMemcached {
    pub(super) fn new(servers: &[ServerSpec]) -> Self {
        let servers = servers.iter().enumerate();
        let buckets =
            servers.flat_map(|(position, server)| (0..server.weight).map(move |_| position));
        Self {
            buckets: buckets.collect(),
        }
    }

    pub(super) fn pick(&self, key: &str, is_up: &dyn Fn(usize) -> bool) -> Option<usize> {
        let mut hash = hash(key.as_bytes());
        for attempt in 0..TRIES {
            let bucket = (hash as usize).checked_rem(self.buckets.len())?;
            let server = self.buckets.get(bucket).copied()?;
            if is_up(server) {
                return Some(server);
            }
            hash = self::hash(format!("{hash}{attempt}").as_bytes());
        }
        None
    }
}

fn hash(bytes: &[u8]) -> u32 {
    (crc32(bytes) >> 16) & 0x7fff
}

/// The CRC-32 of zlib, by half-bytes: keys are short.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = [
        0x0000_0000,
        0x1db7_1064,
        0x3b6e_20c8,
        0x26d9_30ac,
        0x76dc_4190,
        0x6b6b_51f4,
        0x4db2_6158,
        0x5005_713c,
        0xedb8_8320,
        0xf00f_9344,
        0xd6d6_a3e8,
        0xcb61_b38c,
        0x9b64_c2b0,
        0x86d3_d2d4,
        0xa00a_e278,
        0xbdbd_f21c,
    ];
    let step = |crc: u32| (crc >> 4) ^ TABLE.get((crc & 15) as usize).copied().unwrap_or(0);
    !bytes
        .iter()
        .fold(!0_u32, |crc, &byte| step(step(crc ^ u32::from(byte))))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{agrees_with, servers};
    use super::*;

    #[test]
    fn the_hash_matches_zlib() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"123456789"), 3_421_780_262);
        assert_eq!(hash("ключ".as_bytes()), 3247);
    }

    #[test]
    fn chooses_like_python_memcached_by_weight_and_with_a_server_listed_twice() {
        let vectors = include_str!("../../tests/data/python-memcached-weights.tsv");
        let n = agrees_with(vectors, |servers| {
            let router = PythonMemcached::new(servers);
            move |key, is_up| router.pick(key, is_up)
        });
        assert_eq!(n, 624);
    }

    /// What python-memcached 1.62 chose, for one to eight servers, some of which are dead.
    #[test]
    fn chooses_like_python_memcached() {
        const VECTORS: &str = include_str!("../../tests/data/python-memcached-routing.json");
        // Parsed without a JSON crate: no string in the file contains escapes or braces.
        let (_, cases) = VECTORS.split_once("\"cases\"").unwrap();
        let mut n = 0;
        for case in cases.split('{').skip(1) {
            let field = |name: &str| {
                let (_, value) = case.split_once(&format!("\"{name}\":")).unwrap();
                value.trim()
            };
            let number = |text: &str| -> Option<usize> {
                let digits = text.chars().take_while(char::is_ascii_digit);
                digits.collect::<String>().parse().ok()
            };
            let router = PythonMemcached::new(&servers(number(field("servers")).unwrap()));
            let (dead, _) = field("dead")[1..].split_once(']').unwrap();
            let dead: Vec<usize> = dead.split(',').filter_map(|s| number(s.trim())).collect();
            let (key, _) = field("key")[1..].split_once('"').unwrap();
            let chosen = router.pick(key, &|server| !dead.contains(&server));
            assert_eq!(chosen, number(field("server")), "{case}");
            n += 1;
        }
        assert_eq!(n, 1080);
    }
}
