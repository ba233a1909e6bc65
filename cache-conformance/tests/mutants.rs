//! The suite's own proof: every rule finds the backends that are wrong in its way, each time, and
//! lets those pass that are right.

use cache_conformance::mutants::{self, Backend, BackendHarness, Kills};
use cache_conformance::{Capabilities, Suite, rules};

#[test]
fn every_mutant_is_found_by_its_rule() {
    const TIMES: u64 = 2;
    let kills = Kills::of(&mutants::all(), TIMES);
    for kills in &kills {
        println!("{kills}");
    }
    let missed: Vec<String> = kills
        .iter()
        .filter(|kills| !kills.is_sure())
        .map(|kills| format!("{kills}\n{}", kills.message))
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn every_rule_has_a_mutant() {
    assert_eq!(Kills::rules_without(), [""; 0]);
    for mutant in mutants::all() {
        let known = rules().iter().any(|rule| rule.id() == mutant.rule);
        assert!(known, "{} belongs to no rule: {}", mutant.name, mutant.rule);
    }
}

#[test]
fn bugs_that_real_projects_had_are_among_them() {
    let mutants = mutants::all();
    let told: Vec<&str> = mutants.iter().filter_map(|mutant| mutant.history).collect();
    assert!(told.len() >= 20, "{told:#?}");
    assert!(
        told.iter().all(|told| told.starts_with("github.com/")),
        "{told:#?}"
    );
}

#[test]
fn the_backend_that_mutants_are_made_of_is_right() {
    let report = mutants::right().run();
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.passed(), rules().len(), "{report}");
}

#[test]
fn it_is_right_with_values_of_any_size() {
    let any_size = |mut declared: Capabilities| {
        declared.max_value = None;
        declared.max_key = None;
        declared
    };
    // What is larger than usual it refuses all the same, so it keeps each value by itself.
    let unlimited = Backend::right().write(|store, key, value| {
        store.write(key, value);
        Ok(())
    });
    let harness = BackendHarness::patient(unlimited).declaring(any_size);
    let report = Suite::new(harness).only("values").run();
    assert!(report.is_ok(), "{report}");
}

#[test]
#[ignore = "takes minutes; `cargo xtask conformance mutants` prints it"]
fn every_mutant_is_found_twenty_times_of_twenty() {
    let kills = Kills::of(&mutants::all(), 20);
    for kills in &kills {
        println!("{kills}");
    }
    let missed: Vec<String> = kills
        .iter()
        .filter(|kills| !kills.is_sure())
        .map(Kills::to_string)
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
