//! The bench harness: contestants take turns, round by round, so that a noisy machine is noisy for
//! all of them; medians and ratios are what counts.
//!
//! ```text
//! let mut bench = Bench::new("dict", &["moka", "quick_cache"])?;    // versions of these are noted
//! let mut line = bench.line("get, 1 M keys, 2 threads");            // op/s, more is better
//! line.goal(2.0);                                                   // × the best peer
//! line.contestant("cache-dict", Role::Ours, || { …; Ok(Sample::operations(n, elapsed)) });
//! line.contestant("moka", Role::Peer, || Ok(Sample::operations(n, elapsed).with("p99.9 µs", p)));
//! line.run()?;                                                      // measures; prints the line
//! let mut line = bench.line("memory, 1 M entries");
//! line.less_is_better("bytes/entry").rounds(1);
//! …
//! bench.headlines(&["get, 1 M keys, 2 threads"]);                   // what the READMEs show
//! bench.finish()?;                                                  // target/bench/dict.{json,svg}
//! ```
//! An asynchronous contestant enters its runtime by itself: `|| runtime.block_on(work())`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::report::{Line as LineReport, Report, Row, median};
use super::{chart, machine};

pub(crate) use super::report::Role;

/// Of fewer rounds a median says nothing.
const FEWEST_ROUNDS: usize = 3;

/// What one contestant did in one round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    figure: f64,
    extras: BTreeMap<String, f64>,
}

impl Sample {
    /// Throughput: so many operations (or keys, for the multi operations) took so long.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn operations(count: u64, elapsed: Duration) -> Self {
        Self::figure(count as f64 / elapsed.as_secs_f64().max(1e-9))
    }

    /// Any other figure, in the unit of the line.
    pub(crate) fn figure(figure: f64) -> Self {
        Self {
            figure,
            extras: BTreeMap::new(),
        }
    }

    /// A further figure, in a column of its own: `with("p99.9 µs", 12.5)`.
    pub(crate) fn with(mut self, name: &str, figure: f64) -> Self {
        self.extras.insert(name.to_owned(), figure);
        self
    }
}

/// One comparison: several lines, one report.
pub(crate) struct Bench {
    name: String,
    rounds: usize,
    headlines: Vec<String>,
    /// Lines or contestants were left out.
    partial: bool,
    report: Report,
}

