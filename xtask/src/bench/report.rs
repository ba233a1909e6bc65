//! What a comparison found, as kept in target/bench/NAME.json.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

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

/// A whole comparison.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) name: String,
    /// `cpu`, `cores`, `kernel`, …
    pub(crate) machine: BTreeMap<String, String>,
    pub(crate) versions: BTreeMap<String, String>,
    /// Of each line, unless it has a number of its own.
    #[serde(default)]
    pub(crate) rounds: usize,
    /// The lines that charts and READMEs show.
    #[serde(default)]
    pub(crate) headlines: Vec<String>,
    /// Whether all lines were measured, with all contestants.
    #[serde(default)]
    pub(crate) complete: bool,
    pub(crate) lines: Vec<Line>,
}

/// One piece of work.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) less_is_better: bool,
    /// Whom the ratios refer to.
    pub(crate) baseline: Option<String>,
    /// The ratio that ours has to reach.
    pub(crate) goal: Option<f64>,
    /// Peers that the goal is not about.
    #[serde(default)]
    pub(crate) beside_the_goal: Vec<String>,
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
    /// How many times better than the base line: the median over the rounds.
    pub(crate) ratio: f64,
    pub(crate) extras: BTreeMap<String, f64>,
    pub(crate) rounds: Vec<f64>,
}

impl Report {
    pub(crate) fn new(
        name: &str,
        machine: BTreeMap<String, String>,
        versions: BTreeMap<String, String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            machine,
            versions,
            rounds: 0,
            headlines: Vec::new(),
            complete: false,
            lines: Vec::new(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        path(&self.name)
    }

    /// What was measured last.
    pub(crate) fn load(name: &str) -> Result<Self> {
        let path = path(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))
    }

    pub(crate) fn save(&self) -> Result<()> {
        let path = self.path();
        let folder = path.parent().context("a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn path(name: &str) -> PathBuf {
    let folder = workspace::root().join("target/bench");
    folder.join(format!("{name}.json"))
}

impl Line {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            unit: "op/s".to_owned(),
            less_is_better: false,
            baseline: None,
            goal: None,
            beside_the_goal: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Our row: the first with that role.
    pub(crate) fn ours(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.role == Role::Ours)
    }

    /// Picks the base line if none is named, and works out the ratios to it.
    pub(crate) fn compare(&mut self) -> Result<()> {
        let base = match &self.baseline {
            Some(name) => self.rows.iter().find(|row| row.name == *name),
            None => [Role::Peer, Role::Limit, Role::Ours]
                .into_iter()
                .find_map(|role| self.best(role)),
        };
        let base = base.with_context(|| {
            let name = self.baseline.as_deref().unwrap_or("any");
            format!("{}: no contestant `{name}` to compare with", self.name)
        })?;
        let (name, figures) = (base.name.clone(), base.rounds.clone());
        for row in &mut self.rows {
            let ratios: Vec<f64> = row
                .rounds
                .iter()
                .zip(&figures)
                .map(|(this, base)| {
                    if self.less_is_better {
                        base / this
                    } else {
                        this / base
                    }
                })
                .collect();
            row.ratio = median(&ratios);
        }
        self.baseline = Some(name);
        Ok(())
    }

    fn best(&self, role: Role) -> Option<&Row> {
        let counts = |row: &&Row| row.role == role && !self.beside_the_goal.contains(&row.name);
        let rows = self.rows.iter().filter(counts);
        if self.less_is_better {
            rows.min_by(|a, b| a.median.total_cmp(&b.median))
        } else {
            rows.max_by(|a, b| a.median.total_cmp(&b.median))
        }
    }
}

impl Row {
    pub(crate) fn new(
        name: String,
        role: Role,
        rounds: Vec<f64>,
        extras: BTreeMap<String, f64>,
    ) -> Self {
        Self {
            name,
            role,
            median: median(&rounds),
            min: rounds.iter().copied().fold(f64::INFINITY, f64::min),
            max: rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ratio: 1.0,
            extras,
            rounds,
        }
    }
}

/// The middle one, or the mean of the two in the middle; zero of none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    if sorted.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // Small whole numbers and quarters are exact.
mod tests {
    use super::*;

    fn line(less_is_better: bool) -> Line {
        let mut line = Line::new("work");
        line.less_is_better = less_is_better;
        for (name, role, rounds) in [
            ("ours", Role::Ours, vec![20.0, 30.0, 1000.0]),
            ("slow", Role::Peer, vec![10.0, 10.0, 10.0]),
            ("fast", Role::Peer, vec![20.0, 20.0, 20.0]),
            ("limit", Role::Limit, vec![40.0, 40.0, 40.0]),
        ] {
            let row = Row::new(name.to_owned(), role, rounds, BTreeMap::new());
            line.rows.push(row);
        }
        line
    }

    #[test]
    fn the_base_line_is_the_best_peer() {
        let mut more = line(false);
        more.compare().unwrap();
        assert_eq!(more.baseline.as_deref(), Some("fast"));
        assert_eq!(more.ours().unwrap().ratio, 1.5);

        let mut less = line(true);
        less.compare().unwrap();
        assert_eq!(less.baseline.as_deref(), Some("slow"));
        assert_eq!(less.rows[3].ratio, 0.25);
    }

    #[test]
    fn the_base_line_can_be_named() {
        let mut line = line(false);
        line.baseline = Some("limit".to_owned());
        line.compare().unwrap();
        assert_eq!(line.ours().unwrap().ratio, 0.75);
        line.baseline = Some("nobody".to_owned());
        assert!(line.compare().is_err());
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
