//! Numbered steps with their times, on the terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process;

/// One step: what it is called, and what it does.
pub(crate) struct Step<'a> {
    pub(crate) title: String,
    action: Action<'a>,
}

enum Action<'a> {
    /// Prints for itself, as the tests do.
    Loud(Box<dyn FnOnce() -> Result<()> + 'a>),
    /// Shows its last line while it runs and everything when it fails. Returns a short remark.
    Quiet(Quiet<'a>),
}

type Quiet<'a> = Box<dyn FnOnce(&Live) -> Result<String> + 'a>;

impl<'a> Step<'a> {
    /// A step that says nothing unless it fails. What it returns stands behind its title.
    pub(crate) fn quiet(
        title: impl Into<String>,
        action: impl FnOnce(&Live) -> Result<String> + 'a,
    ) -> Self {
        Self {
            title: title.into(),
            action: Action::Quiet(Box::new(action)),
        }
    }

    /// A command that says nothing unless it fails.
    pub(crate) fn command(title: impl Into<String>, mut command: Command) -> Self {
        Self::quiet(title, move |live| {
            live.run(&mut command)?;
            Ok(String::new())
        })
    }

    /// A step whose output is what one wants to see.
    pub(crate) fn loud(title: impl Into<String>, action: impl FnOnce() -> Result<()> + 'a) -> Self {
        Self {
            title: title.into(),
            action: Action::Loud(Box::new(action)),
        }
    }
}

/// The line on which a running step shows what it is at.
pub(crate) struct Live {
    heading: String,
    started: Instant,
    is_terminal: bool,
}

impl Live {
    /// Shows `text` until the next call, if somebody is watching.
    pub(crate) fn show(&self, text: &str) {
        if self.is_terminal {
            let text: String = text.trim().chars().take(60).collect();
            let time = seconds(self.started.elapsed());
            eprint!("\r\x1b[K{} {time}  \x1b[2m{text}\x1b[0m", self.heading);
            let _ = std::io::stderr().flush();
        }
    }

    /// Runs a command, its last line shown as it goes; if it fails, all of its output is the error.
    pub(crate) fn run(&self, command: &mut Command) -> Result<process::Captured> {
        self.show(&process::shown(command));
        let captured = process::capture(command, |line| self.show(line))?;
        if !captured.status.success() {
            bail!(
                "$ {}\n{}({})",
                process::shown(command),
                captured.output,
                captured.status
            );
        }
        Ok(captured)
    }
}

/// Runs the steps in order and sums up.
///
/// # Errors
///
/// The first failure ends the run, unless `keep_going`. The output of a step that fails is shown.
pub(crate) fn run(steps: Vec<Step<'_>>, keep_going: bool) -> Result<()> {
    let started = Instant::now();
    let total = steps.len();
    let mut failed = Vec::new();
    let mut left = 0;
    for (index, step) in steps.into_iter().enumerate() {
        let title = step.title.clone();
        if let Err(error) = run_one(step, index + 1, total) {
            process::be_silent_if_interrupted();
            eprintln!("{error:#}\n");
            failed.push(title);
            if !keep_going {
                left = total - index - 1;
                break;
            }
        }
    }
    let time = seconds(started.elapsed());
    if failed.is_empty() {
        let steps = if total == 1 { "step" } else { "steps" };
        eprintln!("{total} {steps} passed in {}", time.trim());
        return Ok(());
    }
    let mut text = format!("failed after {}: {}", time.trim(), failed.join(", "));
    if left > 0 {
        let _ = write!(text, " ({left} later steps did not run)");
    }
    bail!(text)
}

fn run_one(step: Step<'_>, number: usize, total: usize) -> Result<()> {
    let width = total.to_string().len();
    let heading = format!("[{number:>width$}/{total}] {:<44}", step.title);
    let started = Instant::now();
    match step.action {
        Action::Loud(action) => {
            eprintln!("{heading}");
            let result = action();
            let word = if result.is_ok() { "passed" } else { "FAILED" };
            eprintln!("{heading} {}  {word}", seconds(started.elapsed()));
            result
        }
        Action::Quiet(action) => {
            let live = Live {
                heading: heading.clone(),
                started,
                is_terminal: std::io::stderr().is_terminal(),
            };
            live.show("");
            let result = action(&live);
            if live.is_terminal {
                eprint!("\r\x1b[K");
            }
            let time = seconds(started.elapsed());
            match &result {
                Ok(remark) => eprintln!("{heading} {time}  {remark}"),
                Err(_) => eprintln!("{heading} {time}  FAILED"),
            }
            result.map(|_| ())
        }
    }
}

/// `      4.2 s`, `2 min 03 s`: of one width, for a column.
pub(crate) fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    let text = if whole < 100 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    };
    format!("{text:>11}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        command
    }

    fn a_failure_and_a_step_behind_it(ran: &mut bool) -> Vec<Step<'_>> {
        vec![
            Step::command("one", shell("exit 1")),
            Step::loud("two", || {
                *ran = true;
                Ok(())
            }),
        ]
    }

    #[test]
    fn the_first_failure_ends_the_run() {
        let mut ran = false;
        let steps = a_failure_and_a_step_behind_it(&mut ran);
        let error = run(steps, false).unwrap_err().to_string();
        assert!(error.contains("one"), "{error}");
        assert!(error.contains("1 later steps did not run"), "{error}");
        assert!(!ran);
    }

    #[test]
    fn keep_going_runs_the_rest_and_still_fails() {
        let mut ran = false;
        let steps = a_failure_and_a_step_behind_it(&mut ran);
        let error = run(steps, true).unwrap_err().to_string();
        assert!(error.contains("one"), "{error}");
        assert!(!error.contains("two"), "{error}");
        assert!(ran);
    }

    #[test]
    fn a_failing_command_shows_its_output() {
        let live = Live {
            heading: String::new(),
            started: Instant::now(),
            is_terminal: false,
        };
        let error = live
            .run(&mut shell("echo why; exit 7"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("why") && error.contains('7'), "{error}");
    }

    #[test]
    fn times_are_of_one_width() {
        for time in [0, 9, 99, 100, 3599] {
            assert_eq!(seconds(Duration::from_secs(time)).len(), 11, "{time}");
        }
    }
}