impl Bench {
    /// `name` is that of the file under target/bench/; `crates` are those whose versions, as
    /// locked, belong into the report.
    pub(crate) fn new(name: &str, crates: &[&str]) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            rounds: 7,
            headlines: Vec::new(),
            partial: false,
            report: Report {
                machine: machine::describe(),
                versions: machine::versions(crates)?,
                unpublishable: Some("the run was interrupted".to_owned()),
                lines: Vec::new(),
            },
        })
    }

    /// The version of something other than a crate: a server, a Python package.
    pub(crate) fn version(&mut self, name: &str, version: &str) -> &mut Self {
        let versions = &mut self.report.versions;
        versions.insert(name.to_owned(), version.trim().to_owned());
        self
    }

    /// Rounds of each line, 7 unless said otherwise; `--rounds` of the command line comes here.
    pub(crate) fn rounds(&mut self, rounds: usize) -> &mut Self {
        self.rounds = rounds.max(1);
        self
    }

    /// The lines that charts and READMEs show, by name.
    pub(crate) fn headlines(&mut self, lines: &[&str]) -> &mut Self {
        self.headlines = lines.iter().map(|&line| line.to_owned()).collect();
        self
    }

    /// Lines or contestants are left out, so this must not be published.
    pub(crate) fn partial(&mut self) -> &mut Self {
        self.partial = true;
        self
    }

    /// A new line: one piece of work for all contestants, by default throughput in op/s.
    pub(crate) fn line<'a>(&'a mut self, name: &str) -> Line<'a> {
        Line {
            report: LineReport {
                work: name.to_owned(),
                unit: "op/s".to_owned(),
                headline: self.headlines.iter().any(|headline| headline == name),
                rounds: self.rounds,
                ..LineReport::default()
            },
            beside_the_goal: Vec::new(),
            contestants: Vec::new(),
            to: self,
        }
    }

    /// Says which goals were missed, writes the report, and draws it.
    pub(crate) fn finish(mut self) -> Result<()> {
        let measured = |name: &&String| self.report.lines.iter().any(|line| line.work == **name);
        self.report.unpublishable = match self.headlines.iter().find(|name| !measured(name)) {
            Some(headline) => Some(format!("`{headline}` was not measured")),
            None if self.partial => Some("only a part was measured".to_owned()),
            None if self.rounds < FEWEST_ROUNDS => {
                Some(format!("it takes {FEWEST_ROUNDS} rounds or more"))
            }
            None => None,
        };
        self.save()?;
        let json = Report::measured(&self.name);
        let svg = json.with_extension("svg");
        fs::write(&svg, chart::draw(&self.report))
            .with_context(|| format!("cannot write {}", svg.display()))?;
        println!(
            "{}{}\n{}",
            self.report.goals(),
            json.display(),
            svg.display()
        );
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let path = Report::measured(&self.name);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(&path, self.report.json()?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

type Round<'a> = Box<dyn FnMut() -> Result<Sample> + 'a>;

/// One piece of work and those who do it.
pub(crate) struct Line<'a> {
    to: &'a mut Bench,
    report: LineReport,
    beside_the_goal: Vec<String>,
    contestants: Vec<(String, Role, Round<'a>)>,
}

impl<'a> Line<'a> {
    /// Throughput in something else than op/s: `keys/s`.
    pub(crate) fn unit(&mut self, unit: &str) -> &mut Self {
        unit.clone_into(&mut self.report.unit);
        self
    }

    /// A figure of which less is better, such as `µs` or `bytes/entry`.
    pub(crate) fn less_is_better(&mut self, unit: &str) -> &mut Self {
        unit.clone_into(&mut self.report.unit);
        self.report.less_is_better = true;
        self
    }

    /// Ratios are to this contestant. Without it they are to the best peer (without peers, to the
    /// limit; without a limit, to the first contestant).
    pub(crate) fn baseline(&mut self, name: &str) -> &mut Self {
        name.clone_into(&mut self.report.base);
        self
    }

    /// What our ratio has to be. Ratios are speed-ups: 2.0 is twice as good, whichever way the
    /// unit counts.
    pub(crate) fn goal(&mut self, ratio: f64) -> &mut Self {
        self.report.goal = Some(ratio);
        self
    }

    /// Peers that the goal, and so the ratios, are not about.
    pub(crate) fn beside_the_goal(&mut self, names: &[&str]) -> &mut Self {
        self.beside_the_goal = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Rounds of this line alone.
    pub(crate) fn rounds(&mut self, rounds: usize) -> &mut Self {
        self.report.rounds = rounds.max(1);
        self
    }

    /// Adds a contestant. `round` does the work once, and measures only what is to be compared:
    /// preparing and cleaning up stay outside of what it reports.
    pub(crate) fn contestant(
        &mut self,
        name: &str,
        role: Role,
        round: impl FnMut() -> Result<Sample> + 'a,
    ) -> &mut Self {
        self.contestants
            .push((name.to_owned(), role, Box::new(round)));
        self
    }

    /// Measures: one unmeasured round each, to warm up, then the rounds. Prints the line.
    pub(crate) fn run(self) -> Result<()> {
        let Self {
            to,
            mut report,
            beside_the_goal,
            mut contestants,
        } = self;
        let rounds = report.rounds;
        let warm_up = usize::from(rounds > 1);
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); contestants.len()];
        for round in 0..rounds + warm_up {
            let mut turns: Vec<_> = contestants.iter_mut().zip(&mut samples).collect();
            // Each round begins with another contestant, so that none is always the first.
            let first = round % turns.len().max(1);
            turns.rotate_left(first);
            for ((name, _, work), samples) in turns {
                show(&format!("{}: round {round}/{rounds}, {name}", report.work));
                let sample = work().with_context(|| format!("{}: {name}", report.work))?;
                if round >= warm_up {
                    samples.push(sample);
                }
            }
        }
        show("");
        for ((name, role, _), samples) in contestants.iter().zip(&samples) {
            report.rows.push(row(name, *role, samples));
        }
        if report.base.is_empty() {
            let counts =
                |row: &&&Row, role| row.role == role && !beside_the_goal.contains(&row.name);
            let ranking = report.ranking();
            let base = [Role::Peer, Role::Limit, Role::Ours]
                .into_iter()
                .find_map(|role| ranking.iter().find(|row| counts(row, role)));
            report.base = base.map(|row| row.name.clone()).unwrap_or_default();
        }
        if !report.rows.iter().any(|row| row.name == report.base) {
            bail!(
                "{}: no contestant `{}` to compare with",
                report.work,
                report.base
            );
        }
        print!("{}", report.table());
        to.report.lines.push(report);
        // A run that is interrupted, or fails on a later line, keeps what it has measured.
        to.save()
    }
}

fn row(name: &str, role: Role, samples: &[Sample]) -> Row {
    let mut extras: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, figure) in samples.iter().flat_map(|sample| &sample.extras) {
        extras.entry(name.clone()).or_default().push(*figure);
    }
    let extras = extras
        .into_iter()
        .map(|(name, figures)| (name, median(&figures)));
    let rounds: Vec<f64> = samples.iter().map(|sample| sample.figure).collect();
    Row::new(name, role, &rounds, extras.collect())
}

