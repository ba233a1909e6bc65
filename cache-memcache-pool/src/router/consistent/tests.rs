use std::collections::HashSet;

use proptest::prelude::*;

use super::super::tests::servers;
use super::*;

const UP: &dyn Fn(usize) -> bool = &|_| true;

fn keys(n: usize) -> impl Iterator<Item = String> {
    (0..n).map(|i| format!("user:{i}"))
}

fn named(names: &[String]) -> Vec<ServerSpec> {
    let specs = names.iter().map(|name| ServerSpec {
        name: name.clone(),
        weight: 1,
    });
    specs.collect()
}

/// How many of `n` keys each server gets.
fn shares(servers: &[ServerSpec], n: usize) -> Vec<usize> {
    let router = Consistent::new(servers);
    let mut shares = vec![0; servers.len()];
    for key in keys(n) {
        shares[router.pick(&key, UP).unwrap()] += 1;
    }
    shares
}

/// The distance of a server from a key on each ring, directly from the definition.
fn distances(server: &ServerSpec, key: &str) -> Vec<u32> {
    let mut generator = random(&server.name);
    let points: Vec<_> = (0..server.weight).map(|_| places(&mut generator)).collect();
    let shortest = places(&mut random(key)).into_iter().enumerate();
    let shortest = shortest.map(|(ring, place)| {
        let on_ring = points.iter().map(|points| points[ring]);
        on_ring.map(|point| distance(point, place)).min().unwrap()
    });
    shortest.collect()
}

/// The servers of some keys, as computed from the definition by a program in another language.
#[test]
fn never_changes_between_releases() {
    let five = Consistent::new(&servers(5));
    let chosen = ["a", "b", "c", "user:42", "ключ", "", &"x".repeat(250)];
    let chosen = chosen.map(|key| five.pick(key, UP).unwrap());
    assert_eq!(chosen, [1, 3, 1, 2, 4, 3, 1]);
    let many = Consistent::new(&servers(5000));
    let chosen = ["a", "b", "c", "user:42", "ключ"].map(|key| many.pick(key, UP).unwrap());
    assert_eq!(chosen, [2580, 683, 4068, 1718, 2774]);
    let sum = keys(10_000).fold(0_u64, |sum, key| {
        sum.wrapping_mul(31)
            .wrapping_add(five.pick(&key, UP).unwrap() as u64)
    });
    assert_eq!(sum, 15_318_165_239_440_917_604);
}

#[test]
fn shares_are_even() {
    for (n, bounds) in [
        (2, 0.94..1.06),
        (3, 0.94..1.06),
        (10, 0.92..1.08),
        (1000, 0.75..1.25),
    ] {
        let each = if n < 100 { 10_000 } else { 500 };
        for share in shares(&servers(n), each * n) {
            let share = share as f64 / each as f64;
            assert!(bounds.contains(&share), "{n} servers: {share}");
        }
    }
}

/// The spread of shares, independent of the keys.
#[test]
fn shares_of_a_thousand_servers_differ_by_three_percent() {
    let (n, each) = (1000, 500);
    let shares = shares(&servers(n), each * n);
    let squares = shares.iter().map(|&share| {
        let off = share as f64 / each as f64 - 1.0;
        off * off
    });
    let variance = squares.sum::<f64>() / n as f64 - 1.0 / each as f64;
    assert!(variance.sqrt() < 0.031, "{}", variance.sqrt());
}

#[test]
fn shares_follow_the_weights() {
    for weights in [
        vec![1, 2, 3],
        vec![1, 9],
        vec![10, 10, 20],
        vec![1, 1, 1, 100],
    ] {
        let mut servers = servers(weights.len());
        for (server, &weight) in servers.iter_mut().zip(&weights) {
            server.weight = weight;
        }
        let total: u32 = weights.iter().sum();
        let n = 100_000;
        for (share, &weight) in shares(&servers, n).into_iter().zip(&weights) {
            let relative = share as f64 / (n as f64 * f64::from(weight) / f64::from(total));
            assert!((0.85..1.15).contains(&relative), "{weights:?}: {relative}");
        }
    }
}

#[test]
fn a_larger_weight_takes_keys_and_moves_no_others() {
    let before = servers(10);
    let mut after = before.clone();
    after[3].weight = 3;
    let (before, after) = (Consistent::new(&before), Consistent::new(&after));
    let mut moved = 0;
    for key in keys(10_000) {
        let (from, to) = (before.pick(&key, UP), after.pick(&key, UP));
        if from != to {
            assert_eq!(to, Some(3));
            moved += 1;
        }
    }
    // From a tenth to a quarter.
    assert!((1300..1700).contains(&moved), "{moved}");
}

#[test]
fn the_keys_of_a_down_server_spread_over_all_others() {
    let n = 50;
    let router = Consistent::new(&servers(n));
    for down in 0..5 {
        let mut shares = vec![0; n];
        let mut all = 0;
        for key in keys(50_000) {
            if router.pick(&key, UP) == Some(down) {
                shares[router.pick(&key, &|server| server != down).unwrap()] += 1;
                all += 1;
            }
        }
        let even = f64::from(all) / (n - 1) as f64;
        for (server, &share) in shares
            .iter()
            .enumerate()
            .filter(|&(server, _)| server != down)
        {
            let relative = f64::from(share) / even;
            assert!(
                (0.2..4.0).contains(&relative),
                "{down} to {server}: {relative}"
            );
        }
    }
}

