//! The page: `README.md` of this folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use cache_conformance::{Report, Verdict};

const HEAD: &str = include_str!("page.md");
const LOCK: &str = include_str!("../Cargo.lock");

/// One line of the table.
pub struct Row {
    /// The crate, as in `Cargo.lock`, and what is tested of it.
    pub name: &'static str,
    pub reports: Vec<Report>,
}

impl Row {
    pub fn new(name: &'static str) -> Self {
        let reports = Vec::new();
        Self { name, reports }
    }

    fn package(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or_default()
    }

    /// The rules that failed: in how many runs, and what was found in the first of these.
    fn broken(&self) -> BTreeMap<&str, (usize, String)> {
        let mut broken: BTreeMap<&str, (usize, String)> = BTreeMap::new();
        for rule in self.reports.iter().flat_map(|report| &report.rules) {
            if let Verdict::Failed(detail) = &rule.verdict {
                // A rule that was not run because calls hang says so in its only line.
                let lines = || detail.lines().map(str::trim);
                let found = lines().find(|line| line.starts_with("found:"));
                let found = found.or_else(|| lines().next()).unwrap_or_default();
                let first = || (0, neutral(found));
                broken.entry(&rule.id).or_insert_with(first).0 += 1;
            }
        }
        broken
    }

    /// What is broken; empty if nothing is.
    fn section(&self) -> String {
        let (broken, runs) = (self.broken(), self.reports.len());
        if broken.is_empty() {
            return String::new();
        }
        let programs = match programs(self.package()) {
            none if none.is_empty() => "No program shows these without the adapter.".to_owned(),
            links => format!("Without the adapter: {}.", links.join(", ")),
        };
        let mut text = format!("\n## {}\n\n{programs}\n\n", self.name);
        text.push_str("| rule | runs | found |\n|---|---|---|\n");
        for (rule, (times, found)) in broken {
            let found = found.replace('|', "\\|");
            let _ = writeln!(text, "| `{rule}` | {times} of {runs} | {found} |");
        }
        text
    }

    fn count(&self, verdict: impl Fn(&Verdict) -> bool) -> usize {
        let rules = self.reports.first().map_or(&[][..], |report| &report.rules);
        rules.iter().filter(|rule| verdict(&rule.verdict)).count()
    }
}

/// Without what differs from run to run: the random namespace of a rule.
fn neutral(found: &str) -> String {
    let mut words: Vec<String> = found.split('"').map(str::to_owned).collect();
    for word in &mut words {
        let is_namespaced = word.get(..8).is_some_and(|name| {
            name.bytes().all(|byte| byte.is_ascii_hexdigit())
                && word.as_bytes().get(8) == Some(&b':')
        });
        if is_namespaced {
            *word = word.get(9..).unwrap_or_default().to_owned();
        }
    }
    words.join("\"")
}

fn version(package: &str) -> &'static str {
    let (_, rest) = LOCK
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}

/// Writes the page; `date` as in `2026-01-31`.
pub fn write(file: &Path, rows: &[Row], runs: usize, date: &str) -> Result<()> {
    let mut page = format!("{HEAD}\nMeasured on {date}: {runs} runs of each.\n\n");
    page.push_str("| cache | version | kept | broken | waived | not applicable |\n");
    page.push_str("|---|---|---|---|---|---|\n");
    for row in rows {
        let broken = row.broken();
        let always = broken.values().filter(|(times, _)| *times == runs).count();
        let broken = match broken.len() - always {
            0 => always.to_string(),
            sometimes => format!("{always}, {sometimes} in some runs"),
        };
        let _ = writeln!(
            page,
            "| {} | {} | {} | {broken} | {} | {} |",
            row.name,
            version(row.package()),
            row.count(|verdict| *verdict == Verdict::Passed),
            row.count(|verdict| matches!(verdict, Verdict::Waived(_) | Verdict::StaleWaiver(_))),
            row.count(|verdict| matches!(verdict, Verdict::NotApplicable(_))),
        );
    }
    for row in rows {
        page.push_str(&row.section());
    }
    std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))
}

/// Links to the programs that show failures of a crate by itself.
fn programs(package: &str) -> Vec<String> {
    let prefix = package.replace('-', "_") + "_";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(&prefix)).collect();
    names.sort();
    let link = |name| format!("[`{name}`](examples/{name})");
    names.into_iter().map(link).collect()
}