fn show(text: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let _ = write!(terminal, "\r\x1b[K\x1b[2m{text}\x1b[0m");
        let _ = terminal.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn bench(name: &str, rounds: usize) -> Bench {
        let mut bench = Bench::new(name, &[]).unwrap();
        bench.rounds(rounds);
        bench
    }

    fn remove(bench: &Bench) {
        fs::remove_file(Report::measured(&bench.name)).unwrap();
    }

    #[test]
    fn contestants_take_turns_and_the_first_changes() {
        let order = RefCell::new(String::new());
        let mut bench = bench("test-turns", 2);
        let mut line = bench.line("work");
        for name in ["a", "b"] {
            let order = &order;
            line.contestant(name, Role::Peer, move || {
                order.borrow_mut().push_str(name);
                Ok(Sample::figure(1.0))
            });
        }
        line.run().unwrap();
        // The first two warm up.
        assert_eq!(*order.borrow(), "abbaab");
        remove(&bench);
    }

    #[test]
    fn the_base_is_the_best_peer_that_counts_unless_it_is_named() {
        let mut bench = bench("test-base", 1);
        let mut run = |change: &dyn Fn(&mut Line<'_>)| {
            let mut line = bench.line("work");
            for (name, role, figure) in [
                ("ours", Role::Ours, 30.0),
                ("slow", Role::Peer, 10.0),
                ("fast", Role::Peer, 20.0),
                ("limit", Role::Limit, 40.0),
            ] {
                line.contestant(name, role, move || Ok(Sample::figure(figure)));
            }
            change(&mut line);
            line.run()?;
            Ok(bench.report.lines.pop().unwrap().base) as Result<String>
        };
        assert_eq!(run(&|_| ()).unwrap(), "fast");
        let slower = run(&|line| {
            line.beside_the_goal(&["fast"]);
        });
        assert_eq!(slower.unwrap(), "slow");
        let less = run(&|line| {
            line.less_is_better("ns");
        });
        assert_eq!(less.unwrap(), "slow");
        let named = run(&|line| {
            line.baseline("limit");
        });
        assert_eq!(named.unwrap(), "limit");
        let unknown = run(&|line| {
            line.baseline("nobody");
        });
        assert!(unknown.is_err());
        remove(&bench);
    }

    #[test]
    fn a_part_is_not_published() {
        let refused = |rounds, headline, partial| {
            let name = format!("test-part-{rounds}-{headline}-{partial}");
            let mut bench = bench(&name, rounds);
            bench.headlines(&[headline]).partial = partial;
            let mut line = bench.line("get");
            line.contestant("a", Role::Ours, || Ok(Sample::figure(1.0)));
            line.run().unwrap();
            bench.finish().unwrap();
            let path = Report::measured(&name);
            let report = Report::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::remove_file(path.with_extension("svg")).unwrap();
            report.unpublishable.unwrap_or_default()
        };
        assert_eq!(refused(3, "get", false), "");
        assert_eq!(refused(2, "get", false), "it takes 3 rounds or more");
        assert_eq!(refused(3, "set", false), "`set` was not measured");
        assert_eq!(refused(3, "get", true), "only a part was measured");
    }

    #[test]
    fn throughput_is_operations_a_second() {
        let sample = Sample::operations(500, Duration::from_millis(250)).with("p99 µs", 3.0);
        assert!((sample.figure - 2000.0).abs() < 1e-6);
        assert!((sample.extras["p99 µs"] - 3.0).abs() < 1e-6);
    }

    #[test]
    fn a_contestant_that_fails_is_named() {
        let mut bench = bench("test-fails", 1);
        let mut line = bench.line("work");
        line.contestant("broken", Role::Peer, || bail!("no server"));
        let error = format!("{:#}", line.run().unwrap_err());
        assert_eq!(error, "work: broken: no server");
    }
}
