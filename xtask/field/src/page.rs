//! Writes the page, the `README.md` of this crate.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use cache_conformance::{Report, RuleReport, Verdict};

const HEAD: &str = include_str!("page.md");
const LOCK: &str = include_str!("../Cargo.lock");
/// The maximum length of a failure message, in characters.
const LONGEST: usize = 200;

/// The columns of the table. The first [`FAILURES`] are failures, which are listed below the table.
const VERDICTS: &str = "broken | hangs | not confirmed | varies | kept | waived | not applicable";
const FAILURES: usize = 4;

/// A row of the table.
pub struct Row {
    /// The crate, as in `Cargo.lock`, and optionally the part under test.
    pub name: &'static str,
    /// One report per round.
    pub reports: Vec<Report>,
}

impl Row {
    fn version(&self) -> &'static str {
        let package = self.name.split(' ').next().unwrap_or_default();
        let before = format!("name = \"{package}\"\nversion = \"");
        let rest = LOCK.split_once(&before).unwrap_or_default().1;
        rest.split('"').next().unwrap_or_default()
    }

    /// The program in `examples` that shows that this cache breaks the rule, which its comment
    /// names.
    fn program(&self, rule: &str) -> Option<String> {
        let prefix = self.name.replace(['-', ' '], "_") + "_";
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        fs::read_dir(folder).ok()?.flatten().find_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let text = fs::read_to_string(file.path()).ok()?;
            (name.starts_with(&prefix) && text.contains(rule)).then_some(name)
        })
    }

    fn verdict_of_round(&self, rule: &RuleReport) -> &'static str {
        match &rule.verdict {
            Verdict::Passed => "kept",
            Verdict::NotApplicable(_) => "not applicable",
            Verdict::Failed(_) if self.program(&rule.id).is_none() => "not confirmed",
            // After two such failures, the suite skips further rules of this kind.
            Verdict::Failed(text) if text.contains("calls hang") => "hangs",
            Verdict::Failed(text) if text.contains("the call_limit") => "hangs",
            Verdict::Failed(_) => "broken",
            _ => "waived",
        }
    }

    /// The verdict of each rule over all rounds, and the message of its first failure.
    fn verdicts(&self) -> BTreeMap<&str, (&'static str, &str)> {
        let mut verdicts = BTreeMap::new();
        for rule in self.reports.iter().flat_map(|report| &report.rules) {
            let verdict = self.verdict_of_round(rule);
            let all: &mut (&str, &str) = verdicts.entry(&*rule.id).or_insert((verdict, ""));
            all.0 = match (all.0, verdict) {
                (one, other) if one == other => one,
                // A rule with `may_fail` counts as waived when it fails.
                ("kept" | "waived", "kept" | "waived") => "waived",
                _ => "varies",
            };
            if let (Verdict::Failed(text), "") = (&rule.verdict, all.1) {
                let found = text.split("found:").nth(1).unwrap_or(text);
                all.1 = found.trim().lines().next().unwrap_or_default();
            }
        }
        verdicts
    }

    /// Writes the table of failures, if there are any.
    fn write_failures(&self, page: &mut String) -> std::fmt::Result {
        let mut failures = self.verdicts();
        failures
            .retain(|_, (verdict, _)| VERDICTS.split(" | ").take(FAILURES).any(|v| v == *verdict));
        if failures.is_empty() {
            return Ok(());
        }
        writeln!(page, "\n## {}\n", self.name)?;
        writeln!(
            page,
            "| rule | verdict | found | shown by |\n|---|---|---|---|"
        )?;
        for (rule, (verdict, found)) in failures {
            let found: String = found.chars().take(LONGEST).collect();
            let found = found.replace('|', "\\|");
            let program = self
                .program(rule)
                .map(|name| format!("[`{name}`](examples/{name})"));
            let program = program.unwrap_or_default();
            writeln!(page, "| `{rule}` | {verdict} | {found} | {program} |")?;
        }
        Ok(())
    }
}

pub fn write(rows: &[Row]) -> Result<()> {
    let date = Command::new("date").arg("+%F").output()?;
    let date = String::from_utf8(date.stdout)?;
    let rounds = rows.iter().map(|row| row.reports.len()).min();
    let (date, rounds) = (date.trim(), rounds.unwrap_or_default());
    let mut page = format!("{HEAD}\nMeasured on {date}; rounds: {rounds}.\n\n");
    let rule = "---|".repeat(VERDICTS.split(" | ").count());
    writeln!(page, "| cache | version | {VERDICTS} |\n|---|---|{rule}")?;
    for row in rows {
        let verdicts = row.verdicts();
        write!(page, "| {} | {} |", row.name, row.version())?;
        for name in VERDICTS.split(" | ") {
            let rules = verdicts.values().filter(|(verdict, _)| *verdict == name);
            write!(page, " {} |", rules.count())?;
        }
        writeln!(page)?;
    }
    for row in rows {
        row.write_failures(&mut page)?;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))
}
