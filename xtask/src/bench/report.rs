//! A comparison: what was measured, of whom, where. It is kept in target/bench/NAME.json, and,
//! once it is published, in the crate's speed.json, of which charts and READMEs are made.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::digits::{short, times};
use crate::workspace;

/// What a contestant is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Our backend, or a variant of it.
    Ours,
    /// What a user could choose instead.
    Peer,
    /// What is possible at all, say a hand-written client without any of the duties of a library.
    Limit,
    /// What measuring costs: the same loop without a contestant.
    Overhead,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) versions: BTreeMap<String, String>,
    /// Why it must not be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unpublishable: Option<String>,
    pub(crate) lines: Vec<Line>,
}

/// One piece of work.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) work: String,
    pub(crate) unit: String,
    pub(crate) less_is_better: bool,
    /// Whether charts and READMEs show it.
    pub(crate) headline: bool,
    pub(crate) rounds: usize,
    /// How many times better than the base ours has to be: 2.0 is twice as good, whichever way the
    /// unit counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<f64>,
    /// The contestant to which ratios and the goal refer. Unless it is named, it is the best peer
    /// (without peers, the limit; without a limit, the first contestant).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) base: String,
    /// A peer that the goal, and so the ratios, are not about.
    #[serde(skip)]
    pub(crate) beside_the_goal: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// One contestant's figures.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) extras: BTreeMap<String, f64>,
}

impl Report {
    /// Where the comparison that was measured last is.
    pub(crate) fn measured(name: &str) -> PathBuf {
        let folder = workspace::root().join("target/bench");
        folder.join(format!("{name}.json"))
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let json =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&json).with_context(|| format!("cannot parse {}", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(path, self.json()?).with_context(|| format!("cannot write {}", path.display()))
    }

    /// One contestant a line, so that a change can be read.
    pub(crate) fn json(&self) -> Result<String> {
        // Inside of a string the quotes would be escaped, so only the structure is found.
        let text = serde_json::to_string(self)?
            .replace(",\"versions\":", ",\n\"versions\":")
            .replace(",\"lines\":", ",\n\"lines\":")
            .replace("{\"work\":", "\n {\"work\":")
            .replace("{\"name\":", "\n  {\"name\":");
        Ok(text + "\n")
    }

    /// The lines to show: the headlines, or all if a part was measured that has none.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Line> {
        let any = self.lines.iter().any(|line| line.headline);
        self.lines.iter().filter(move |line| line.headline || !any)
    }

    /// What our backend is called.
    pub(crate) fn ours(&self) -> &str {
        let ours = self.shown().find_map(Line::ours);
        ours.map_or("ours", |row| &row.name)
    }

    /// Each goal, and whether it was met.
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
    /// One piece of work for all contestants: throughput in op/s, without a goal.
    pub(crate) fn new(work: impl Into<String>) -> Self {
        Self {
            work: work.into(),
            unit: "op/s".to_owned(),
            ..Self::default()
        }
    }

    /// Throughput in something else than op/s: `keys/s`.
    pub(crate) fn unit(self, unit: &str) -> Self {
        let unit = unit.to_owned();
        Self { unit, ..self }
    }

    /// A figure of which less is better, such as `µs` or `bytes/entry`.
    pub(crate) fn less_is_better(self, unit: &str) -> Self {
        let less_is_better = true;
        Self {
            less_is_better,
            ..self.unit(unit)
        }
    }

    pub(crate) fn base(self, name: &str) -> Self {
        let base = name.to_owned();
        Self { base, ..self }
    }

    /// Names the base, unless it has a name.
    pub(crate) fn choose_base(&mut self) {
        if self.base.is_empty() {
            let mut ranking = self.ranking();
            ranking.retain(|row| row.name != self.beside_the_goal);
            let of_role = |role| ranking.iter().find(|row| row.role == role);
            let roles = [Role::Peer, Role::Limit, Role::Ours];
            let base = roles.into_iter().find_map(of_role);
            self.base = base.map(|row| row.name.clone()).unwrap_or_default();
        }
    }

    /// Our row: the first with that role.
    pub(crate) fn ours(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.role == Role::Ours)
    }

    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The best first.
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

    /// How many times better `row` is than `base`, by the medians: who reads the figures gets
    /// the same.
    fn ratio(&self, row: &Row, base: &Row) -> f64 {
        if self.less_is_better {
            base.median / row.median
        } else {
            row.median / base.median
        }
    }

    /// How many times better than `row` ours is.
    pub(crate) fn times(&self, row: &Row) -> f64 {
        self.ratio(self.ours().unwrap_or(row), row)
    }

    /// The unit, and how to read it.
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

    /// Whether the goal was met, in words too; `None` without a goal.
    fn verdict(&self) -> Option<(bool, String)> {
        let (goal, base) = (self.goal?, &self.base);
        let ratio = self.times(self.row(base)?);
        let word = if ratio >= goal { "met" } else { "MISSED" };
        let text = format!("goal {goal:.2} × {base}: {word} with {ratio:.2}");
        Some((ratio >= goal, text))
    }

    /// All contestants for the terminal, the best first.
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
    /// Of the figures of all rounds.
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

    /// A further figure, of the figures of all rounds.
    pub(crate) fn add(&mut self, name: &str, rounds: &[f64]) {
        self.extras.insert(name.to_owned(), rounded(median(rounds)));
    }
}

/// Four digits that count: the fifth is noise.
fn rounded(figure: f64) -> f64 {
    format!("{figure:.3e}").parse().unwrap_or(figure)
}

/// The middle one, or the mean of the two in the middle; zero of none.
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
    fn ratios_are_those_of_the_medians() {
        let report = example();
        let line = report.shown().next().unwrap();
        let times = |role| line.times(line.best(role).unwrap());
        assert!((times(Role::Peer) - 2.0).abs() < 1e-9);
        assert!((times(Role::Limit) - 0.5).abs() < 1e-9);
        assert!((line.ours().unwrap().max - 123_500.0).abs() < 1e-9);
    }

    #[test]
    fn headlines_are_shown_and_without_any_all() {
        let mut report = example();
        assert_eq!(report.shown().count(), 1);
        assert_eq!(report.ours(), "cache-dict");
        report.lines.remove(0);
        assert!(report.shown().all(|line| line.work == "set"));
    }

    #[test]
    fn json_has_a_line_for_each_contestant_and_reads_back() {
        let json = example().json().unwrap();
        // The machine, the versions, the word `lines`, two lines of work with four rows each.
        assert_eq!(json.lines().count(), 3 + 2 * (1 + 4), "{json}");
        let read: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(read.json().unwrap(), json);
    }

    #[test]
    fn less_is_better_turns_the_ranking_and_the_ratios_around() {
        let mut line = example().lines.remove(0);
        line.less_is_better = true;
        line.rounds = 1;
        assert_eq!(line.ranking().first().unwrap().name, "oslo.cache<X>");
        assert!((line.times(line.best(Role::Limit).unwrap()) - 2.0).abs() < 1e-9);
        assert_eq!(line.measure(), "op/s, less is better, measured once");
    }

    #[test]
    fn the_terminal_shows_the_best_first_and_whether_goals_are_met() {
        let mut report = example();
        report.lines[0].goal = Some(1.5);
        report.lines[1].goal = Some(2.5);
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
            goals.contains("set: goal 2.50 × moka: MISSED with 2.00"),
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
