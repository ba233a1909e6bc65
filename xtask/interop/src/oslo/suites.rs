//! Runs the suites, and tells what had to pass from what could not.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::Stage;

/// The crates, and what `suites.py` calls them.
pub(super) const BACKENDS: [(&str, &str); 3] = [
    ("cache-dict", "dict"),
    ("cache-memcache-pool", "memcache_pool"),
    ("cache-etcd3", "etcd3"),
];

/// A run takes about a minute, nearly all of it in `time.sleep`.
const LIMIT: Duration = Duration::from_secs(600);

/// A test that cannot pass, wherever its suite's name contains `suite`.
pub(super) struct Exception {
    suite: &'static str,
    pub(super) test: &'static str,
    pub(super) reason: &'static str,
}

const NO_MUTEX: &str = "asks the backend for a mutex of its own, shared by all processes; these \
                        backends have none, and a region then uses a lock of its process";

const NO_VALUE: &str = "stores `b\"some value\"`, which no region of dogpile.cache would: it has \
                        no metadata. It passes where bytes are stored as they are";

pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        suite: "mutex",
        test: "test_mutex",
        reason: NO_MUTEX,
    },
    Exception {
        suite: "mutex",
        test: "test_mutex_reentrant_across_keys",
        reason: NO_MUTEX,
    },
    Exception {
        suite: "mutex",
        test: "test_subclass_match",
        reason: NO_MUTEX,
    },
    Exception {
        suite: "envelope",
        test: "test_backend_set_get_value",
        reason: NO_VALUE,
    },
    Exception {
        suite: "envelope",
        test: "test_backend_delete",
        reason: NO_VALUE,
    },
];

/// What became of one test.
#[derive(Deserialize)]
struct Outcome {
    suite: String,
    test: String,
    #[serde(rename = "outcome")]
    word: String,
    message: String,
}

impl Outcome {
    fn passed(&self) -> bool {
        self.word == "passed"
    }

    fn exception(&self) -> Option<&'static Exception> {
        let name = self.test.rsplit('.').next().unwrap_or(&self.test);
        EXCEPTIONS
            .iter()
            .find(|exception| exception.test == name && self.suite.contains(exception.suite))
    }
}

/// How many tests of a suite passed over one backend, and how many there are.
#[derive(Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) total: usize,
}

/// What became of all tests, backend by backend in the order of [`BACKENDS`].
pub(super) struct Verdict(Vec<Vec<Outcome>>);

/// Runs the suites over all backends at once: they wait more than they work.
pub(super) fn run(stage: &Stage, target: &Path) -> Result<Verdict> {
    let mut running = Vec::new();
    for (_, name) in BACKENDS {
        let results = target.join(format!("interop-suites-{name}.jsonl"));
        let said = fs::File::create(results.with_extension("log"))?;
        let mut command = stage.script("suites.py")?;
        command.arg(name).arg(&results);
        command
            .stdin(Stdio::null())
            .stderr(said.try_clone()?)
            .stdout(said);
        running.push((name, results, command.spawn()?));
    }
    let limit = Instant::now() + LIMIT;
    let mut outcomes = Vec::new();
    for (name, results, mut child) in running {
        let completed = ended(&mut child, limit)?;
        let log = results.with_extension("log");
        if !completed {
            bail!(
                "the suites over {name} did not run to their end:\n{}",
                fs::read_to_string(log)?
            );
        }
        let text = fs::read_to_string(&results)?;
        let lines = text.lines().map(serde_json::from_str);
        let lines = lines
            .collect::<Result<Vec<Outcome>, _>>()
            .context("senseless results")?;
        ensure!(
            !lines.is_empty(),
            "no test was run over {name}; see {}",
            log.display()
        );
        outcomes.push(lines);
    }
    Ok(Verdict(outcomes))
}

/// Whether the child ended well, and in time.
fn ended(child: &mut Child, limit: Instant) -> Result<bool> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Verdict {
    /// Suite by suite the counts for each backend; `None` where the suite has no test for it.
    pub(super) fn counts(&self) -> BTreeMap<&str, [Option<Count>; 3]> {
        let mut counts: BTreeMap<&str, [Option<Count>; 3]> = BTreeMap::new();
        for (backend, outcomes) in self.0.iter().enumerate() {
            for outcome in outcomes {
                let suite = counts.entry(&outcome.suite).or_default();
                if let Some(count) = suite.get_mut(backend) {
                    let count = count.get_or_insert_default();
                    count.total += 1;
                    count.passed += usize::from(outcome.passed());
                }
            }
        }
        counts
    }

    /// The tests that failed and had to pass, and those of which it is no longer true that they
    /// cannot pass.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for ((crate_name, _), outcomes) in BACKENDS.iter().zip(&self.0) {
            for outcome in outcomes {
                let Outcome { suite, test, .. } = outcome;
                match (outcome.passed(), outcome.exception()) {
                    (true, None) | (false, Some(_)) => {}
                    (true, Some(_)) => failures.push(format!(
                        "{crate_name}: {suite}: {test} passes and is listed as one that cannot"
                    )),
                    (false, None) => failures.push(format!(
                        "{crate_name}: {suite}: {test} {}: {}",
                        outcome.word, outcome.message
                    )),
                }
            }
        }
        failures
    }

    pub(super) fn summary(&self) -> String {
        let all = self.0.iter().flatten();
        let passed = all.clone().filter(|outcome| outcome.passed()).count();
        let total = all.count();
        format!(
            "{passed} tests pass, and {} cannot, for reasons that are named",
            total - passed
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suite, counts) in self.counts() {
            write!(f, "{suite:52}")?;
            for ((crate_name, _), count) in BACKENDS.iter().zip(counts) {
                if let Some(Count { passed, total }) = count {
                    write!(f, "  {crate_name} {passed} of {total}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
