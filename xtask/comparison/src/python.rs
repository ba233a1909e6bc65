//! Python clients in a separate process: the oslo.cache backends that ours reimplement, and
//! pymemcache.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use interop::venv;
use serde::Deserialize;
use serde_json::json;

use super::load::{Load, Work, micros_each};
use super::measure::{Bench, Contestant, Sample};
use super::report::Role;
use crate::{machine, root};

/// The maximum number of threads that stand in for tasks.
const THREADS: usize = 64;

/// The Python process, which runs one load at a time.
pub struct Python(RefCell<Process>);

struct Process {
    child: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Answer {
    done: u64,
    seconds: f64,
    cpu: f64,
}

impl Python {
    /// Starts the process and records the versions of `packages`.
    pub fn start(bench: &mut Bench<'_>, packages: &[&str]) -> Result<Self> {
        let python = venv::provide(root().join("target/interop"))?;
        let mut pip = Command::new(&python);
        let listed = machine::output_of(pip.args(["-m", "pip", "freeze"]))?;
        let versions = listed.lines().filter_map(|line| line.split_once("=="));
        for (name, version) in versions.filter(|(name, _)| packages.contains(name)) {
            bench.version(name, version);
        }
        let mut child = Command::new(python)
            .args(["-c", include_str!("python.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let jobs = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self(RefCell::new(Process {
            child,
            jobs,
            answers,
        })))
    }

    /// Creates a contestant for the client of this name in `python.py`.
    pub fn contestant<'a>(
        &'a self,
        client: &'a str,
        servers: &[String],
        load: &Load,
    ) -> Contestant<'a> {
        let name = match load.work {
            Work::Set => "set",
            Work::Get => "get",
            Work::Mixed => "mixed",
            Work::SetMulti(_) => "set_multi",
            Work::GetMulti(_) => "get_multi",
        };
        let job = json!({
            "client": client, "servers": servers, "do": name, "batch": load.work.batch(),
            "threads": load.tasks.min(THREADS), "size": load.size,
            "seconds": load.length.as_secs_f64(),
        });
        Contestant::new(client, Role::Peer, move || self.0.borrow_mut().run(&job))
    }
}

impl Process {
    fn run(&mut self, job: &serde_json::Value) -> Result<Sample> {
        writeln!(self.jobs, "{job}")?;
        let mut answer = String::new();
        ensure!(self.answers.read_line(&mut answer)? > 0, "Python ended");
        let Answer { done, seconds, cpu } = serde_json::from_str(&answer)?;
        let cpu = micros_each(Duration::from_secs_f64(cpu), done);
        Ok(Sample::operations(done, Duration::from_secs_f64(seconds)).with("client µs", cpu))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
