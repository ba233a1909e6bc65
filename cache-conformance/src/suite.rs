//! [`Suite`], which runs the rules against a backend.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::context::{Context, Outcome};
use crate::failure::{Failure, Trace};
use crate::harness::{Erased, Subject};
use crate::report::{Report, RuleReport, Verdict};
use crate::rng::{self, Rng, SEED_VARIABLE};
use crate::rule::Rule;
use crate::{Harness, rules};

/// The rules, about to be run against one backend.
///
/// [`tests!`](crate::tests) makes one `#[test]` a rule; this is for programs that want a
/// [`Report`].
///
/// ```no_run
/// # use cache_conformance::{Harness, Suite};
/// # fn check(my_harness: impl Harness) {
/// let report = Suite::new(my_harness)
///     .name("my-backend")
///     .waive("faults", "lives in this process and has no server")
///     .run();
/// println!("{report}");
/// assert!(report.is_ok());
/// # }
/// ```
pub struct Suite {
    name: String,
    subject: Arc<dyn Subject>,
    waivers: Vec<(String, String)>,
    only: Vec<String>,
    seed: u64,
    /// What became of the rules that wait, once the first of them was asked for.
    waited: OnceLock<HashMap<String, Verdict>>,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suite")
            .field("name", &self.name)
            .field("waivers", &self.waivers)
            .field("only", &self.only)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Suite {
    /// Every rule, against the backend of `harness`.
    pub fn new(harness: impl Harness) -> Self {
        Self {
            name: "backend".to_owned(),
            subject: Arc::new(Erased(Arc::new(harness))),
            waivers: Vec::new(),
            only: Vec::new(),
            seed: rng::seed(),
            waited: OnceLock::new(),
        }
    }

    /// What the report calls the backend.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Excuses a rule (`"multi::order_is_kept"`) or a group (`"faults"`). It is run all the
    /// same, and if it passes then the waiver fails.
    #[must_use]
    pub fn waive(mut self, rule: impl Into<String>, reason: impl Into<String>) -> Self {
        self.waivers.push((rule.into(), reason.into()));
        self
    }

    /// Runs this rule or group only; may be called for several.
    #[must_use]
    pub fn only(mut self, rule: impl Into<String>) -> Self {
        self.only.push(rule.into());
        self
    }

    /// Repeats the run with this seed. By default the one in the environment variable
    /// `CACHE_CONFORMANCE_SEED`, else a new one.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Runs the rules: those that wait all at once, of the others some at a time.
    ///
    /// Blocks, and brings its own tokio runtimes: from async code, call it through
    /// `spawn_blocking`.
    pub fn run(&self) -> Report {
        let began = Instant::now();
        let chosen: Vec<&'static Rule> = rules::all()
            .iter()
            .filter(|rule| {
                self.only.is_empty() || self.only.iter().any(|pattern| rule.matches(pattern))
            })
            .collect();
        let ended = self.run_all(&chosen);
        let mut reports: Vec<RuleReport> = chosen
            .iter()
            .zip(ended)
            .map(|(rule, (verdict, took))| RuleReport {
                id: rule.id(),
                statement: rule.statement,
                verdict,
                seconds: took.as_secs_f64(),
            })
            .collect();
        reports.extend(self.unknown_names().map(|name| RuleReport {
            id: name.to_owned(),
            statement: "",
            verdict: Verdict::Failed(format!("{name}: there is no such rule or group")),
            seconds: 0.0,
        }));
        Report {
            name: self.name.clone(),
            seed: self.seed,
            rules: reports,
            seconds: began.elapsed().as_secs_f64(),
        }
    }

    /// Waivers and selections that name nothing.
    fn unknown_names(&self) -> impl Iterator<Item = &str> {
        let names = self.waivers.iter().map(|(name, _)| name).chain(&self.only);
        names
            .map(String::as_str)
            .filter(|name| !rules::all().iter().any(|rule| rule.matches(name)))
    }

    fn run_all(&self, chosen: &[&'static Rule]) -> Vec<(Verdict, Duration)> {
        /// More than there are cores: most rules wait for a server most of the time.
        const AT_ONCE: usize = 8;
        let timed = |rule: &'static Rule| {
            let began = Instant::now();
            (self.judge(rule), began.elapsed())
        };
        let timed = &timed;
        let queue: Mutex<VecDeque<(usize, &'static Rule)>> = Mutex::new(
            chosen
                .iter()
                .copied()
                .enumerate()
                .filter(|(_, rule)| !rule.waits)
                .collect(),
        );
        let take = || {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.pop_front()
        };
        let take = &take;
        let mut ended: Vec<(usize, (Verdict, Duration))> = thread::scope(|scope| {
            let mut handles = Vec::new();
            for (position, rule) in chosen.iter().copied().enumerate() {
                if rule.waits {
                    handles.push(scope.spawn(move || vec![(position, timed(rule))]));
                }
            }
            for _ in 0..AT_ONCE {
                handles.push(scope.spawn(move || {
                    let mut done = Vec::new();
                    while let Some((position, rule)) = take() {
                        done.push((position, timed(rule)));
                    }
                    done
                }));
            }
            let joined = handles.into_iter().filter_map(|handle| handle.join().ok());
            joined.flatten().collect()
        });
        ended.sort_by_key(|(position, _)| *position);
        ended.into_iter().map(|(_, verdict)| verdict).collect()
    }

    /// What becomes of `rule`, its waiver taken into account.
    fn judge(&self, rule: &'static Rule) -> Verdict {
        let waiver = self.waiver(rule);
        if let Some(unmet) = rule.unmet(&self.subject.capabilities()) {
            return match waiver {
                Some(reason) => Verdict::Waived(reason.to_owned()),
                None => Verdict::NotApplicable(unmet.to_string()),
            };
        }
        match waiver {
            None => match self.attempt(rule) {
                Ok(()) => Verdict::Passed,
                Err(failure) => Verdict::Failed(failure),
            },
            Some(reason) if self.passes_each_time(rule) => Verdict::StaleWaiver(reason.to_owned()),
            Some(reason) => Verdict::Waived(reason.to_owned()),
        }
    }

    fn waiver(&self, rule: &Rule) -> Option<&str> {
        let mut waivers = self.waivers.iter();
        let found = waivers.find(|(name, _)| rule.matches(name));
        found.map(|(_, reason)| reason.as_str())
    }

    /// Whether a waived rule passes so often that it was not by luck.
    fn passes_each_time(&self, rule: &'static Rule) -> bool {
        const TIMES: usize = 3;
        (0..TIMES).all(|_| self.attempt(rule).is_ok())
    }

    /// Runs a rule in a thread of its own, so that a backend that blocks it stops nobody else.
    fn attempt(&self, rule: &'static Rule) -> Result<(), String> {
        /// Calls that may hang in one rule before it is given up as a whole.
        const CALLS: u32 = 12;
        let trace = Trace::new();
        let rng = Rng::new(self.seed, &rule.id());
        let context = Context::new(Arc::clone(&self.subject), rng, trace.clone());
        let limit = context.capabilities().call_limit * CALLS;
        let (sender, receiver) = mpsc::channel();
        let spawned = thread::Builder::new()
            .name(rule.id())
            .spawn(move || drop(sender.send(in_own_runtime(rule, context))));
        let outcome = match spawned {
            Err(error) => Err(Failure::new(format!("no thread for the rule: {error}"))),
            Ok(_) => receiver
                .recv_timeout(limit)
                .unwrap_or_else(|gone| match gone {
                    RecvTimeoutError::Timeout => Err(Failure::new(format!(
                        "the rule did not end within {limit:?}: a call blocks its thread, or many \
                         are slow; the last operation below had an answer, the next had not"
                    ))),
                    RecvTimeoutError::Disconnected => {
                        Err(Failure::new("the thread of the rule died"))
                    }
                }),
        };
        outcome.map_err(|failure| self.explain(rule, &failure, &trace))
    }

    fn explain(&self, rule: &Rule, failure: &Failure, trace: &Trace) -> String {
        let (id, name, seed) = (rule.id(), &self.name, self.seed);
        format!(
            "{name} breaks the rule {id}\n  the rule:   {}\n  its source: {}\n  found:      \
             {failure}\n  done until then:\n{trace}  repeat with: {SEED_VARIABLE}={seed} cargo \
             test {id}",
            rule.statement, rule.source,
        )
    }

    /// The body of a `#[test]`: panics unless the backend keeps the rule.
    #[doc(hidden)]
    #[allow(clippy::panic)] // It is what a test does to fail.
    pub fn assert_rule(&self, group: &str, name: &str) {
        let all = rules::all().iter();
        let Some(rule) = all.into_iter().find(|r| r.group == group && r.name == name) else {
            panic!("there is no rule {group}::{name}");
        };
        let verdict = if rule.waits && self.waiver(rule).is_none() {
            let waited = self.waited.get_or_init(|| self.run_waiting());
            waited.get(&rule.id()).cloned()
        } else {
            // Asked for by name: a waived rule shows how it fails.
            Some(match rule.unmet(&self.subject.capabilities()) {
                Some(unmet) => Verdict::NotApplicable(unmet.to_string()),
                None => self
                    .attempt(rule)
                    .map_or_else(Verdict::Failed, |()| Verdict::Passed),
            })
        };
        match verdict {
            Some(Verdict::Failed(failure)) => panic!("{failure}"),
            Some(Verdict::NotApplicable(why)) => panic!(
                "{group}::{name} does not apply: {why}. Say so where the tests are declared, so \
                 that it is shown as ignored: waive {{ {group}: \"{why}\" }} or \
                 {group}::{name}: \"{why}\""
            ),
            _ => {}
        }
    }

    /// The rules that wait and are not waived, all at once.
    fn run_waiting(&self) -> HashMap<String, Verdict> {
        let waiting: Vec<&'static Rule> = rules::all()
            .iter()
            .filter(|rule| rule.waits && self.waiver(rule).is_none())
            .collect();
        let ended = self.run_all(&waiting);
        let verdicts = ended.into_iter().map(|(verdict, _)| verdict);
        waiting.iter().map(|rule| rule.id()).zip(verdicts).collect()
    }

    /// The body of a `#[test]`: panics if a waiver names no rule, or excuses one that passes.
    #[doc(hidden)]
    #[allow(clippy::panic)] // It is what a test does to fail.
    pub fn assert_waivers_are_needed(&self) {
        let unknown: Vec<&str> = self.unknown_names().collect();
        assert!(
            unknown.is_empty(),
            "waivers for rules that do not exist: {unknown:?}"
        );
        let waived: Vec<&'static Rule> = rules::all()
            .iter()
            .filter(|rule| self.waiver(rule).is_some())
            .collect();
        let verdicts = waived.iter().zip(self.run_all(&waived));
        let stale: Vec<String> = verdicts
            .filter(|(_, (verdict, _))| matches!(verdict, Verdict::StaleWaiver(_)))
            .map(|(rule, _)| rule.id())
            .collect();
        assert!(
            stale.is_empty(),
            "these rules are waived but pass; remove the waivers: {stale:#?}"
        );
    }
}

/// Two workers, so that a rule can move work between threads.
fn in_own_runtime(rule: &Rule, context: Context) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("no tokio runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        match tokio::spawn((rule.check)(context)).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Failure::new(describe_panic(error))),
        }
    });
    runtime.shutdown_background();
    outcome
}

fn describe_panic(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "the rule was cancelled".to_owned();
    };
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", message.unwrap_or("without a message"))
}
