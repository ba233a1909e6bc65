//! What a crate keeps of a comparison, in speed.json: every line and every contestant, without the
//! single rounds. Its chart and the figures of the READMEs are made of nothing else.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::report::{self, Report, Role};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Speed {
    pub(crate) machine: String,
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) lines: Vec<Line>,
}

/// One piece of work.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) work: String,
    pub(crate) unit: String,
    pub(crate) less_is_better: bool,
    /// Whether the chart and the READMEs show it.
    pub(crate) headline: bool,
    pub(crate) rounds: usize,
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

impl Speed {
    pub(crate) fn of(report: &Report) -> Self {
        Self {
            machine: machine(&report.machine),
            versions: report.versions.clone(),
            lines: report
                .lines
                .iter()
                .map(|line| Line::of(line, report.headlines.contains(&line.name)))
                .collect(),
        }
    }

    pub(crate) fn read(json: &str) -> Result<Self> {
        serde_json::from_str(json).context("no comparison")
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

    /// Of each line: as often as the harness was told, a few only once.
    pub(crate) fn rounds(&self) -> usize {
        let rounds = self.lines.iter().map(|line| line.rounds);
        rounds.max().unwrap_or_default()
    }
}

impl Line {
    fn of(line: &report::Line, headline: bool) -> Self {
        let rounds = line.rows.iter().map(|row| row.rounds.len()).max();
        Self {
            work: line.name.clone(),
            unit: line.unit.clone(),
            less_is_better: line.less_is_better,
            headline,
            rounds: rounds.unwrap_or_default(),
            rows: line
                .rows
                .iter()
                .map(|row| Row {
                    name: row.name.clone(),
                    role: row.role,
                    median: rounded(row.median),
                    min: rounded(row.min),
                    max: rounded(row.max),
                    extras: row
                        .extras
                        .iter()
                        .map(|(name, figure)| (name.clone(), rounded(*figure)))
                        .collect(),
                })
                .collect(),
        }
    }

    /// Our row: the first with that role.
    pub(crate) fn ours(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.role == Role::Ours)
    }

