//! The results of a comparison. They are stored in target/bench/NAME.json and, once published, in
//! the crate's speed.json, from which charts and READMEs are generated.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::digits::{short, times};
use crate::root;

/// A contestant's role in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Our backend, or a variant of it.
    Ours,
    /// An alternative that users could choose.
    Peer,
    /// An upper bound, such as a hand-written client without error handling.
    Limit,
    /// The measuring overhead: the same loop without a cache.
    Overhead,
}

/// All lines of a comparison, and the conditions.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub(crate) machine: String,
    pub(crate) versions: BTreeMap<String, String>,
    /// Why the report cannot be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpublishable: Option<String>,
    pub(crate) lines: Vec<Line>,
}

/// One workload and its results.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Line {
    /// The name, unique in the report.
    pub work: String,
    /// The unit of the figures.
    pub unit: String,
    /// Whether a lower figure is better.
    pub less_is_better: bool,
    /// Whether charts and READMEs show this line.
    pub headline: bool,
    /// The number of measured rounds; 0: as the options say.
    pub rounds: usize,
    /// How many times better than the base ours must be. 2.0 means twice as good, even if less is
    /// better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<f64>,
    /// The contestant that ratios and the goal refer to. Defaults to the best peer, then the limit,
    /// then ours.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base: String,
    /// A peer that cannot be the default base.
    #[serde(skip)]
    pub excluded_from_goal: &'static str,
    /// Why the goal may be missed: the row of a limit of the machine, or what the base does
    /// differently.
    #[serde(skip)]
    pub reason: &'static str,
    /// The contestants' figures, once measured.
    pub rows: Vec<Row>,
}

/// The figures of one contestant.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) extras: BTreeMap<String, f64>,
}

impl Report {
    /// The path of the last run's report.
    pub fn measured(name: &str) -> PathBuf {
        let folder = root().join("target/bench");
        folder.join(format!("{name}.json"))
    }

    /// Reads a report from a file.
    pub fn read(path: &Path) -> Result<Self> {
        let json =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&json).with_context(|| format!("cannot parse {}", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(path, self.json()?).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Formats one contestant per line, for readable diffs.
    pub fn json(&self) -> Result<String> {
        // Quotes inside strings are escaped, so this matches only the structure.
        let text = serde_json::to_string(self)?
            .replace(",\"versions\":", ",\n\"versions\":")
            .replace(",\"lines\":", ",\n\"lines\":")
            .replace("{\"work\":", "\n {\"work\":")
            .replace("{\"name\":", "\n  {\"name\":");
        Ok(text + "\n")
    }

    /// The headlines, or all lines if a partial run has no headlines.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Line> {
        let any = self.lines.iter().any(|line| line.headline);
        self.lines.iter().filter(move |line| line.headline || !any)
    }

    /// The name of our backend.
    pub(crate) fn ours(&self) -> &str {
        let ours = self.shown().find_map(Line::ours);
        ours.map_or("ours", |row| &row.name)
    }

    /// Formats each goal and whether it was met.
    pub(crate) fn goals(&self) -> String {
        let (mut met, mut all, mut text) = (0, 0, String::new());
        for line in &self.lines {
            if let Some((is_met, verdict)) = line.verdict() {
                all += 1;
                met += usize::from(is_met);
                let _ = writeln!(text, "  {}: {verdict}", line.work);
            }
        }
        format!("\ngoals met: {met} of {all}\n{text}")
    }
}

impl Line {
    /// Creates a line that measures throughput in op/s, without a goal.
    pub fn new(work: impl Into<String>) -> Self {
        Self {
            work: work.into(),
            unit: "op/s".to_owned(),
            ..Self::default()
        }
    }

    /// Sets the unit of throughput, such as `keys/s`.
    #[must_use]
    pub fn unit(self, unit: &str) -> Self {
        let unit = unit.to_owned();
        Self { unit, ..self }
    }

    /// Sets a unit for which less is better, such as `µs` or `bytes/entry`.
    #[must_use]
    pub fn less_is_better(self, unit: &str) -> Self {
        let less_is_better = true;
        Self {
            less_is_better,
            ..self.unit(unit)
        }
    }

    /// Sets the contestant that ratios refer to.
    #[must_use]
    pub fn base(self, name: &str) -> Self {
        let base = name.to_owned();
        Self { base, ..self }
    }

    /// Sets the default base unless one is set.
    pub(crate) fn choose_base(&mut self) {
        if self.base.is_empty() {
            let mut ranking = self.ranking();
            ranking.retain(|row| row.name != self.excluded_from_goal);
            let of_role = |role| ranking.iter().find(|row| row.role == role);
            let roles = [Role::Peer, Role::Limit, Role::Ours];
            let base = roles.into_iter().find_map(of_role);
            self.base = base.map(|row| row.name.clone()).unwrap_or_default();
        }
    }

    /// The first row with the role [`Role::Ours`].
    pub(crate) fn ours(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.role == Role::Ours)
    }

    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The rows, best first.
    pub(crate) fn ranking(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by(|a, b| b.median.total_cmp(&a.median));
        if self.less_is_better {
            rows.reverse();
        }
        rows
    }

    pub(crate) fn best(&self, role: Role) -> Option<&Row> {
        self.ranking().into_iter().find(|row| row.role == role)
    }

    /// How many times better `row` is than `base`. Uses the medians, so that readers can check the
    /// ratio against the figures shown.
    fn ratio(&self, row: &Row, base: &Row) -> f64 {
        if self.less_is_better {
            base.median / row.median
        } else {
            row.median / base.median
        }
    }

