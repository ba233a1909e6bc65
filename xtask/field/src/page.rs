//! The page: `README.md` of this folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use cache_conformance::{Report, Verdict};

const HEAD: &str = include_str!("page.md");
/// In characters: what is shown of a failure.
const LONGEST: usize = 200;
const LOCK: &str = include_str!("../Cargo.lock");

/// A rule that failed.
struct Broken {
    /// In how many runs.
    times: usize,
    /// In the first of these in which it was run at all.
    found: Option<String>,
    /// The program in `examples` that shows it without the adapter.
    shown_by: Option<String>,
}

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

    /// The rules that failed in any run.
    fn broken(&self) -> BTreeMap<&str, Broken> {
        let programs = programs(self.name);
        let mut broken: BTreeMap<&str, Broken> = BTreeMap::new();
        for rule in self.reports.iter().flat_map(|report| &report.rules) {
            if let Verdict::Failed(detail) = &rule.verdict {
                let shown_by = || programs.iter().find(|(_, text)| text.contains(&rule.id));
                let rule = broken.entry(&rule.id).or_insert_with(|| Broken {
                    times: 0,
                    found: None,
                    shown_by: shown_by().map(|(name, _)| name.clone()),
                });
                rule.times += 1;
                let found = detail
                    .lines()
                    .find_map(|line| line.trim().strip_prefix("found:"));
                // Without one, it was not run, since calls hang.
                rule.found = rule.found.take().or_else(|| Some(neutral(found?.trim())));
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
        let seed = self.reports.last().map_or(0, |report| report.seed);
        let mut text = format!(
            "\n## {0}\n\nTo repeat the last run: `CACHE_CONFORMANCE_SEED={seed} cargo run \
             --manifest-path xtask/field/Cargo.toml -- \"{0}\"`\n\n",
            self.name
        );
        text.push_str(
            "| rule | runs | found | shown without the adapter by |\n|---|---|---|---|\n",
        );
        let mut hung = 0;
        for (rule, broken) in broken {
            let Some(found) = broken.found else {
                hung += 1;
                continue;
            };
            let shown_by = match broken.shown_by {
                Some(name) => format!("[`{name}`](examples/{name})"),
                None => "not confirmed by a program of its own, so not counted".to_owned(),
            };
            let found: String = found.chars().take(LONGEST).collect();
            let (times, found) = (broken.times, found.replace('|', "\\|"));
            let _ = writeln!(
                text,
                "| `{rule}` | {times} of {runs} | {found} | {shown_by} |"
            );
        }
        if hung > 0 {
            let _ = writeln!(text, "\n{hung} rules were not run, since calls hang.");
        }
        text
    }

    /// How many rules have such a verdict in every run.
    fn count(&self, verdict: impl Fn(&Verdict) -> bool) -> usize {
        let rules = |report: &Report| -> BTreeSet<String> {
            let rules = report.rules.iter().filter(|rule| verdict(&rule.verdict));
            rules.map(|rule| rule.id.to_string()).collect()
        };
        let all = self.reports.iter().map(rules);
        all.reduce(|one, other| &one & &other)
            .map_or(0, |rules| rules.len())
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
    let mut page = format!("{HEAD}\nMeasured on {date}; rounds: {runs}.\n\n");
    page.push_str(
        "| cache | version | kept | broken | not confirmed | not run | waived | not applicable |\n",
    );
    page.push_str("|---|---|---|---|---|---|---|---|\n");
    for row in rows {
        let broken = row.broken();
        let is_always = |broken: &&Broken| broken.times == runs;
        let found = || broken.values().filter(|rule| rule.found.is_some());
        let shown = || found().filter(|rule| rule.shown_by.is_some());
        let always = shown().filter(is_always).count();
        let counted = match shown().count() - always {
            0 => always.to_string(),
            sometimes => format!("{always}, {sometimes} in some runs"),
        };
        let _ = writeln!(
            page,
            "| {} | {} | {} | {counted} | {} | {} | {} | {} |",
            row.name,
            version(row.package()),
            row.count(|verdict| *verdict == Verdict::Passed),
            found().count() - shown().count(),
            broken.len() - found().count(),
            row.count(|verdict| matches!(verdict, Verdict::Waived(_) | Verdict::StaleWaiver(_))),
            row.count(|verdict| matches!(verdict, Verdict::NotApplicable(_))),
        );
    }
    for row in rows {
        page.push_str(&row.section());
    }
    std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))
}

/// The programs that show failures of a cache by itself, and their text, which names the rules.
fn programs(name: &str) -> Vec<(String, String)> {
    let prefix = name.replace(['-', ' '], "_") + "_";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = files.filter_map(|file| Some((file.file_name().into_string().ok()?, file.path())));
    let named = named.filter(|(name, _)| name.starts_with(&prefix));
    let mut programs: Vec<(String, String)> = named
        .filter_map(|(name, path)| Some((name, std::fs::read_to_string(path).ok()?)))
        .collect();
    programs.sort();
    programs
}
