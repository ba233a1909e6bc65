//! Ketama as in libmemcached with `MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED`: 160 points per server on a
//! circle of 2^32 places, scaled by its weight; a key belongs to the next point.

use super::md5::md5;
use super::server_spec::ServerSpec;

/// Each digest of MD5 gives four points.
const DIGESTS: f32 = 40.0;

pub(super) struct Ketama {
    /// Place and server, in this order.
    points: Vec<(u32, u32)>,
}

impl Ketama {
    pub(super) fn new(servers: &[ServerSpec]) -> Self {
        let total: u64 = servers.iter().map(|server| u64::from(server.weight)).sum();
        let mut points = Vec::new();
        for (position, server) in (0..).zip(servers) {
            let name = name(&server.name);
            for i in 0..digests(server.weight, total, servers.len()) {
                let places = md5(format!("{name}-{i}").as_bytes());
                points.extend(places.map(|place| (place, position)));
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// Servers that are down are skipped, as if libmemcached had ejected them.
    pub(super) fn pick(&self, key: &str, is_up: &dyn Fn(usize) -> bool) -> Option<usize> {
        let [place, ..] = md5(key.as_bytes());
        let next = self.points.partition_point(|&(point, _)| point < place);
        let (before, after) = self.points.split_at_checked(next)?;
        let around = after.iter().chain(before);
        let mut servers = around.map(|&(_, server)| server as usize);
        servers.find(|&server| is_up(server))
    }
}

/// How many digests a server has by its weight. libmemcached computes this in single precision, so
/// this must round in the same way.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn digests(weight: u32, total: u64, servers: usize) -> u32 {
    let share = weight as f32 / total as f32;
    // In this order: (share * 160 / 4) * servers + 1e-10
    (share * (4.0 * DIGESTS) / 4.0 * servers as f32 + 1e-10).floor() as u32
}

/// The name that libmemcached hashes: with the port only if it is not the default, a socket path
/// with port 0, an IPv6 address without brackets.
fn name(name: &str) -> String {
    if let Some(path) = name.strip_prefix("unix:") {
        return format!("{path}:0");
    }
    let name = name.strip_suffix(":11211").unwrap_or(name);
    name.replacen('[', "", 1).replacen(']', "", 1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::agrees_with;
    use super::*;

    #[test]
    fn chooses_like_libmemcached() {
        let vectors = include_str!("../../tests/data/ketama-routing.tsv");
        let n = agrees_with(vectors, |servers| {
            let router = Ketama::new(servers);
            move |key, is_up| router.pick(key, is_up)
        });
        assert_eq!(n, 912);
    }
}
