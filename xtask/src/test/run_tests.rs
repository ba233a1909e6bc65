//! Builds the test programs, runs several at a time, and counts their tests.
//!
//! `cargo test` runs programs one after another, but ours mostly wait for servers. cargo-nextest
//! would be better, but takes minutes to compile on each machine.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;

use crate::process;
use crate::steps::{Live, Times, shown};
use crate::workspace::{self, Workspace};

/// The timeout of a test program. One that exceeds it is killed and counts as failed.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The variable from which libtest reads the number of threads.
const TEST_THREADS: &str = "RUST_TEST_THREADS";
const TESTS_PER_PROCESSOR: usize = 4;

/// All tests of the workspace.
pub(crate) struct Tests<'a> {
    workspace: &'a Workspace,
    features: String,
    passed: Cell<usize>,
    failed: Cell<usize>,
}

impl<'a> Tests<'a> {
    pub(crate) fn new(workspace: &'a Workspace, features: String) -> Self {
        Self {
            workspace,
            features,
            passed: Cell::default(),
            failed: Cell::default(),
        }
    }

    /// How many tests passed and failed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.passed.get(), self.failed.get())
    }

    fn cargo_test(&self) -> Command {
        let mut cargo = process::cargo();
        cargo.args([
            "test",
            "--workspace",
            "--locked",
            "--features",
            &self.features,
        ]);
        cargo
    }

    pub(crate) fn build(&self, live: &Live) -> Result<String> {
        live.run(self.cargo_test().arg("--no-run"))?;
        Ok(String::new())
    }

    /// The test programs, which are built, and the doc tests.
    fn jobs(&self) -> Result<Vec<Job>> {
        let mut cargo = self.cargo_test();
        let list = process::output_of(cargo.args(["--no-run", "--message-format=json"]))?;
        let servers = in_memory();
        let mut jobs = Vec::new();
        for message in Message::parse_stream(list.as_bytes()) {
            let Message::CompilerArtifact(artifact) = message? else {
                continue;
            };
            let Some(executable) = artifact.executable.filter(|_| artifact.profile.test) else {
                continue;
            };
            let mut packages = self.workspace.packages.iter();
            let package = packages.find(|package| package.id == artifact.package_id);
            let package = package.context("a program without a package")?;
            let folder = workspace::folder(package);
            let mut command = process::command(executable);
            // Same as cargo.
            command
                .current_dir(folder)
                .env("CARGO_MANIFEST_DIR", folder)
                .env("CARGO", process::cargo().get_program());
            if std::env::var_os(TEST_THREADS).is_none() {
                // Most tests mostly wait for servers.
                let processors = thread::available_parallelism().map_or(1, NonZero::get);
                command.env(TEST_THREADS, (TESTS_PER_PROCESSOR * processors).to_string());
            }
            command.envs(servers.map(|folder| ("TEST_SERVERS_FOLDER", folder)));
            let name = format!("{}/{}", package.name, artifact.target.name);
            jobs.push(Job { name, command });
        }
        let mut command = self.cargo_test();
        // A failing crate should not hide other failures.
        command.args(["--doc", "--no-fail-fast"]);
        let name = "examples in the documentation".to_owned();
        jobs.push(Job { name, command });
        Ok(jobs)
    }

    /// Runs the programs and doc tests whose name passes the filter, `repeat` times. If `busy`,
    /// keeps each processor busy with a loop.
    pub(crate) fn run(
        &self,
        filter: impl Fn(&str) -> bool,
        repeat: usize,
        busy: bool,
        live: &Live,
    ) -> Result<String> {
        self.build(live)?;
        let mut jobs = self.jobs()?;
        jobs.retain(|job| filter(&job.name));
        if jobs.is_empty() {
            bail!("no test program matches the filters");
        }
        let logs = self.workspace.target_directory.join("xtask-tests");
        fs::create_dir_all(&logs)?;
        let mut times = Times::kept_in(logs.join("times.json").into());
        // Start the longest job first, so that it does not run alone at the end; those without a
        // known time come first, the largest in front.
        jobs.sort_by_key(|job| {
            let size = fs::metadata(job.command.get_program()).map_or(0, |program| program.len());
            let time = times.of(&job.name).unwrap_or(Duration::MAX);
            std::cmp::Reverse((time, size))
        });

        let busy = busy.then(Busy::start);
        let mut failures: BTreeMap<String, usize> = BTreeMap::new();
        for round in 1..=repeat {
            let heading = match repeat {
                1 => String::new(),
                _ => format!("run {round} of {repeat}: "),
            };
            for ended in run_all(&mut jobs, logs.as_std_path(), &heading, &mut times, live)? {
                let Counts { passed, failed } = Counts::of(&ended);
                self.passed.update(|count| count + passed);
                self.failed.update(|count| count + failed.len());
                for test in failed {
                    *failures
                        .entry(format!("{}: {test}", ended.name))
                        .or_default() += 1;
                }
            }
        }
        drop(busy);
        if failures.is_empty() {
            return Ok(format!(
                "{} passed in {} programs",
                self.passed.get(),
                jobs.len()
            ));
        }
        let lines: Vec<String> = failures
            .iter()
            .map(|(test, count)| format!("  {count} of {repeat} times  {test}"))
            .collect();
        bail!(
            "failed:\n{}\nthe full output is in {logs}",
            lines.join("\n")
        )
    }
}

struct Job {
    name: String,
    command: Command,
}

