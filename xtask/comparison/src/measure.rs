//! Runs contestants in interleaved rounds, so that noise on the machine affects all of them alike.
//! Results are medians and ratios of medians.
//!
//! ```text
//! let mut bench = Bench::new("dict", options, HEADLINES, &["moka", "quick_cache"])?;
//! let line = Line { goal: Some(2.0), ..Line::new("get, 1 M keys, 2 threads") };
//! let ours = Contestant::new("cache-dict", Role::Ours, || Ok(Sample::operations(n, elapsed)));
//! bench.compare(line, vec![ours, peer])?;                   // measures and prints the line
//! bench.finish()?;                                          // target/bench/dict.{json,svg}
//! ```
//! An asynchronous contestant brings its own runtime: `|| runtime.block_on(work())`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use indicatif::ProgressBar;

use super::report::{Line, Report, Role, Row};
use super::{chart, machine};

/// With fewer rounds, a median is meaningless.
const FEWEST_ROUNDS: usize = 3;

/// Prints a table and writes JSON and a chart to target/bench/.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench NAME")]
pub struct Measure {
    /// The number of measured rounds
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Measures only lines whose name contains this; repeatable
    #[arg(long)]
    pub only: Vec<String>,
    /// Skips lines whose name contains this; repeatable
    #[arg(long)]
    pub except: Vec<String>,
    /// The length of a turn, for the memcached and etcd clients
    #[arg(long, default_value_t = 0.7)]
    pub seconds: f64,
    /// Skips the Python clients
    #[arg(long)]
    pub without_python: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// The result of one contestant in one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The figure, in the line's unit.
    pub figure: f64,
    extras: BTreeMap<&'static str, f64>,
}

impl Sample {
    /// Throughput: `count` operations (keys, for multi operations) in `elapsed`.
    #[allow(clippy::cast_precision_loss)]
    pub fn operations(count: u64, elapsed: Duration) -> Self {
        Self::figure(count as f64 / elapsed.as_secs_f64().max(1e-9))
    }

    /// Mean latency: nanoseconds per operation.
    #[allow(clippy::cast_precision_loss)]
    pub fn nanoseconds(count: u64, elapsed: Duration) -> Self {
        Self::figure(elapsed.as_nanos() as f64 / count as f64)
    }

    /// Any other figure, in the line's unit.
    pub fn figure(figure: f64) -> Self {
        let extras = BTreeMap::new();
        Self { figure, extras }
    }

    /// Adds a figure in a separate column: `with("p99.9 µs", 12.5)`.
    #[must_use]
    pub fn with(mut self, name: &'static str, figure: f64) -> Self {
        self.extras.insert(name, figure);
        self
    }
}

/// The given per-mille quantile of `times`; 1000 is the maximum.
pub fn per_mille(times: &mut [Duration], thousandths: usize) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let time = times.get(last * thousandths / 1000);
    time.copied().unwrap_or_default()
}

/// One implementation of a line's work. Each call of `round` is one round; its [`Sample`] must not
/// include setup and cleanup.
pub struct Contestant<'a> {
    name: String,
    role: Role,
    round: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

impl<'a> Contestant<'a> {
    /// Creates a contestant whose rounds `round` runs.
    pub fn new(
        name: impl Into<String>,
        role: Role,
        round: impl FnMut() -> Result<Sample> + 'a,
    ) -> Self {
        let (name, round) = (name.into(), Box::new(round));
        Self { name, role, round }
    }
}

/// A comparison: several lines in one report.
pub struct Bench<'a> {
    name: &'static str,
    options: &'a Measure,
    headlines: &'a [&'a str],
    report: Report,
}