    /// How many times better ours is than `row`.
    pub(crate) fn times(&self, row: &Row) -> f64 {
        self.ratio(self.ours().unwrap_or(row), row)
    }

    /// The unit and how to read it.
    pub(crate) fn measure(&self) -> String {
        let mut text = self.unit.clone();
        if self.less_is_better {
            text += ", less is better";
        }
        if self.rounds == 1 {
            text += ", measured once";
        }
        text
    }

    /// Whether the goal was met, with a message; `None` without a goal.
    fn verdict(&self) -> Option<(bool, String)> {
        let (goal, base) = (self.goal?, &self.base);
        let ratio = self.times(self.row(base)?);
        let word = if ratio >= goal { "met" } else { "MISSED" };
        let mut text = format!("goal {goal:.2} × {base}: {word} with {ratio:.2}");
        if ratio < goal && !self.reason.is_empty() {
            let _ = write!(text, "; {}", self.reason);
            if let (Some(limit), Some(base)) = (self.row(self.reason), self.row(base)) {
                let _ = write!(text, " alone: {:.2}", self.ratio(limit, base));
            }
        }
        Some((ratio >= goal, text))
    }

    /// Formats all contestants for the terminal, best first.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("\n{} ({})\n", self.work, self.measure());
        for row in self.ranking() {
            let mark = if row.role == Role::Ours { "»" } else { " " };
            let base = self.row(&self.base).unwrap_or(row);
            let ratio = times(self.ratio(row, base));
            let range = format!("{} – {}", short(row.min), short(row.max));
            let (name, median) = (&row.name, short(row.median));
            let _ = write!(text, "{mark} {name:<34}{median:>12}{ratio:>8}{range:>23}");
            for (name, figure) in &row.extras {
                let _ = write!(text, "  {name} {}", short(*figure));
            }
            text.push('\n');
        }
        if let Some((_, verdict)) = self.verdict() {
            let _ = writeln!(text, "  {verdict}");
        }
        text
    }
}

impl Row {
    /// Summarizes the figures of all rounds.
    pub(crate) fn new(name: &str, role: Role, rounds: &[f64]) -> Self {
        Self {
            name: name.to_owned(),
            role,
            median: rounded(median(rounds)),
            min: rounded(rounds.iter().copied().fold(f64::INFINITY, f64::min)),
            max: rounded(rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            extras: BTreeMap::new(),
        }
    }

    /// Adds the median of an extra figure over all rounds.
    pub(crate) fn add(&mut self, name: &str, rounds: &[f64]) {
        self.extras.insert(name.to_owned(), rounded(median(rounds)));
    }
}

/// Rounds to four significant digits; further ones are noise.
fn rounded(figure: f64) -> f64 {
    format!("{figure:.3e}").parse().unwrap_or(figure)
}

/// The median, or zero if `figures` is empty.
fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    f64::midpoint(at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2))
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn ratios_use_medians() {
        let report = example();
        let line = report.shown().next().unwrap();
        let times = |role| line.times(line.best(role).unwrap());
        assert!((times(Role::Peer) - 2.0).abs() < 1e-9);
        assert!((times(Role::Limit) - 0.5).abs() < 1e-9);
        assert!((line.ours().unwrap().max - 123_500.0).abs() < 1e-9);
    }

    #[test]
    fn shows_headlines_or_else_all_lines() {
        let mut report = example();
        assert_eq!(report.shown().count(), 1);
        assert_eq!(report.ours(), "cache-dict");
        report.lines.remove(0);
        assert!(report.shown().all(|line| line.work == "set"));
    }

    #[test]
    fn json_has_one_line_per_contestant_and_round_trips() {
        let json = example().json().unwrap();
        // The machine, the versions, the key `lines`, and two workloads with four rows each.
        assert_eq!(json.lines().count(), 3 + 2 * (1 + 4), "{json}");
        let read: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(read.json().unwrap(), json);
    }

    #[test]
    fn less_is_better_reverses_ranking_and_ratios() {
        let mut line = example().lines.remove(0);
        line.less_is_better = true;
        line.rounds = 1;
        assert_eq!(line.ranking().first().unwrap().name, "oslo.cache<X>");
        assert!((line.times(line.best(Role::Limit).unwrap()) - 2.0).abs() < 1e-9);
        assert_eq!(line.measure(), "op/s, less is better, measured once");
    }

    #[test]
    fn table_shows_the_best_first_and_whether_goals_are_met() {
        let mut report = example();
        report.lines[0].goal = Some(1.5);
        report.lines[1].goal = Some(2.5);
        report.lines[1].reason = "bare";
        let text = report.lines[0].table();
        let at = |name: &str| text.find(name).unwrap();
        assert!(
            at("bare") < at("» cache-dict") && at("» cache-dict") < at("  moka"),
            "{text}"
        );
        assert!(text.contains("goal 1.50 × moka: met with 2.00"), "{text}");
        let goals = report.goals();
        assert!(goals.contains("goals met: 1 of 2"), "{goals}");
        assert!(
            goals.contains("set: goal 2.50 × moka: MISSED with 2.00; bare alone: 4.00"),
            "{goals}"
        );
    }

    #[test]
    fn medians() {
        for (figures, middle) in [(&[3.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0], 2.5), (&[], 0.0)] {
            assert!((median(figures) - middle).abs() < 1e-9);
        }
    }
}