/// An in-memory file system with enough space for the data of the test servers. On disk, the etcd
/// tests would spend most of their time waiting for flushes.
fn in_memory() -> Option<&'static str> {
    const FOLDER: &str = "/dev/shm";
    const ROOM: u64 = 4 << 30;
    let mut df = process::command("df");
    let room = process::output_of(df.args(["--block-size=1", "--output=avail", FOLDER])).ok()?;
    let room: u64 = room.lines().last()?.trim().parse().ok()?;
    (room >= ROOM).then_some(FOLDER)
}

/// A finished job.
struct Ended {
    name: String,
    /// `None` if it was killed because it hung.
    status: Option<ExitStatus>,
    output: String,
}

struct Running {
    name: String,
    child: Child,
    started: Instant,
    log: PathBuf,
}

/// Runs each job once, two at a time per processor, since most of them wait for servers. Prints
/// the output of failed jobs.
fn run_all(
    jobs: &mut [Job],
    logs: &Path,
    heading: &str,
    times: &mut Times,
    live: &Live,
) -> Result<Vec<Ended>> {
    let at_once = 2 * thread::available_parallelism()?.get();
    let total = jobs.len();
    let mut waiting: VecDeque<&mut Job> = jobs.iter_mut().collect();
    let mut running: Vec<Running> = Vec::new();
    let mut ended = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < at_once
            && let Some(job) = waiting.pop_front()
        {
            running.push(start(job, logs)?);
        }
        let names: Vec<&str> = running.iter().map(|one| one.name.as_str()).collect();
        let left: Duration = waiting.iter().filter_map(|job| times.of(&job.name)).sum();
        let left = left / u32::try_from(at_once).unwrap_or(1);
        let done = ended.len();
        live.show(&format!(
            "{heading}{done} of {total}, {} to go: {}",
            shown(left),
            names.join(", ")
        ));
        thread::sleep(Duration::from_millis(20));
        let mut index = 0;
        while let Some(one) = running.get_mut(index) {
            let status = one.child.try_wait()?;
            let hangs = status.is_none() && one.started.elapsed() > LONGEST;
            if status.is_none() && !hangs {
                index += 1;
                continue;
            }
            let mut one = running.swap_remove(index);
            if hangs {
                one.child.kill()?;
                one.child.wait()?;
            }
            let output = fs::read(&one.log)?;
            let one_ended = Ended {
                name: one.name,
                status,
                output: String::from_utf8_lossy(&output).into_owned(),
            };
            times.set(&one_ended.name, one.started.elapsed());
            if !status.is_some_and(|status| status.success()) {
                live.say(&one_ended.report());
            }
            ended.push(one_ended);
        }
    }
    Ok(ended)
}

fn start(job: &mut Job, logs: &Path) -> Result<Running> {
    let log = logs.join(job.name.replace(['/', ' '], "-") + ".log");
    // Use a file, not a pipe, which a server left behind by a test would keep open.
    let mut file = File::create(&log)?;
    writeln!(file, "$ {}", process::shown(&job.command))?;
    job.command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let child = job
        .command
        .spawn()
        .with_context(|| format!("cannot start {}", job.name))?;
    Ok(Running {
        name: job.name.clone(),
        child,
        started: Instant::now(),
        log,
    })
}

impl Ended {
    fn report(&self) -> String {
        let status = self.status.map_or_else(
            || format!("hung; killed after {}", shown(LONGEST)),
            |status| status.to_string(),
        );
        // Omit passed tests.
        let lines = self.output.lines();
        let lines: Vec<&str> = lines.filter(|line| !is_verdict(line, "ok")).collect();
        format!("\n{}: {status}\n{}", self.name, lines.join("\n"))
    }
}

fn is_verdict(line: &str, verdict: &str) -> bool {
    let test = line.strip_prefix("test ");
    test.is_some_and(|test| {
        test.rsplit(" ... ")
            .next()
            .is_some_and(|end| end.starts_with(verdict))
    })
}

/// The results in libtest's output.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: Vec<String>,
}

impl Counts {
    fn of(ended: &Ended) -> Self {
        let lines = || ended.output.lines();
        let sums = lines().filter_map(|line| line.strip_prefix("test result: "));
        let passed = sums.filter_map(|sum| {
            let (before, _) = sum.split_once(" passed")?;
            before.rsplit(' ').next()?.parse::<usize>().ok()
        });
        let failed = lines().filter(|line| is_verdict(line, "FAILED"));
        let name = |line: &str| line.trim_start_matches("test ").replace(" ... FAILED", "");
        let mut failed: Vec<String> = failed.map(name).collect();
        if failed.is_empty() && !ended.status.is_some_and(|status| status.success()) {
            failed.push("the program itself".to_owned());
        }
        Self {
            passed: passed.sum(),
            failed,
        }
    }
}

/// Keeps each processor busy with a loop until dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(script: &str) -> Counts {
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        Counts::of(&Ended {
            name: "x".to_owned(),
            status: Some(output.status),
            output: String::from_utf8(output.stdout).unwrap(),
        })
    }

    #[test]
    fn counts_tests_and_names_failures() {
        let script = "echo 'test a::b ... ok'; echo 'test a::c ... FAILED'; \
                      echo 'test result: FAILED. 7 passed; 1 failed; 0 ignored'; exit 101";
        let expected = Counts {
            passed: 7,
            failed: vec!["a::c".to_owned()],
        };
        assert_eq!(counts(script), expected);
        assert_eq!(
            counts("echo 'test result: ok. 2 passed; 0 failed'").passed,
            2
        );
    }

    #[test]
    fn program_without_output_counts_as_failed() {
        assert_eq!(counts("exit 3").failed, ["the program itself"]);
    }
}