impl<'a> Bench<'a> {
    /// `name` is the file stem under target/bench/. Charts and READMEs show only `headlines`. The
    /// report includes the locked versions of `crates`.
    pub fn new(
        name: &'static str,
        options: &'a Measure,
        headlines: &'a [&'a str],
        crates: &[&str],
    ) -> Result<Self> {
        let report = Report {
            machine: machine::describe(),
            versions: machine::versions(crates)?,
            unpublishable: Some("the run was interrupted".to_owned()),
            lines: Vec::new(),
        };
        Ok(Self {
            name,
            options,
            headlines,
            report,
        })
    }

    /// Records the version of something other than a crate: a server, a Python package.
    pub fn version(&mut self, name: &str, version: &str) {
        let versions = &mut self.report.versions;
        versions.insert(name.to_owned(), version.trim().to_owned());
    }

    /// Whether the options select this line.
    pub fn wants(&self, work: &str) -> bool {
        let Measure { only, except, .. } = self.options;
        let has = |part: &String| work.contains(part);
        (only.is_empty() || only.iter().any(has)) && !except.iter().any(has)
    }

    /// Measures and prints the line if it is selected. With more than one round, a warm-up round
    /// comes first.
    pub fn compare(&mut self, mut line: Line, mut contestants: Vec<Contestant<'_>>) -> Result<()> {
        if !self.wants(&line.work) {
            return Ok(());
        }
        if line.rounds == 0 {
            line.rounds = self.options.rounds.max(1);
        }
        line.headline = self.headlines.contains(&line.work.as_str());
        let (work, rounds) = (line.work.clone(), line.rounds);
        let warm_up = usize::from(rounds > 1);
        let progress = ProgressBar::new_spinner();
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); contestants.len()];
        for round in 0..rounds + warm_up {
            let mut turns: Vec<_> = contestants.iter_mut().zip(&mut samples).collect();
            // Rotate the order so that no contestant always goes first, and reverse it every other
            // time so that none always follows the same one, which leaves the machine in some state.
            let first = round / 2 % turns.len().max(1);
            turns.rotate_left(first);
            if round % 2 == 1 {
                turns.reverse();
            }
            for (contestant, samples) in turns {
                let name = &contestant.name;
                progress.set_message(format!("{work}: round {round}/{rounds}, {name}"));
                let sample = (contestant.round)().with_context(|| format!("{work}: {name}"))?;
                if round >= warm_up {
                    samples.push(sample);
                }
            }
        }
        progress.finish_and_clear();
        let rows = contestants.iter().zip(&samples);
        line.rows = rows.map(|(of, samples)| row(of, samples)).collect();
        line.choose_base();
        if line.row(&line.base).is_none() {
            bail!("{work}: no contestant `{}` to compare with", line.base);
        }
        print!("{}", line.table());
        self.report.lines.push(line);
        // Write after each line, so that an interrupted or failed run keeps its results.
        self.report.write(&Report::measured(self.name))
    }

    /// Writes the report and its chart, and prints which goals were met.
    pub fn finish(mut self) -> Result<()> {
        let measured = |name: &&&str| self.report.lines.iter().any(|line| line.work == **name);
        let Measure { only, except, .. } = self.options;
        let is_whole = only.is_empty() && except.is_empty() && !self.options.without_python;
        self.report.unpublishable = match self.headlines.iter().find(|name| !measured(name)) {
            Some(headline) => Some(format!("`{headline}` was not measured")),
            None if !is_whole => Some("only a part was measured".to_owned()),
            None if self.options.rounds < FEWEST_ROUNDS => {
                Some(format!("it takes {FEWEST_ROUNDS} rounds or more"))
            }
            None => None,
        };
        let json = Report::measured(self.name);
        self.report.write(&json)?;
        let svg = json.with_extension("svg");
        fs::write(&svg, chart::draw(&self.report))
            .with_context(|| format!("cannot write {}", svg.display()))?;
        print!("{}", self.report.goals());
        println!("{}\n{}", json.display(), svg.display());
        Ok(())
    }
}

