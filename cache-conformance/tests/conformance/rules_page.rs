//! `RULES.md`, which is generated from the rules and the mutants that prove them.

use std::fmt::Write as _;

use cache_conformance::{mutants, rules};

fn page() -> String {
    let mutants = mutants::all();
    let mut page = String::from(
        "# The rules\n\nThe test `rules_page` generates this page from the rules, and fails if it is out of \
         date. To update it, run\n`CACHE_CONFORMANCE_WRITE=1 cargo test -p cache-conformance \
         rules_page`.\n",
    );
    let mut group = "";
    for rule in rules() {
        if rule.group != group {
            group = rule.group;
            let _ = write!(page, "\n## {group}\n");
        }
        let _ = write!(page, "\n### `{}`\n\n{}\n\n", rule.id(), rule.statement);
        let _ = writeln!(
            page,
            "- Since rule set {}. Source: {}.",
            rule.since, rule.source
        );
        for requirement in rule.requires {
            let _ = writeln!(page, "- Not applicable where {requirement}.");
        }
        for mutant in mutants.iter().filter(|mutant| mutant.rule == rule.id()) {
            let _ = write!(page, "- Detects a backend that {}", mutant.name);
            match mutant.history {
                Some(told) => {
                    let _ = writeln!(page, ", as in <https://{told}>.");
                }
                None => page.push_str(".\n"),
            }
        }
    }
    page
}

#[test]
fn the_page_is_current() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/RULES.md");
    let page = page();
    if std::env::var_os("CACHE_CONFORMANCE_WRITE").is_some() {
        assert!(std::fs::write(file, &page).is_ok(), "cannot write {file}");
    }
    let there = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        there == page,
        "RULES.md is out of date; to update it, run CACHE_CONFORMANCE_WRITE=1 cargo test -p \
         cache-conformance rules_page"
    );
}
