//! Which server keeps which key.

use std::fmt;
use std::sync::Arc;

use crate::Routing;

/// A choice of one's own: see [`routing_with`](crate::MemcachePoolBuilder::routing_with).
pub(crate) type Choose = dyn Fn(&str, &dyn Fn(usize) -> bool) -> Option<usize> + Send + Sync;

/// Chooses a server for a key.
pub(crate) enum Router {
    /// There is but one.
    Single,
    /// The hash of each server's name.
    Rendezvous(Vec<u64>),
    /// How many servers there are.
    PythonMemcached(usize),
    Own(Arc<Choose>),
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "Single",
            Self::Rendezvous(_) => "Rendezvous",
            Self::PythonMemcached(_) => "PythonMemcached",
            Self::Own(_) => "Own",
        })
    }
}

impl Router {
    pub(crate) fn new(routing: Routing, names: &[String]) -> Self {
        match routing {
            _ if names.len() == 1 => Self::Single,
            Routing::Rendezvous => {
                Self::Rendezvous(names.iter().map(|name| fnv1a(name.as_bytes())).collect())
            }
            Routing::PythonMemcached => Self::PythonMemcached(names.len()),
        }
    }

    /// No server for any key.
    pub(crate) fn none() -> Self {
        Self::Own(Arc::new(|_, _| None))
    }

    /// The server for `key` among those that are up; `None` if there is none.
    pub(crate) fn choose(&self, key: &str, is_up: &dyn Fn(usize) -> bool) -> Option<usize> {
        match self {
            Self::Single => Some(0).filter(|&only| is_up(only)),
            Self::Rendezvous(servers) => {
                let key = fnv1a(key.as_bytes());
                let scores = servers.iter().enumerate();
                scores
                    .filter(|&(index, _)| is_up(index))
                    // The index breaks a tie, so that every process breaks it alike.
                    .max_by_key(|&(index, server)| (mix(key ^ server), index))
                    .map(|(index, _)| index)
            }
            Self::PythonMemcached(servers) => python_memcached(key, *servers, is_up),
            Self::Own(choose) => choose(key, is_up),
        }
    }
}

/// `Client._get_server` of python-memcached.
fn python_memcached(key: &str, servers: usize, is_up: &dyn Fn(usize) -> bool) -> Option<usize> {
    /// `Client._SERVER_RETRIES`
    const TRIES: u32 = 10;
    let mut hash = python_hash(key.as_bytes());
    for attempt in 0..TRIES {
        let server = hash as usize % servers;
        if is_up(server) {
            return Some(server);
        }
        hash = python_hash(format!("{hash}{attempt}").as_bytes());
    }
    None
}

/// `cmemcache_hash` of python-memcached.
fn python_hash(bytes: &[u8]) -> u32 {
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

/// FNV-1a: the same in every process and every release, which matters more here than speed.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finaliser of splitmix64: spreads a difference in any bit over all of them.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("10.0.0.{i}:11211")).collect()
    }

    #[test]
    fn the_hash_is_zlibs() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"123456789"), 3_421_780_262);
        assert_eq!(python_hash("ключ".as_bytes()), 3247);
    }

    #[test]
    fn rendezvous_spreads_keys_evenly_and_moves_few() {
        let router = Router::new(Routing::Rendezvous, &names(5));
        let mut counts = [0; 5];
        for i in 0..10_000 {
            let key = format!("user:{i}");
            let first = router.choose(&key, &|_| true).unwrap();
            counts[first] += 1;
            for down in 0..5 {
                let server = router.choose(&key, &|server| server != down).unwrap();
                assert_eq!(server == first, down != first, "only keys of {down} move");
            }
        }
        for count in counts {
            assert!((1800..2200).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn rendezvous_does_not_mind_the_order_of_the_list() {
        let (names, mut reversed) = (names(4), names(4));
        reversed.reverse();
        let one = Router::new(Routing::Rendezvous, &names);
        let other = Router::new(Routing::Rendezvous, &reversed);
        for i in 0..1000 {
            let key = i.to_string();
            let chosen = one.choose(&key, &|_| true).map(|server| &names[server]);
            let there = other
                .choose(&key, &|_| true)
                .map(|server| &reversed[server]);
            assert_eq!(chosen, there);
        }
    }

    #[test]
    fn rendezvous_never_changes_between_releases() {
        let router = Router::new(Routing::Rendezvous, &names(5));
        let chosen: Vec<_> = ["a", "b", "c", "user:42", "ключ"]
            .map(|key| router.choose(key, &|_| true).unwrap())
            .into();
        assert_eq!(chosen, [1, 4, 0, 1, 3]);
    }

    #[test]
    fn nobody_is_chosen_when_all_are_down() {
        for routing in [Routing::Rendezvous, Routing::PythonMemcached] {
            for n in [1, 3] {
                let router = Router::new(routing, &names(n));
                assert_eq!(router.choose("k", &|_| false), None);
            }
        }
    }

    /// What python-memcached 1.62 chose, for one to eight servers of which some are dead.
    #[test]
    fn python_memcached_chooses_alike() {
        const VECTORS: &str = include_str!("../../tests/data/python-memcached-routing.json");
        // Read without a JSON crate: the file has no escapes, and no braces but its own.
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
            let servers = number(field("servers")).unwrap();
            let (dead, _) = field("dead")[1..].split_once(']').unwrap();
            let dead: Vec<usize> = dead.split(',').filter_map(|s| number(s.trim())).collect();
            let (key, _) = field("key")[1..].split_once('"').unwrap();
            let chosen = python_memcached(key, servers, &|server| !dead.contains(&server));
            assert_eq!(chosen, number(field("server")), "{case}");
            n += 1;
        }
        assert_eq!(n, 1080);
    }
}