fn row(contestant: &Contestant<'_>, samples: &[Sample]) -> Row {
    let rounds: Vec<f64> = samples.iter().map(|sample| sample.figure).collect();
    let mut row = Row::new(&contestant.name, contestant.role, &rounds);
    let extras = samples.iter().flat_map(|sample| sample.extras.keys());
    for name in extras.collect::<BTreeSet<_>>() {
        let rounds = samples.iter().filter_map(|sample| sample.extras.get(name));
        row.add(name, &rounds.copied().collect::<Vec<f64>>());
    }
    row
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn options(rounds: usize, only: &[&str]) -> Measure {
        Measure {
            rounds,
            only: only.iter().map(|&part| part.to_owned()).collect(),
            except: only.iter().map(|_| "50 ms".to_owned()).collect(),
            seconds: 1.0,
            without_python: false,
            bench: true,
        }
    }

    fn figure(name: &str, role: Role, figure: f64) -> Contestant<'static> {
        Contestant::new(name, role, move || Ok(Sample::figure(figure)))
    }

    fn remove(bench: &Bench<'_>) {
        fs::remove_file(Report::measured(bench.name)).unwrap();
    }

    #[test]
    fn contestants_take_turns_in_changing_order() {
        let order = RefCell::new(String::new());
        let options = options(2, &[]);
        let mut bench = Bench::new("test-turns", &options, &[], &[]).unwrap();
        let contestants = ["a", "b", "c"].map(|name| {
            let order = &order;
            Contestant::new(name, Role::Peer, move || {
                order.borrow_mut().push_str(name);
                Ok(Sample::figure(1.0))
            })
        });
        bench
            .compare(Line::new("work"), contestants.into())
            .unwrap();
        // The first three turns are the warm-up round.
        assert_eq!(*order.borrow(), "abccbabca");
        remove(&bench);
    }

    #[test]
    fn base_defaults_to_the_best_eligible_peer() {
        let options = options(1, &[]);
        let mut bench = Bench::new("test-base", &options, &[], &[]).unwrap();
        let mut base = |line: Line| {
            let contestants = [
                ("ours", Role::Ours, 30.0),
                ("slow", Role::Peer, 10.0),
                ("fast", Role::Peer, 20.0),
                ("limit", Role::Limit, 40.0),
            ];
            let contestants = contestants.map(|(name, role, of)| figure(name, role, of));
            bench.compare(line, contestants.into())?;
            anyhow::Ok(bench.report.lines.pop().unwrap().base)
        };
        assert_eq!(base(Line::new("work")).unwrap(), "fast");
        let excluded_from_goal = "fast";
        let slower = Line {
            excluded_from_goal,
            ..Line::new("work")
        };
        assert_eq!(base(slower).unwrap(), "slow");
        assert_eq!(
            base(Line::new("work").less_is_better("ns")).unwrap(),
            "slow"
        );
        assert_eq!(base(Line::new("work").base("limit")).unwrap(), "limit");
        assert!(base(Line::new("work").base("nobody")).is_err());
        remove(&bench);
    }

    #[test]
    fn partial_runs_are_unpublishable() {
        let refused = |name, rounds, headline, only: &[&str]| {
            let options = options(rounds, only);
            let headlines = [headline];
            let mut bench = Bench::new(name, &options, &headlines, &[]).unwrap();
            let get = vec![figure("a", Role::Ours, 1.0)];
            bench.compare(Line::new("get"), get).unwrap();
            bench.finish().unwrap();
            let path = Report::measured(name);
            let report = Report::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::remove_file(path.with_extension("svg")).unwrap();
            report.unpublishable.unwrap_or_default()
        };
        assert_eq!(refused("test-whole", 3, "get", &[]), "");
        let few = refused("test-few", 2, "get", &[]);
        assert_eq!(few, "it takes 3 rounds or more");
        let missing = refused("test-missing", 3, "set", &[]);
        assert_eq!(missing, "`set` was not measured");
        let part = refused("test-part", 3, "get", &["ge"]);
        assert_eq!(part, "only a part was measured");
    }

    #[test]
    fn unselected_lines_are_not_measured() {
        let options = options(1, &["set", "1 k"]);
        let mut bench = Bench::new("test-only", &options, &[], &[]).unwrap();
        assert!(bench.wants("get, 1 k keys") && bench.wants("set"));
        assert!(!bench.wants("set, 50 ms"));
        let never = Contestant::new("a", Role::Ours, || bail!("it was measured"));
        bench
            .compare(Line::new("get, 1 M keys"), vec![never])
            .unwrap();
        assert!(bench.report.lines.is_empty());
    }

    #[test]
    fn samples() {
        let sample = Sample::operations(500, Duration::from_millis(250)).with("p99 µs", 3.0);
        assert!((sample.figure - 2000.0).abs() < 1e-6);
        assert!((sample.extras["p99 µs"] - 3.0).abs() < 1e-6);
        let each = Sample::nanoseconds(4, Duration::from_nanos(10));
        assert!((each.figure - 2.5).abs() < 1e-6);
        let mut times: Vec<Duration> = (0..=1000).rev().map(Duration::from_millis).collect();
        assert_eq!(per_mille(&mut times, 999), Duration::from_millis(999));
        assert_eq!(per_mille(&mut [], 990), Duration::ZERO);
    }

    #[test]
    fn error_names_the_failing_contestant() {
        let options = options(1, &[]);
        let mut bench = Bench::new("test-fails", &options, &[], &[]).unwrap();
        let broken = Contestant::new("broken", Role::Peer, || bail!("no server"));
        let error = bench.compare(Line::new("work"), vec![broken]).unwrap_err();
        assert_eq!(format!("{error:#}"), "work: broken: no server");
    }
}
