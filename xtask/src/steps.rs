//! Runs numbered steps, and shows the duration of each and the estimated time left.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::process;

/// A step with a title. Its action returns a short remark.
pub(crate) struct Step<'a> {
    pub(crate) title: String,
    action: Action<'a>,
}

type Action<'a> = Box<dyn FnOnce(&Live) -> Result<String> + 'a>;

impl<'a> Step<'a> {
    pub(crate) fn new(
        title: impl Into<String>,
        action: impl FnOnce(&Live) -> Result<String> + 'a,
    ) -> Self {
        Self {
            title: title.into(),
            action: Box::new(action),
        }
    }

    /// A step that runs a command and shows its output only if it fails.
    pub(crate) fn command(title: impl Into<String>, mut command: Command) -> Self {
        Self::new(title, move |live| {
            live.run(&mut command)?;
            Ok(String::new())
        })
    }
}

/// The status line of a running step. Hidden without a terminal.
pub(crate) struct Live(ProgressBar);

impl Live {
    fn new(heading: &str, rest: Option<Duration>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let rest = rest.map_or_else(String::new, |rest| format!(", about {} left", shown(rest)));
        let line = format!("{heading} {{elapsed}}{rest}  {{wide_msg:.dim}}");
        let style = ProgressStyle::with_template(&line);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_secs(1));
        Self(bar)
    }

    /// Shows `text` until the next call.
    pub(crate) fn show(&self, text: &str) {
        self.0.set_message(text.trim().to_owned());
    }

    /// Prints a line above the status line.
    pub(crate) fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    /// Runs a command, showing its latest line of output, and returns its output. If the command
    /// fails, the error contains the output.
    pub(crate) fn run(&self, command: &mut Command) -> Result<String> {
        self.show(&process::shown(command));
        let captured = process::capture(command, |line| self.show(line))?;
        if !captured.status.success() {
            let shown = process::shown(command);
            bail!("$ {shown}\n{}({})", captured.output, captured.status);
        }
        Ok(captured.output)
    }
}

/// The duration of each step when it last succeeded, kept across runs.
#[derive(Default)]
pub(crate) struct Times {
    file: PathBuf,
    seconds: BTreeMap<String, f64>,
}

impl Times {
    /// Reads the times from `file`; starts empty if it cannot be read.
    pub(crate) fn kept_in(file: PathBuf) -> Self {
        let text = fs::read(&file).unwrap_or_default();
        let seconds = serde_json::from_slice(&text).unwrap_or_default();
        Self { file, seconds }
    }

    pub(crate) fn of(&self, title: &str) -> Option<Duration> {
        let seconds = self.seconds.get(title)?;
        Duration::try_from_secs_f64(*seconds).ok()
    }

    pub(crate) fn set(&mut self, title: &str, time: Duration) {
        self.seconds.insert(title.to_owned(), time.as_secs_f64());
        // Without the file, only the estimates are missing.
        if let Ok(text) = serde_json::to_vec_pretty(&self.seconds) {
            let _ = fs::write(&self.file, text);
        }
    }
}

/// The outcome of a run of steps.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
    /// The number of steps skipped after a failure.
    pub(crate) not_run: usize,
}

/// Runs the steps in order, up to the first failure unless `keep_going` is set. Prints the errors.
pub(crate) fn run(steps: Vec<Step<'_>>, keep_going: bool, times: &mut Times) -> Outcome {
    let total = steps.len();
    let titles: Vec<String> = steps.iter().map(|step| step.title.clone()).collect();
    let width = total.to_string().len();
    let mut outcome = Outcome::default();
    for (index, step) in steps.into_iter().enumerate() {
        if !outcome.failed.is_empty() && !keep_going {
            outcome.not_run = total - index;
            break;
        }
        let Step { title, action } = step;
        let heading = format!("[{:>width$}/{total}] {title:<44}", index + 1);
        let rest: Option<Duration> = titles.iter().skip(index).map(|title| times.of(title)).sum();
        let started = Instant::now();
        let live = Live::new(&heading, rest);
        let result = action(&live);
        live.0.finish_and_clear();
        let time = shown(started.elapsed());
        match result {
            Ok(remark) => {
                eprintln!("{heading} {time:>12}  {remark}");
                times.set(&title, started.elapsed());
                outcome.passed += 1;
            }
            Err(error) => {
                eprintln!("{heading} {time:>12}  FAILED");
                process::wait_if_interrupted();
                eprintln!("{error:#}\n");
                outcome.failed.push(title);
            }
        }
    }
    outcome
}

impl Outcome {
    /// # Errors
    ///
    /// Lists the failed steps, if any.
    pub(crate) fn into_result(self) -> Result<()> {
        let rest = match self.not_run {
            0 => String::new(),
            rest => format!(" ({rest} later steps did not run)"),
        };
        let failed = self.failed.join(", ");
        ensure!(failed.is_empty(), "failed: {failed}{rest}");
        Ok(())
    }
}

/// Formats a duration: `4.2 s`, `2 min 03 s`.
pub(crate) fn shown(time: Duration) -> String {
    let whole = time.as_secs();
    if whole < 100 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        command
    }

    fn run_two(keep_going: bool) -> (Outcome, bool) {
        let mut ran = false;
        let steps = vec![
            Step::command("one", shell("exit 1")),
            Step::new("two", |_| {
                ran = true;
                Ok(String::new())
            }),
        ];
        let outcome = run(steps, keep_going, &mut Times::default());
        (outcome, ran)
    }

    #[test]
    fn first_failure_ends_the_run() {
        let (outcome, ran) = run_two(false);
        assert!(!ran);
        let error = outcome.into_result().unwrap_err().to_string();
        assert_eq!(error, "failed: one (1 later steps did not run)");
    }

    #[test]
    fn keep_going_runs_the_rest_and_still_fails() {
        let (outcome, ran) = run_two(true);
        assert!(ran);
        assert_eq!(
            (outcome.passed, outcome.failed),
            (1, vec!["one".to_owned()])
        );
    }

    #[test]
    fn failing_command_shows_its_output() {
        let live = Live(ProgressBar::hidden());
        let error = live.run(&mut shell("echo why; exit 7")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("why") && text.contains('7'), "{text}");
    }
}
