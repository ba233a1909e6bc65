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

use super::report::{Line as LineReport, Report, Row};
use super::speed::Speed;
use super::{chart, machine, table};

pub(crate) use super::report::Role;

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
    report: Report,
    /// Somebody has left out a part.
    partial: bool,
}

impl Bench {
    /// `name` is that of the file under target/bench/; `crates` are those whose versions, as
    /// locked, belong into the report.
    pub(crate) fn new(name: &str, crates: &[&str]) -> Result<Self> {
        let mut report = Report::new(name, machine::describe(), machine::versions(crates)?);
        report.rounds = 7;
        Ok(Self {
            report,
            partial: false,
        })
    }

    /// The version of something that is no crate: a server, a Python package.
    pub(crate) fn version(&mut self, name: &str, version: &str) -> &mut Self {
        let versions = &mut self.report.versions;
        versions.insert(name.to_owned(), version.trim().to_owned());
        self
    }

    /// Rounds of each line, 7 unless said otherwise; `--rounds` of the command line comes here.
    pub(crate) fn rounds(&mut self, rounds: usize) -> &mut Self {
        self.report.rounds = rounds.max(1);
        self
    }

    /// The lines that charts and READMEs show, by name.
    pub(crate) fn headlines(&mut self, lines: &[&str]) -> &mut Self {
        self.report.headlines = lines.iter().map(|&line| line.to_owned()).collect();
        self
    }

    /// Lines or contestants are left out: this is not to be published.
    pub(crate) fn partial(&mut self) -> &mut Self {
        self.partial = true;
        self
    }

    /// A new line: one piece of work for all contestants, by default throughput in op/s.
    pub(crate) fn line<'a>(&'a mut self, name: &str) -> Line<'a> {
        Line {
            rounds: self.report.rounds,
            report: LineReport::new(name),
            contestants: Vec::new(),
            to: &mut self.report,
        }
    }

    /// Says which goals were missed, writes the report, and draws it.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.report.complete = !self.partial;
        self.report.save()?;
        print!("{}", table::goals(&self.report));
        let json = self.report.path();
        let svg = json.with_extension("svg");
        fs::write(&svg, chart::draw(&Speed::of(&self.report)))
            .with_context(|| format!("cannot write {}", svg.display()))?;
        println!("{}\n{}", json.display(), svg.display());
        Ok(())
    }
}

type Round<'a> = Box<dyn FnMut() -> Result<Sample> + 'a>;

/// One piece of work and those who do it.
pub(crate) struct Line<'a> {
    to: &'a mut Report,
    report: LineReport,
    rounds: usize,
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
        self.report.baseline = Some(name.to_owned());
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
        self.report.beside_the_goal = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Rounds of this line alone.
    pub(crate) fn rounds(&mut self, rounds: usize) -> &mut Self {
        self.rounds = rounds.max(1);
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
            rounds,
            mut contestants,
        } = self;
        if contestants.is_empty() {
            bail!("{}: nobody takes part", report.name);
        }
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); contestants.len()];
        let warm_up = usize::from(rounds > 1);
        for round in 0..rounds + warm_up {
            // Each round begins with another contestant, so that none is always the first.
            for turn in 0..contestants.len() {
                let index = (turn + round) % contestants.len();
                let Some((name, _, work)) = contestants.get_mut(index) else {
                    continue;
                };
                show(&format!("{}: round {round}/{rounds}, {name}", report.name));
                let sample = work().with_context(|| format!("{}: {name}", report.name))?;
                if round >= warm_up
                    && let Some(samples) = samples.get_mut(index)
                {
                    samples.push(sample);
                }
            }
        }
        show("");
        for ((name, role, _), samples) in contestants.into_iter().zip(samples) {
            report.rows.push(row(name, role, samples));
        }
        report.compare()?;
        print!("{}", table::line(&report));
        to.lines.push(report);
        // A run that is interrupted, or fails on a later line, keeps what it has measured.
        to.save()
    }
}

fn row(name: String, role: Role, samples: Vec<Sample>) -> Row {
    let mut extras: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut rounds = Vec::new();
    for sample in samples {
        rounds.push(sample.figure);
        for (name, figure) in sample.extras {
            extras.entry(name).or_default().push(figure);
        }
    }
    let extras = extras
        .into_iter()
        .map(|(name, figures)| (name, super::report::median(&figures)))
        .collect();
    Row::new(name, role, rounds, extras)
}

fn show(text: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let _ = write!(terminal, "\r\x1b[K\x1b[2m{text}\x1b[0m");
        let _ = terminal.flush();
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // Small whole numbers and quarters are exact.
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn contestants_take_turns_and_the_first_changes() {
        let order = RefCell::new(String::new());
        let mut report = Report::new("test-turns", BTreeMap::new(), BTreeMap::new());
        let mut bench = Line {
            rounds: 2,
            report: LineReport::new("work"),
            contestants: Vec::new(),
            to: &mut report,
        };
        for name in ["a", "b"] {
            let order = &order;
            bench.contestant(name, Role::Peer, move || {
                order.borrow_mut().push_str(name);
                Ok(Sample::figure(1.0))
            });
        }
        bench.run().unwrap();
        // The first two warm up.
        assert_eq!(*order.borrow(), "abbaab");
        assert_eq!(report.lines[0].rows[0].rounds.len(), 2);
        fs::remove_file(report.path()).unwrap();
    }

    #[test]
    fn throughput_is_operations_a_second() {
        let sample = Sample::operations(500, Duration::from_millis(250)).with("p99 µs", 3.0);
        assert!((sample.figure - 2000.0).abs() < 1e-6);
        assert_eq!(sample.extras["p99 µs"], 3.0);
    }

    #[test]
    fn a_contestant_that_fails_is_named() {
        let mut report = Report::new("test-fails", BTreeMap::new(), BTreeMap::new());
        let mut line = Line {
            rounds: 1,
            report: LineReport::new("work"),
            contestants: Vec::new(),
            to: &mut report,
        };
        line.contestant("broken", Role::Peer, || bail!("no server"));
        let error = format!("{:#}", line.run().unwrap_err());
        assert_eq!(error, "work: broken: no server");
    }
}
