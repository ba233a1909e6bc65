//! [`Verdicts`], the result of each rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::Serialize;

/// Results by rule and by the name under which a backend runs the suite.
#[derive(Default, Serialize)]
pub(super) struct Verdicts(BTreeMap<String, BTreeMap<String, &'static str>>);

impl Verdicts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Parses libtest's output: `test module::suite::group::rule ... ok`.
    pub(super) fn read(&mut self, output: &str, module: &str) {
        let tests = output
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
        for (test, verdict) in tests {
            let test = test.strip_prefix(module);
            if let Some((suite, rule)) = test.and_then(|test| test.split_once("::")) {
                let verdict = match verdict.split([',', ' ']).next() {
                    Some("ignored") => "waived",
                    Some("ok") => "kept",
                    _ => "BROKEN",
                };
                let rule = self.0.entry(rule.to_owned()).or_default();
                rule.insert(suite.to_owned(), verdict);
            }
        }
    }
}

/// Prints the totals, then a row per rule and a column per suite.
impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suites: BTreeSet<&String> = self.0.values().flat_map(BTreeMap::keys).collect();
        let width = self.0.keys().map(String::len).max().unwrap_or_default();
        let mut columns = String::new();
        for (number, suite) in (1..).zip(&suites) {
            write!(columns, " {number:>6}")?;
            let found = self.0.values().filter_map(|rule| rule.get(*suite));
            let found: Vec<&str> = found.copied().collect();
            let count = |verdict| found.iter().filter(|found| **found == verdict).count();
            let [kept, waived, broken] = ["kept", "waived", "BROKEN"].map(count);
            writeln!(
                f,
                "{number:>2} {suite:width$} {kept} kept, {waived} waived, {broken} broken"
            )?;
        }
        writeln!(f, "\n{:width$}{columns}", "")?;
        for (rule, by_suite) in &self.0 {
            write!(f, "{rule:width$}")?;
            for suite in &suites {
                let verdict = by_suite.get(*suite).copied().unwrap_or("–");
                write!(f, " {verdict:>6}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_output_becomes_a_table() {
        let mut verdicts = Verdicts::default();
        let output = "test dict::keys::case ... ok\ntest dict::faults::cut ... ignored, no server\n\
                      test etcd::keys::case ... FAILED\ntest result: FAILED. 1 passed\n";
        verdicts.read(output, "");
        assert_eq!(verdicts.0["keys::case"]["etcd"], "BROKEN");
        let table = verdicts.to_string();
        assert!(table.contains("1 kept, 1 waived, 0 broken"), "{table}");
        assert!(table.contains("keys::case    kept BROKEN"), "{table}");
    }
}
