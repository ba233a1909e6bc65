//! The default routing: consistent hashing by many probes, each on its own circle.
//!
//! There are [`RINGS`] circles of 2^32 places. A server has a point on each for each unit of its
//! weight, a key has a place on each, and the key belongs to the server that is nearest to it on any
//! of them: the one with the shortest of all distances. Points and places are outputs of
//! [`SplitMix64`], seeded with the [`xxh64`] of the server's name or of the key.
//!
//! Properties:
//! - A distance depends only on the key and one server. So an added server takes keys, a removed
//!   server leaves keys, and no other key moves: the property of rendezvous hashing.
//! - Only the names matter, not their order.
//! - With one circle, a server close behind another would get few keys, and would inherit all keys
//!   of its neighbor. With many circles, neighbors differ from circle to circle: shares differ by
//!   less than 3 % (standard deviation), and the keys of a removed server spread over all others.
//! - The cost is that of [`RINGS`] lookups, regardless of the number of servers; with a few servers
//!   it is cheaper still to compare a key with all of them.
//!
//! Compared by measurement at 5,000 servers: rendezvous hashing itself takes 9 µs; a table of 65,536
//! slots filled by rendezvous 8 ns, but shares differ by 28 %; Maglev moves 2.5 times as many keys
//! as needed when 1 % of the servers leave; jump hashing uses positions instead of names; a single
//! circle with 160 points a server has shares that differ by 8 %, with 21 probes by 14 %.
//!
//! **This must not change**: all processes of all releases have to agree on the server of a key.

use super::server_spec::ServerSpec;
use super::xxh64::xxh64;

/// More rings make shares more even and routing slower: 16 give 3.3 %, 32 give 1.7 %.
const RINGS: usize = 20;

/// With at most this many points on a ring, a key is compared with all of them, without lookups.
const FEW: usize = 16;

pub(super) struct Consistent {
    rings: Vec<Ring>,
    servers: usize,
    /// The points of one unit of weight, one on each ring, and their server; empty if there are
    /// more than [`FEW`].
    few: Vec<([u32; RINGS], usize)>,
}

impl Consistent {
    pub(super) fn new(servers: &[ServerSpec]) -> Self {
        let mut rings = vec![Vec::new(); RINGS];
        let mut few = Vec::new();
        for ((position, at), server) in (0..).zip(0..).zip(servers) {
            let mut random = random(&server.name);
            for _ in 0..server.weight {
                let places = places(&mut random);
                for (ring, place) in rings.iter_mut().zip(places) {
                    ring.push((place, position));
                }
                if few.len() <= FEW {
                    few.push((places, at));
                }
            }
        }
        if few.len() > FEW {
            few = Vec::new();
        }
        // Names decide, not positions, even between two points at the same place.
        let hashes: Vec<u64> = servers
            .iter()
            .map(|server| xxh64(server.name.as_bytes()))
            .collect();
        let rank = |position: u32| (hashes.get(position as usize), position);
        for ring in &mut rings {
            ring.sort_unstable_by_key(|&(place, position)| (place, rank(position)));
        }
        Self {
            rings: rings.iter().map(|points| Ring::new(points)).collect(),
            servers: servers.len(),
            few,
        }
    }

    pub(super) fn pick(&self, key: &str, is_up: &dyn Fn(usize) -> bool) -> Option<usize> {
        let places = places(&mut random(key));
        let server = match self.first_of_few(&places) {
            Some(server) => server,
            None => self.first(&places)?,
        };
        if is_up(server) {
            return Some(server);
        }
        self.pick_among(&places, is_up)
    }

    /// The first choice if there are few servers; `None` also if two are at the same distance.
    fn first_of_few(&self, places: &[u32; RINGS]) -> Option<usize> {
        // Compared by the negative of the distance, which the signed half of the range can hold:
        // that is vectorized well.
        let mut closest = i32::MIN;
        let mut first = None;
        for (points, server) in &self.few {
            let closeness = points.iter().zip(places).map(|(point, place)| {
                let way = point.wrapping_sub(*place).cast_signed();
                way.min(way.wrapping_neg())
            });
            let closeness = closeness.fold(i32::MIN, i32::max);
            if closeness > closest {
                closest = closeness;
                first = Some(*server);
            } else if closeness == closest {
                first = None;
            }
        }
        first
    }

    /// The first choice, by one lookup in each ring.
    fn first(&self, places: &[u32; RINGS]) -> Option<usize> {
        let mut shortest = u32::MAX;
        let mut nearest = None;
        for (ring, &place) in self.rings.iter().zip(places) {
            let distance = ring.distance(place);
            if distance < shortest {
                shortest = distance;
                nearest = Some((ring, place));
            }
        }
        let (ring, place) = nearest?;
        let (_, server) = ring.nearest(place, &|_| true)?;
        Some(server)
    }

