//! The decisions of the backend against a model of an etcd cluster, in simulated time.
//!
//! Everything derives from one seed: calls, responses, their timing, and faults. The code that does
//! I/O is modeled here, event by event, since the real one needs sockets. Each history is checked:
//! no acknowledged write is lost or undone, each call ends in time, and calls succeed once all
//! faults are over. Planted [`Bug`]s prove that the checks work.
//!
//! `CACHE_ETCD3_HISTORIES` is the number of histories; `CACHE_ETCD3_SEED` is the first seed.

mod bug;
mod cluster;
mod judge;
mod random;
mod world;

use std::collections::BTreeMap;

use bug::{BUGS, Bug};
use world::World;

/// The problems found in the history of a seed.
fn run(seed: u64, bug: Option<Bug>) -> Vec<String> {
    let mut world = World::new(seed, bug);
    world.run();
    judge::judge(&world)
}

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |given| given.parse().expect("a number"))
}

#[test]
fn histories_keep_all_promises() {
    let first = number("CACHE_ETCD3_SEED", 1);
    for seed in first..first + number("CACHE_ETCD3_HISTORIES", 60) {
        let wrong = run(seed, None);
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let events = |seed| {
        let mut world = World::new(seed, None);
        world.run();
        world.trace()
    };
    assert_eq!(events(7), events(7));
    assert_ne!(events(7), events(8));
}

#[test]
fn planted_bugs_are_found() {
    const ENOUGH: u64 = 1000;
    let mut found = BTreeMap::new();
    let mut missed = Vec::new();
    for bug in BUGS {
        match (1..=ENOUGH).find(|seed| !run(*seed, Some(bug)).is_empty()) {
            Some(seed) => drop(found.insert(bug, seed)),
            None => missed.push(bug),
        }
    }
    println!("found, each by the history of that seed: {found:?}");
    assert!(missed.is_empty(), "not found: {missed:?}");
}