/// A farm of 1,000 servers, 1 % of which are replaced per second for half a minute: only the keys
/// of added and removed servers move.
#[test]
fn churn_moves_only_necessary_keys() {
    let mut farm: Vec<String> = (0..1000).map(|i| format!("server-{i}:11211")).collect();
    let mut router = Consistent::new(&named(&farm));
    let keys: Vec<String> = keys(1_000).collect();
    let mut at: Vec<String> = keys
        .iter()
        .map(|key| farm[router.pick(key, UP).unwrap()].clone())
        .collect();
    let mut moved = 0;
    for second in 0..30 {
        let mut gone = HashSet::new();
        let mut came = HashSet::new();
        for i in 0..10 {
            let at = (second * 37 + i * 101) % farm.len();
            gone.insert(farm.swap_remove(at));
            let name = format!("server-{}:11211", 1000 + second * 10 + i);
            came.insert(name.clone());
            farm.push(name);
        }
        router = Consistent::new(&named(&farm));
        for (key, at) in keys.iter().zip(&mut at) {
            let now = &farm[router.pick(key, UP).unwrap()];
            if now != at {
                assert!(
                    gone.contains(at) || came.contains(now),
                    "{key}: {at} to {now}"
                );
                now.clone_into(at);
                moved += 1;
            }
        }
    }
    // Per second, the keys of ten removed and of ten added servers.
    let ideal = 30 * keys.len() * 20 / 1000;
    assert!(
        moved * 10 <= ideal * 11,
        "{moved} moved, where {ideal} would be ideal"
    );
}

#[test]
fn a_server_listed_twice_counts_once() {
    let mut twice = servers(3);
    twice.push(twice[0].clone());
    let (once, twice) = (Consistent::new(&servers(3)), Consistent::new(&twice));
    for key in keys(1_000) {
        let server = twice.pick(&key, UP).map(|server| server % 3);
        assert_eq!(server, once.pick(&key, UP));
    }
}

fn farm() -> impl Strategy<Value = Vec<ServerSpec>> {
    let server = (0..2000_u32, 1..4_u32).prop_map(|(i, weight)| ServerSpec {
        name: format!("cache-{i}.example:11211"),
        weight,
    });
    prop::collection::vec(server, 1..60).prop_map(|mut servers| {
        let mut names = HashSet::new();
        servers.retain(|server| names.insert(server.name.clone()));
        servers
    })
}

proptest! {
    /// The rings are a fast implementation of the definition.
    #[test]
    fn chooses_the_nearest(servers in farm(), key in ".{0,40}") {
        let picked = Consistent::new(&servers).pick(&key, UP).unwrap();
        let nearest = |server| distances(server, &key).into_iter().min().unwrap();
        let shortest = servers.iter().map(nearest).min().unwrap();
        prop_assert_eq!(nearest(&servers[picked]), shortest);
    }

    /// A server that is down is treated as if it were not listed, so its keys do not move when it
    /// is removed.
    #[test]
    fn down_is_the_same_as_removed(
        servers in farm(),
        down in prop::collection::hash_set(0..60_usize, 0..60),
        keys in prop::collection::vec("[a-z]{1,8}", 1..20),
    ) {
        let left: Vec<usize> = (0..servers.len()).filter(|i| !down.contains(i)).collect();
        let fewer: Vec<ServerSpec> = left.iter().map(|&i| servers[i].clone()).collect();
        let (all, fewer) = (Consistent::new(&servers), Consistent::new(&fewer));
        for key in keys {
            let picked = all.pick(&key, &|server| !down.contains(&server));
            prop_assert_eq!(picked, fewer.pick(&key, UP).map(|i| left[i]));
        }
    }

    /// Removing a server moves only its keys, and adding one moves keys only to it.
    #[test]
    fn only_keys_of_the_removed_server_move(
        servers in farm(),
        index in any::<prop::sample::Index>(),
        keys in prop::collection::vec(".{1,20}", 1..50),
    ) {
        prop_assume!(servers.len() > 1);
        let gone = index.index(servers.len());
        let mut fewer = servers.clone();
        fewer.remove(gone);
        let (all, fewer) = (Consistent::new(&servers), Consistent::new(&fewer));
        for key in keys {
            let before = all.pick(&key, UP).unwrap();
            let after = fewer.pick(&key, UP).unwrap();
            let after = if after < gone { after } else { after + 1 };
            prop_assert!(before == gone || before == after, "{} moved", key);
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        servers in farm(),
        shuffled in any::<prop::sample::Index>(),
        keys in prop::collection::vec(".{1,20}", 1..50),
    ) {
        let mut turned = servers.clone();
        turned.rotate_left(shuffled.index(servers.len()));
        turned.reverse();
        let (one, other) = (Consistent::new(&servers), Consistent::new(&turned));
        for key in keys {
            let here = one.pick(&key, UP).map(|i| &servers[i].name);
            let there = other.pick(&key, UP).map(|i| &turned[i].name);
            prop_assert_eq!(here, there);
        }
    }
}

/// Both ways to find the first choice agree, with weights and at the limit between them.
#[test]
fn short_and_long_lists_choose_alike() {
    for n in [1, 2, 3, FEW - 2, FEW - 1, FEW] {
        let mut servers = servers(n);
        servers[n / 2].weight = 2;
        let router = Consistent::new(&servers);
        assert_eq!(router.few.len(), if n < FEW { n + 1 } else { 0 });
        for key in keys(10_000) {
            let places = places(&mut random(&key));
            let first = router.first(&places);
            assert_eq!(router.pick(&key, UP), first);
            if n < FEW {
                assert_eq!(router.first_of_few(&places), first);
            }
        }
    }
}

#[test]
fn ties_are_decided_by_the_definition() {
    let mut router = Consistent::new(&servers(3));
    let (points, _) = router.few[0];
    router.few.push((points, 1));
    assert_eq!(router.first_of_few(&points), None);
    assert_eq!(router.pick(&servers(1)[0].name, UP), Some(0));
}
