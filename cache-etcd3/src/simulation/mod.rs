//! The decisions of the backend against a model of an etcd cluster, in simulated time.
//!
//! Everything comes from one seed: what callers do, what the members answer and when, and what
//! happens to them. The shell around the decisions is rebuilt here, event by event, since the
//! real one needs sockets. Each history is judged: nothing that was acknowledged is lost or
//! undone, each call ends in its time, and once all faults are over there is service. [`Bug`]s
//! that are planted prove that the judge can see.
//!
//! `CACHE_ETCD3_HISTORIES` is how many histories are run; `CACHE_ETCD3_SEED` is the first.

mod cluster;
mod judge;
mod random;
mod world;

use std::collections::BTreeMap;

use world::World;

/// Something that is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bug {
    /// Writes carry no revision.
    NoRevision,
    /// A write that was refused because its key has moved on is taken to be applied.
    MovedOnIsApplied,
    /// A delete leaves nothing behind, even if a set of the key may arrive late.
    NoTombstone,
    /// A caller that goes away withdraws nothing.
    NotWithdrawn,
    /// What was sent for callers that have gone goes on to be repeated.
    RepeatedForNobody,
    /// A round that is over makes no room.
    RoundNotFinished,
    /// The life of a lease counts from the answer.
    LeaseCountsFromAnswer,
    /// The lease is one of a class that is too short.
    ClassTooShort,
    /// A lease that is lost is not forgotten.
    LostLeaseKept,
    /// Leases are revoked while their values live.
    RevokedEarly,
    /// The breaker does not hear of answers.
    AnswersNotTold,
    /// The breaker does not hear of faults.
    FaultsNotTold,
    /// The breaker does not hear of callers that gave up.
    GivenUpNotTold,
    /// A call that had little time left counts as a verdict.
    ShortTimeIsFault,
    /// Endpoints that are left alone are not probed.
    NoProbes,
    /// A silent connection is kept.
    SilentConnectionKept,
}

const BUGS: [Bug; 16] = [
    Bug::NoRevision,
    Bug::MovedOnIsApplied,
    Bug::NoTombstone,
    Bug::NotWithdrawn,
    Bug::RepeatedForNobody,
    Bug::RoundNotFinished,
    Bug::LeaseCountsFromAnswer,
    Bug::ClassTooShort,
    Bug::LostLeaseKept,
    Bug::RevokedEarly,
    Bug::AnswersNotTold,
    Bug::FaultsNotTold,
    Bug::GivenUpNotTold,
    Bug::ShortTimeIsFault,
    Bug::NoProbes,
    Bug::SilentConnectionKept,
];

/// What is wrong with the history of a seed.
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
fn a_history_is_repeated_by_its_seed() {
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
    const ENOUGH: u64 = 200;
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