    /// The slow path, when the first choice is down.
    fn pick_among(&self, places: &[u32; RINGS], is_up: &dyn Fn(usize) -> bool) -> Option<usize> {
        // Without this each ring would be searched to its end.
        if !(0..self.servers).any(is_up) {
            return None;
        }
        let rings = self.rings.iter().zip(places);
        let candidates = rings.filter_map(|(ring, &place)| ring.nearest(place, is_up));
        let (_, server) = candidates.min_by_key(|&(distance, _)| distance)?;
        Some(server)
    }
}

/// The generator of the places of a text.
fn random(text: &str) -> SplitMix64 {
    SplitMix64(xxh64(text.as_bytes()))
}

/// The next place on each ring: the upper half of each output, then the lower one.
#[inline]
fn places(random: &mut SplitMix64) -> [u32; RINGS] {
    let mut places = [0; RINGS];
    for (pair, random) in places.as_chunks_mut::<2>().0.iter_mut().zip(random) {
        #[allow(clippy::cast_possible_truncation)] // Wanted.
        let halves = [(random >> 32) as u32, random as u32];
        *pair = halves;
    }
    places
}

/// Sebastiano Vigna's generator.
struct SplitMix64(u64);

impl Iterator for SplitMix64 {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(x ^ (x >> 31))
    }
}

/// One circle.
struct Ring {
    /// In order around the circle: the last one, all, and again the first ones.
    points: Vec<u32>,
    /// The server of each point, without the repetitions.
    servers: Vec<u32>,
    /// The circle in equal parts, a few for each two points. How many points are before each part,
    /// and before the end.
    before: Vec<u32>,
}

/// How many points are compared together: the one before a part, two in it, and the one after it.
const WINDOW: usize = 4;

impl Ring {
    fn new(points: &[(u32, u32)]) -> Self {
        let places = points.iter().map(|&(place, _)| place);
        let parts = points.len() + points.len() / 2 + 1;
        let mut before = vec![0; parts + 1];
        for place in places.clone() {
            if let Some(count) = before.get_mut(part(place, parts) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for count in &mut before {
            sum += *count;
            *count = sum;
        }
        Self {
            points: places
                .clone()
                .next_back()
                .into_iter()
                .chain(places.clone())
                .chain(places.cycle().take(WINDOW - 1))
                .collect(),
            servers: points.iter().map(|&(_, server)| server).collect(),
            before,
        }
    }

    /// Between `place` and the nearest point.
    #[inline]
    fn distance(&self, place: u32) -> u32 {
        let part = part(place, self.before.len() - 1);
        let Some(&[from, to]) = self.before.get(part..part + 2) else {
            return u32::MAX;
        };
        let (from, to) = (from as usize, to as usize);
        if to - from > WINDOW - 2 {
            let points = self.points.get(from..to + 2).unwrap_or_default();
            let distances = points.iter().map(|&point| distance(point, place));
            return distances.min().unwrap_or(u32::MAX);
        }
        let Some(&[a, b, c, d]) = self.points.get(from..from + WINDOW) else {
            return u32::MAX;
        };
        let [a, b, c, d] = [a, b, c, d].map(|point| distance(point, place));
        a.min(b).min(c.min(d))
    }

    /// The nearest server among those that are up, and its distance. Of two at the same distance
    /// it is the one after `place`.
    fn nearest(&self, place: u32, is_up: &dyn Fn(usize) -> bool) -> Option<(u32, usize)> {
        let part = part(place, self.before.len() - 1);
        let points = self.points.get(1..=self.servers.len())?;
        let from = self.before.get(part).copied()? as usize;
        let more = points
            .get(from..)?
            .iter()
            .take_while(|&&point| point < place);
        let next = from + more.count();

        let (before, after) = self.servers.split_at_checked(next)?;
        let (points_before, points_after) = points.split_at_checked(next)?;
        let first_up = |servers: &mut dyn Iterator<Item = (&u32, &u32)>| {
            let mut found =
                servers.map(|(&point, &server)| (distance(point, place), server as usize));
            found.find(|&(_, server)| is_up(server))
        };
        let before = points_before.iter().zip(before);
        let after = points_after.iter().zip(after);
        let clockwise = first_up(&mut after.clone().chain(before.clone()))?;
        let counterclockwise = first_up(&mut before.rev().chain(after.rev()))?;
        Some(if counterclockwise.0 < clockwise.0 {
            counterclockwise
        } else {
            clockwise
        })
    }
}

/// The part that contains a place, if the circle is divided into `parts` equal parts.
#[inline]
fn part(place: u32, parts: usize) -> usize {
    #[allow(clippy::cast_possible_truncation)] // It is less than `parts`.
    let part = ((u64::from(place) * parts as u64) >> 32) as usize;
    part
}

/// The shorter distance around the circle.
#[inline]
fn distance(point: u32, place: u32) -> u32 {
    point.wrapping_sub(place).cast_signed().unsigned_abs()
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)] // Of counts, which are small.
mod tests;
