//! Proves the suite: every rule finds the backends that violate it, every time, and passes correct
//! backends.

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
fn mutants_include_bugs_of_real_projects() {
    let mutants = mutants::all();
    let told: Vec<&str> = mutants.iter().filter_map(|mutant| mutant.history).collect();
    assert!(told.len() >= 20, "{told:#?}");
    assert!(
        told.iter().all(|told| told.starts_with("github.com/")),
        "{told:#?}"
    );
}

#[test]
fn the_backend_that_mutants_derive_from_is_correct() {
    let report = mutants::right().run();
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.passed(), rules().len(), "{report}");
}

#[test]
fn the_backend_is_correct_with_values_of_any_size() {
    let any_size = |mut declared: Capabilities| {
        declared.max_value = None;
        declared.max_key = None;
        declared
    };
    // `Backend::right` refuses larger values whatever it declares, so store each value directly.
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
