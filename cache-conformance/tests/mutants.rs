//! The suite's own proof: every rule finds a backend that is wrong, and lets those pass that are
//! right.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // Tests panic.
#![allow(clippy::too_many_lines, clippy::unnecessary_wraps)] // A list is long; an operation may fail.

mod catalogue;
mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;

use cache_conformance::{Suite, Verdict, rules};
use catalogue::Wrong;
use support::mutant::{Mutant, MutantHarness};

/// Which rules of its own group, or of all, found a mutant.
struct Kill {
    owner: &'static str,
    name: &'static str,
    by: Vec<String>,
    message: String,
}

/// What only a race shows may take another attempt, when the machine is busy.
fn kills(wrong: &Wrong, all_groups: bool) -> Kill {
    const ATTEMPTS: u64 = 3;
    let attempts = (1..=ATTEMPTS).map(|seed| attempt(wrong, all_groups, seed));
    let mut last = None;
    for kill in attempts {
        if kill.by.iter().any(|by| by == kill.owner) {
            return kill;
        }
        last = Some(kill);
    }
    last.unwrap()
}

fn attempt(wrong: &Wrong, all_groups: bool, seed: u64) -> Kill {
    let suite = Suite::new(MutantHarness::new(Arc::clone(&wrong.mutant)))
        .name(wrong.name)
        .seed(seed);
    let group = wrong.owner.split("::").next().unwrap();
    let suite = if all_groups { suite } else { suite.only(group) };
    let report = suite.run();
    let failed = |rule: &&cache_conformance::RuleReport| rule.verdict.is_failure();
    let found: Vec<_> = report.rules.iter().filter(failed).collect();
    let message = found
        .iter()
        .find(|rule| rule.id == wrong.owner)
        .map(|rule| match &rule.verdict {
            Verdict::Failed(message) => message.clone(),
            other => format!("{other:?}"),
        });
    Kill {
        owner: wrong.owner,
        name: wrong.name,
        by: found.iter().map(|rule| rule.id.clone()).collect(),
        message: message.unwrap_or_default(),
    }
}

/// Some at a time: most of them wait.
fn all_kills(all_groups: bool) -> Vec<Kill> {
    const AT_ONCE: usize = 8;
    let queue = Mutex::new(catalogue::all().into_iter().enumerate());
    let kills_of = |_| {
        let mut done = Vec::new();
        loop {
            let next = queue.lock().unwrap().next();
            let Some((position, wrong)) = next else {
                return done;
            };
            done.push((position, kills(&wrong, all_groups)));
        }
    };
    let kills_of = &kills_of;
    let mut done: Vec<(usize, Kill)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|worker| scope.spawn(move || kills_of(worker)))
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join().unwrap());
        joined.flatten().collect()
    });
    done.sort_by_key(|(position, _)| *position);
    done.into_iter().map(|(_, kill)| kill).collect()
}

fn print_matrix(kills: &[Kill]) {
    println!("{:58} {:62} found by", "mutant", "owner");
    for kill in kills {
        let others: Vec<&str> = kill
            .by
            .iter()
            .map(String::as_str)
            .filter(|by| *by != kill.owner)
            .collect();
        let own = if kill.by.len() > others.len() {
            "its owner"
        } else {
            "NOT ITS OWNER"
        };
        println!(
            "{:58} {:62} {own} {}",
            kill.name,
            kill.owner,
            others.join(" ")
        );
    }
}

fn judge(kills: &[Kill]) {
    let mut wrong = Vec::new();
    for kill in kills {
        if !kill.by.iter().any(|by| by == kill.owner) {
            wrong.push(format!("{} lets pass: {}", kill.owner, kill.name));
        } else if !(kill.message.contains(kill.owner) && kill.message.contains("found:")) {
            wrong.push(format!(
                "{} finds, but does not explain: {}",
                kill.owner, kill.name
            ));
        }
    }
    let mut owned: BTreeMap<String, usize> = rules().iter().map(|rule| (rule.id(), 0)).collect();
    for kill in kills {
        *owned.get_mut(kill.owner).expect("an owner is a rule") += 1;
    }
    let without: Vec<&String> = owned
        .iter()
        .filter(|(_, n)| **n == 0)
        .map(|(id, _)| id)
        .collect();
    println!("{} mutants, {} rules", kills.len(), owned.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(without.is_empty(), "rules without a mutant: {without:#?}");
}

#[test]
fn every_mutant_is_found_by_its_rule_and_every_rule_finds_one() {
    let kills = all_kills(false);
    print_matrix(&kills);
    judge(&kills);
}

#[test]
#[ignore = "takes minutes; prints which of all rules found each mutant"]
fn the_whole_matrix() {
    let kills = all_kills(true);
    print_matrix(&kills);
    judge(&kills);
}

#[test]
fn the_backend_that_mutants_are_made_of_is_right() {
    let report = Suite::new(MutantHarness::patient(Mutant::new())).run();
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.passed(), rules().len(), "{report}");
}
