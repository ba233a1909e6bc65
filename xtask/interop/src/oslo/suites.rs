//! Runs the suites, and tells what had to pass from what could not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::Stage;

/// The crates, and what `suites.py` calls them.
pub(super) const BACKENDS: [(&str, &str); 3] = [
    ("cache-dict", "dict"),
    ("cache-memcache-pool", "memcache_pool"),
    ("cache-etcd3", "etcd3"),
];

/// Tests that cannot pass, wherever their suite's name contains `suite`.
pub(super) struct Exception {
    suite: &'static str,
    pub(super) tests: &'static [&'static str],
    pub(super) reason: &'static str,
}

pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        suite: "mutex",
        tests: &[
            "test_mutex",
            "test_mutex_reentrant_across_keys",
            "test_subclass_match",
        ],
        reason: "asks the backend for a mutex of its own, shared by all processes; these backends \
                 have none, and a region then uses a lock of its process",
    },
    Exception {
        suite: "envelope",
        tests: &["test_backend_set_get_value", "test_backend_delete"],
        reason: "stores `b\"some value\"`, which no region of dogpile.cache would: it has no \
                 metadata. It passes where bytes are stored as they are",
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

    fn is_exception(&self) -> bool {
        let name = self.test.rsplit('.').next().unwrap_or(&self.test);
        EXCEPTIONS.iter().any(|exception| {
            exception.tests.contains(&name) && self.suite.contains(exception.suite)
        })
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
        command.stdin(Stdio::null()).stderr(said.try_clone()?);
        running.push((name, results, command.stdout(said).spawn()?));
    }
    let mut outcomes = Vec::new();
    for (name, results, mut child) in running {
        if !child.wait()?.success() {
            let log = fs::read_to_string(results.with_extension("log"))?;
            bail!("the suites over {name} did not run to their end:\n{log}");
        }
        let text = fs::read_to_string(&results)?;
        let lines = text.lines().map(serde_json::from_str);
        let lines = lines
            .collect::<Result<Vec<Outcome>, _>>()
            .context("the results are not what suites.py writes")?;
        ensure!(!lines.is_empty(), "no test was run over {name}");
        outcomes.push(lines);
    }
    Ok(Verdict(outcomes))
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
                match (outcome.passed(), outcome.is_exception()) {
                    (true, false) | (false, true) => {}
                    (true, true) => failures.push(format!(
                        "{crate_name}: {suite}: {test} passes and is listed as one that cannot"
                    )),
                    (false, false) => failures.push(format!(
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