    /// All that a user could take instead.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.role == Role::Peer)
    }

    /// What the backend was ported from.
    pub(crate) fn original(&self) -> Option<&Row> {
        self.peers().find(|row| row.name.starts_with("oslo.cache"))
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

    /// How many times better than `row` ours is, by the medians: who reads the figures gets the
    /// same.
    pub(crate) fn times(&self, row: &Row) -> f64 {
        let ours = self.ours().unwrap_or(row);
        if self.less_is_better {
            row.median / ours.median
        } else {
            ours.median / row.median
        }
    }

    /// What a user could take instead and would be best served by.
    pub(crate) fn best_peer(&self) -> Option<&Row> {
        self.best(Role::Peer)
    }

    /// What does the work and has none of the duties of a library.
    pub(crate) fn bare(&self) -> Option<&Row> {
        self.best(Role::Limit)
    }

    fn best(&self, role: Role) -> Option<&Row> {
        self.ranking().into_iter().find(|row| row.role == role)
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
}

/// Four digits that count: the fifth is noise.
fn rounded(figure: f64) -> f64 {
    format!("{figure:.3e}").parse().unwrap_or(figure)
}

/// `AMD EPYC, 2 cores, 24 GiB, Linux 6.18, rustc 1.95.0`.
fn machine(machine: &BTreeMap<String, String>) -> String {
    let said = |name: &str| machine.get(name).map(String::as_str);
    let words = |name: &str, count: usize| {
        let words: Vec<&str> = said(name)?.split_whitespace().take(count).collect();
        Some(words.join(" "))
    };
    let parts = [
        said("cpu").map(str::to_owned),
        said("cores").map(|cores| format!("{cores} cores")),
        said("memory").and_then(gibibytes),
        words("system", 2).map(|system| {
            // The version as far as it means something elsewhere: `Linux 6.18`.
            let parts: Vec<&str> = system.splitn(3, '.').take(2).collect();
            parts.join(".")
        }),
        words("rustc", 2),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

/// Of `24684084 kB`.
fn gibibytes(memory: &str) -> Option<String> {
    let kibibytes: u64 = memory.strip_suffix(" kB")?.trim().parse().ok()?;
    let mebibytes = kibibytes / 1024;
    Some(format!("{} GiB", (mebibytes + 512) / 1024))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two lines, the first of them a headline.
    pub(crate) fn example() -> Speed {
        let machine = BTreeMap::from([("cpu".to_owned(), "A & B".to_owned())]);
        let versions = BTreeMap::from([("moka".to_owned(), "0.12.1".to_owned())]);
        let mut report = Report::new("dict", machine, versions);
        report.headlines = vec!["get_multi <hot>".to_owned()];
        for name in ["get_multi <hot>", "set"] {
            let mut line = report::Line::new(name);
            for (name, role, rounds) in [
                ("cache-dict", Role::Ours, [1000.0, 2000.0, 123_456.0]),
                ("moka", Role::Peer, [500.0, 1000.0, 1000.0]),
                ("oslo.cache<X>", Role::Peer, [10.0, 10.0, 10.0]),
                ("bare", Role::Limit, [4000.0, 4000.0, 4000.0]),
            ] {
                let row = report::Row::new(name.to_owned(), role, rounds.into(), BTreeMap::new());
                line.rows.push(row);
            }
            line.compare().unwrap();
            report.lines.push(line);
        }
        Speed::of(&report)
    }

    #[test]
    fn ratios_are_those_of_the_medians() {
        let speed = example();
        let line = speed.shown().next().unwrap();
        assert_eq!(line.best_peer().unwrap().name, "moka");
        assert!((line.times(line.best_peer().unwrap()) - 2.0).abs() < 1e-9);
        assert!((line.times(line.bare().unwrap()) - 0.5).abs() < 1e-9);
        assert!((line.ours().unwrap().max - 123_500.0).abs() < 1e-9);
    }

    #[test]
    fn headlines_are_shown_and_without_any_all() {
        let mut speed = example();
        assert_eq!(speed.shown().count(), 1);
        assert_eq!(speed.ours(), "cache-dict");
        speed.lines.remove(0);
        assert_eq!(speed.shown().count(), 1);
        assert!(speed.shown().all(|line| line.work == "set"));
    }

    #[test]
    fn json_has_a_line_for_each_contestant_and_reads_back() {
        let json = example().json().unwrap();
        // The machine, the versions, the word `lines`, two lines of work with four rows each.
        assert_eq!(json.lines().count(), 3 + 2 * (1 + 4), "{json}");
        assert_eq!(Speed::read(&json).unwrap().json().unwrap(), json);
    }

    #[test]
    fn less_is_better_turns_the_ranking_and_the_ratios_around() {
        let mut line = report::Line::new("memory");
        line.less_is_better = true;
        for (name, role, figure) in [("a", Role::Ours, 50.0), ("b", Role::Peer, 100.0)] {
            let row = report::Row::new(name.to_owned(), role, vec![figure], BTreeMap::new());
            line.rows.push(row);
        }
        let line = Line::of(&line, true);
        assert_eq!(line.ranking().first().unwrap().name, "a");
        assert!((line.times(line.best_peer().unwrap()) - 2.0).abs() < 1e-9);
        assert_eq!(line.measure(), "op/s, less is better, measured once");
    }

    #[test]
    fn machines_in_short() {
        let said = [
            ("cpu", "AMD EPYC"),
            ("cores", "2"),
            ("memory", "24684084 kB"),
            ("rustc", "rustc 1.95.0 (59807616e 2026-04-14)"),
            ("system", "Linux 6.18.44-x"),
        ];
        let said = said.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            machine(&BTreeMap::from(said)),
            "AMD EPYC, 2 cores, 24 GiB, Linux 6.18, rustc 1.95.0"
        );
    }
}
