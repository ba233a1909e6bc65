//! Runs one backend's soak, or several at the same time, each in a process of its own, and shows
//! how they go.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;

use super::ROLE_RUN;
use super::options::Options;
use super::summary::{LIVE, SUM};
use super::worker::this_program;

/// How often the state is shown where there is no terminal to keep it up to date.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

/// `soak …`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let (to, lines) = channel();
    let mut children = Vec::new();
    for (index, backend) in options.backends.iter().enumerate() {
        let mut command = this_program()?;
        command
            .args(["soak", ROLE_RUN, backend])
            .args([
                "--minutes",
                &(options.time.as_secs_f64() / 60.0).to_string(),
            ])
            .args(["--seed", &options.seed.to_string()])
            .arg("--folder")
            .arg(&options.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(rate) = options.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let mut child = command.spawn().context("cannot start the soak")?;
        let output = child.stdout.take().context("no standard output")?;
        let to = to.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if to.send((index, line)).is_err() {
                    return;
                }
            }
        });
        children.push(child);
    }
    drop(to);
    println!(
        "soak of {} with seed {}",
        options.backends.join(", "),
        options.seed
    );
    let mut screen = Screen::new(children.len());
    let mut sums = Vec::new();
    for (index, line) in lines {
        if let Some(state) = line.strip_prefix(LIVE) {
            screen.state(index, state);
        } else if let Some(sum) = line.strip_prefix(SUM) {
            sums.push(sum.to_owned());
        } else {
            screen.say(&line);
        }
    }
    screen.clear();
    let mut failed = Vec::new();
    for (mut child, backend) in children.into_iter().zip(&options.backends) {
        if !child.wait()?.success() {
            failed.push(backend.as_str());
        }
    }
    if !failed.is_empty() {
        process::end_children();
        bail!("the soak of {} failed", failed.join(", "));
    }
    println!("nothing wrong: {}", sums.join(", "));
    Ok(())
}

/// Lines that stay, and below them a line for each backend that is kept up to date.
struct Screen {
    states: Vec<String>,
    shown: usize,
    is_terminal: bool,
    /// When the state was last printed where there is no terminal.
    printed: Instant,
}

impl Screen {
    fn new(backends: usize) -> Self {
        Self {
            states: vec![String::new(); backends],
            shown: 0,
            is_terminal: std::io::stdout().is_terminal(),
            printed: Instant::now(),
        }
    }

    fn state(&mut self, index: usize, state: &str) {
        if let Some(place) = self.states.get_mut(index) {
            state.clone_into(place);
        }
        if self.is_terminal {
            self.clear();
            self.draw();
        } else if self.printed.elapsed() >= BETWEEN_LINES {
            self.printed = Instant::now();
            for state in self.states.iter().filter(|state| !state.is_empty()) {
                println!("{state}");
            }
        }
    }

    fn say(&mut self, line: &str) {
        self.clear();
        println!("{line}");
        self.draw();
    }

    fn clear(&mut self) {
        for _ in 0..std::mem::take(&mut self.shown) {
            print!("\x1b[1A\x1b[2K");
        }
        let _ = std::io::stdout().flush();
    }

    fn draw(&mut self) {
        if !self.is_terminal {
            return;
        }
        for state in self.states.iter().filter(|state| !state.is_empty()) {
            // A line that wraps could not be cleared.
            let line: String = state.chars().take(150).collect();
            println!("{line}");
            self.shown += 1;
        }
        let _ = std::io::stdout().flush();
    }
}
