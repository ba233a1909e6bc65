//! [`Suite`], which runs the rules against a backend.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::context::{Context, Outcome};
use crate::failure::{Failure, FailureKind, Trace, describe_panic};
use crate::harness::{Erased, Subject};
use crate::report::{Report, RuleReport, Verdict};
use crate::rng::{self, Rng, SEED_VARIABLE};
use crate::rule::Rule;
use crate::{Clock, Harness, RULE_SETS, rules, shared};

/// The rule that reports that the backend cannot be used at all. The others are not run then.
const FIRST: &str = "basic::the_backend_can_be_reached";

/// Runs the rules against one backend.
///
/// [`tests!`](crate::tests) declares one `#[test]` per rule; this type is for programs that need a
/// [`Report`].
///
/// ```no_run
/// # use cache_conformance::{Harness, Suite};
/// # fn check(my_harness: impl Harness) {
/// let report = Suite::new(my_harness)
///     .name("my-backend")
///     .waive("faults", "it runs in this process and has no server")
///     .run();
/// println!("{report}");
/// assert!(report.is_ok());
/// # }
/// ```
pub struct Suite {
    name: String,
    /// The path of the module of its tests: names need not be unique in a binary.
    module: &'static str,
    subject: Arc<dyn Subject>,
    waivers: Vec<Waiver>,
    only: Vec<String>,
    up_to: Option<String>,
    seed: u64,
    /// Why the seed in the environment cannot be read.
    seed_mistake: Option<String>,
    /// The duration of a call, or why the backend cannot be used.
    first: OnceLock<Result<Duration, String>>,
    /// Whether a rule has already reported why it cannot be used.
    told: AtomicBool,
    /// The rules in which a call hung.
    hung: Mutex<Vec<&'static Rule>>,
    /// How often each rule was begun.
    attempts: Mutex<HashMap<String, u64>>,
    /// The verdicts of rules that are run together when the first of them is asked for.
    together: OnceLock<HashMap<String, Verdict>>,
}

struct Waiver {
    /// A rule or a group.
    of: String,
    reason: String,
    may_fail: bool,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suite")
            .field("name", &self.name)
            .field("only", &self.only)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Suite {
    /// Creates a suite of all rules for the backend of `harness`.
    pub fn new(harness: impl Harness) -> Self {
        let (seed, seed_mistake) = match rng::seed() {
            Ok(seed) => (seed, None),
            Err(why) => (0, Some(why)),
        };
        Self {
            name: "backend".to_owned(),
            module: "",
            subject: Arc::new(Erased(Arc::new(harness))),
            waivers: Vec::new(),
            only: Vec::new(),
            up_to: None,
            seed,
            seed_mistake,
            first: OnceLock::new(),
            told: AtomicBool::new(false),
            hung: Mutex::default(),
            attempts: Mutex::default(),
            together: OnceLock::new(),
        }
    }

    /// Sets the name of the backend in the report. The default is `backend`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub fn declared_in(mut self, module: &'static str) -> Self {
        self.module = module;
        self
    }

    /// Waives a rule (`"multi::order_is_kept"`) or a group (`"faults"`). It is still run, and if it
    /// passes three times, the waiver is stale and fails the run. If several waivers match a rule,
    /// the first one counts.
    #[must_use]
    pub fn waive(mut self, rule: impl Into<String>, reason: impl Into<String>) -> Self {
        self.waivers.push(Waiver {
            of: rule.into(),
            reason: reason.into(),
            may_fail: false,
        });
        self
    }

    /// Waives a rule or a group that fails only sometimes: it may pass or fail.
    #[must_use]
    pub fn may_fail(mut self, rule: impl Into<String>, reason: impl Into<String>) -> Self {
        self.waivers.push(Waiver {
            of: rule.into(),
            reason: reason.into(),
            may_fail: true,
        });
        self
    }

    /// Runs only this rule or group. Call it again to add others.
    #[must_use]
    pub fn only(mut self, rule: impl Into<String>) -> Self {
        self.only.push(rule.into());
        self
    }

    /// Leaves out rules that are newer than this [rule set](RULE_SETS). They are reported as
    /// [`Verdict::Newer`].
    #[must_use]
    pub fn up_to(mut self, rule_set: impl Into<String>) -> Self {
        self.up_to = Some(rule_set.into());
        self
    }

    /// Sets the seed, to repeat a run. The default is the environment variable
    /// `CACHE_CONFORMANCE_SEED`, or a new seed if it is empty or not set. If it is not a number, no
    /// rule is run.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.seed_mistake = None;
        self
    }

    /// Runs the rules. Those that mostly wait all run concurrently, the others a few at a time.
    ///
    /// It blocks the thread and uses its own Tokio runtimes; from async code, call it in
    /// `spawn_blocking`. An unknown rule, group or rule set is reported as a failed rule.
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
        reports.extend(
            self.mistakes()
                .into_iter()
                .map(|(name, mistake)| RuleReport {
                    id: name,
                    statement: "",
                    verdict: Verdict::Failed(mistake),
                    seconds: 0.0,
                }),
        );
        Report {
            name: self.name.clone(),
            seed: self.seed,
            rules: reports,
            seconds: began.elapsed().as_secs_f64(),
        }
    }

    /// Waivers, selections and rule sets that do not exist.
    fn mistakes(&self) -> Vec<(String, String)> {
        let waived = self.waivers.iter().map(|waiver| &waiver.of);
        let names = waived.chain(&self.only);
        let unknown = names.filter(|name| !rules::all().iter().any(|rule| rule.matches(name)));
        let unknown = unknown.map(|name| {
            let mistake = format!("{name}: unknown rule or group; RULES.md lists them");
            (name.clone(), mistake)
        });
        let no_set = self
            .up_to
            .iter()
            .filter(|set| !RULE_SETS.contains(&set.as_str()));
        let no_set = no_set.map(|set| {
            let mistake = format!("up_to {set}: unknown rule set; use one of {RULE_SETS:?}");
            ("up_to".to_owned(), mistake)
        });
        unknown.chain(no_set).collect()
    }

    /// Whether the rule is newer than the rule set to test against.
    fn is_newer(&self, rule: &Rule) -> bool {
        let place = |set: &str| RULE_SETS.iter().position(|known| *known == set);
        let up_to = self.up_to.as_deref().and_then(place);
        up_to.is_some_and(|up_to| place(rule.since) > Some(up_to))
    }

    fn run_all(&self, chosen: &[&'static Rule]) -> Vec<(Verdict, Duration)> {
        /// More than there are cores: most rules wait for a server most of the time.
        const AT_ONCE: usize = 8;
        /// Rules that inject faults mostly wait, but they load the machine.
        const FAILING: usize = 16;
        let timed = |rule: &'static Rule| {
            let began = Instant::now();
            // What rules do is caught elsewhere; this is the harness, asked for its capabilities.
            let judged = catch_unwind(AssertUnwindSafe(|| self.judge(rule)));
            let verdict = judged.unwrap_or_else(|panic| {
                let (id, panic) = (rule.id(), describe_panic(&*panic));
                Verdict::Failed(format!("{id} was not run, because of the harness: {panic}"))
            });
            (verdict, began.elapsed())
        };
        let timed = &timed;
        let queue = |belongs: fn(&Rule) -> bool| -> Queue {
            let numbered = chosen.iter().copied().enumerate();
            Mutex::new(numbered.filter(|(_, rule)| belongs(rule)).collect())
        };
        let [waiting, failing, others] = [
            queue(|rule| rule.waits && !fails_servers(rule)),
            queue(|rule| rule.waits && fails_servers(rule)),
            queue(|rule| !rule.waits),
        ];
        let mut ended: Vec<(usize, (Verdict, Duration))> = thread::scope(|scope| {
            let mut handles = Vec::new();
            let all = lock(&waiting).len();
            for (queue, at_once) in [(&waiting, all), (&failing, FAILING), (&others, AT_ONCE)] {
                for _ in 0..at_once {
                    handles.push(scope.spawn(move || {
                        let mut done = Vec::new();
                        loop {
                            let next = lock(queue).pop_front();
                            let Some((position, rule)) = next else {
                                return done;
                            };
                            done.push((position, timed(rule)));
                        }
                    }));
                }
            }
            let joined = handles.into_iter().filter_map(|handle| handle.join().ok());
            joined.flatten().collect()
        });
        ended.sort_by_key(|(position, _)| *position);
        ended.into_iter().map(|(_, verdict)| verdict).collect()
    }

    /// The verdict of `rule`, with its waiver.
    fn judge(&self, rule: &'static Rule) -> Verdict {
        if self.is_newer(rule) {
            return Verdict::Newer(rule.since.to_owned());
        }
        let waiver = self.waiver(rule);
        if let Some(unmet) = rule.unmet(self.subject.as_ref()) {
            return match waiver {
                Some(waiver) => Verdict::Waived(waiver.reason.clone()),
                None => Verdict::NotApplicable(unmet.to_string()),
            };
        }
        match waiver {
            None => match self.attempt(rule) {
                Ok(()) => Verdict::Passed,
                Err(failure) => Verdict::Failed(failure),
            },
            Some(waiver) if !waiver.may_fail && self.passes_each_time(rule) => {
                Verdict::StaleWaiver(waiver.reason.clone())
            }
            Some(waiver) => Verdict::Waived(waiver.reason.clone()),
        }
    }

    fn waiver(&self, rule: &Rule) -> Option<&Waiver> {
        self.waivers.iter().find(|waiver| rule.matches(&waiver.of))
    }

    /// Whether a waived rule passes several times, so that it is not by chance.
    fn passes_each_time(&self, rule: &'static Rule) -> bool {
        const TIMES: usize = 3;
        (0..TIMES).all(|_| self.attempt(rule).is_ok())
    }

    /// Runs a rule, unless it is already known to fail.
    fn attempt(&self, rule: &'static Rule) -> Result<(), String> {
        /// After this many rules with hanging calls, the others are expected to hang as well.
        const HANGS: usize = 2;
        let id = rule.id();
        let pace = match self.first() {
            Ok(pace) => *pace,
            Err(failure) if id == FIRST || !self.told.swap(true, Ordering::SeqCst) => {
                return Err(failure.clone());
            }
            Err(_) => return Err(format!("{id} was not run, because {FIRST} failed")),
        };
        let hung = |suite: &Self| {
            let hung = lock(&suite.hung);
            let alike = hung.iter().filter(|other| hang_alike(other, rule));
            let alike: Vec<String> = alike.take(HANGS).map(|other| other.id()).collect();
            (alike.len() == HANGS).then(|| alike.join(" and "))
        };
        if let Some(others) = hung(self) {
            return Err(format!(
                "{id} was not run, because calls hang: see {others}"
            ));
        }
        let (outcome, trace) = self.run_once(rule, pace, rule.check);
        outcome.map_err(|failure| {
            if failure.kind == FailureKind::Hung {
                if let Some(others) = hung(self) {
                    return format!("{id}: calls hang, as in {others}");
                }
                lock(&self.hung).push(rule);
            }
            self.explain(rule, &failure, &trace)
        })
    }

    /// The duration of a call, or why no rule can be run. It is tried once.
    fn first(&self) -> &Result<Duration, String> {
        self.first.get_or_init(|| {
            if let Some(why) = &self.seed_mistake {
                return Err(why.clone());
            }
            if let Some(why) = self.subject.capabilities().mistake() {
                return Err(format!("the capabilities of {}: {why}", self.name));
            }
            let Some(rule) = rules::all().iter().find(|rule| rule.id() == FIRST) else {
                return Ok(Duration::ZERO);
            };
            let (outcome, trace) = self.run_once(rule, Duration::ZERO, |context| {
                Box::pin(rules::pace(context))
            });
            match outcome {
                Ok(pace) => Ok(pace),
                // Each rule finds other failures by itself.
                Err(failure) if failure.kind == FailureKind::Broken => Ok(Duration::ZERO),
                Err(failure) => Err(self.explain(rule, &failure, &trace)),
            }
        })
    }

    /// Runs a check in its own thread, so that a backend that blocks it does not stop other rules.
    fn run_once<T: Send + 'static>(
        &self,
        rule: &Rule,
        pace: Duration,
        check: impl FnOnce(Context) -> crate::harness::BoxFuture<'static, Outcome<T>> + Send + 'static,
    ) -> (Outcome<T>, Trace) {
        /// How much later than its limit a call may end on a busy machine, and how often this is
        /// checked.
        const GRACE: Duration = Duration::from_secs(1);
        const LOOK: Duration = Duration::from_millis(200);
        /// No rule takes this long, however busy the machine is, except for its waits by the clock
        /// of the machine.
        const PATIENCE: Duration = Duration::from_secs(1800);
        /// More than any rule waits.
        const GRANULARITIES: u32 = 60;
        let began = Instant::now();
        let trace = Trace::new();
        let context = {
            let mut attempts = lock(&self.attempts);
            let attempt = attempts.entry(rule.id()).or_default();
            *attempt += 1;
            let scene = format!("{} {} {attempt}", self.name, rule.id());
            let rng = Rng::new(self.seed, &scene);
            Context::new(Arc::clone(&self.subject), rng, trace.clone(), pace)
        };
        let limit = context.capabilities().call_limit.saturating_add(GRACE);
        let patience = match context.capabilities().clock {
            Clock::Manual => PATIENCE,
            Clock::Real => PATIENCE + context.capabilities().granularity() * GRANULARITIES,
        };
        let (sender, receiver) = mpsc::channel();
        let spawned = thread::Builder::new()
            .name(rule.id())
            .spawn(move || drop(sender.send(in_own_runtime(check, &context))));
        if let Err(error) = spawned {
            let failure = Failure::new(format!("cannot start a thread for the rule: {error}"));
            return (Err(failure), trace);
        }
        let outcome = loop {
            match receiver.recv_timeout(LOOK) {
                Ok(outcome) => break outcome,
                Err(RecvTimeoutError::Disconnected) => {
                    break Err(Failure::new("the thread of the rule ended unexpectedly"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(stuck) = trace.stuck(limit) {
                break Err(Failure::hung(stuck));
            }
            if began.elapsed() > patience {
                break Err(Failure::hung(format!(
                    "the rule did not end within {patience:?}"
                )));
            }
        };
        (outcome, trace)
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
    pub fn assert_rule(&self, group: &str, name: &str) {
        let all = rules::all().iter();
        let Some(rule) = all.into_iter().find(|r| r.group == group && r.name == name) else {
            fail_test(format!("unknown rule {group}::{name}"));
        };
        match self.verdict_of_test(rule) {
            Verdict::Failed(failure) => fail_test(failure),
            Verdict::NotApplicable(why) => fail_test(format!(
                "{group}::{name} does not apply: {why}; waive it where the tests are declared, so \
                 that it is shown as ignored: waive {{ {group}: {why:?} }} or {group}::{name}: {why:?}"
            )),
            _ => {}
        }
    }

    fn verdict_of_test(&self, rule: &'static Rule) -> Verdict {
        // A waived rule that is run by its name shows how it fails.
        let alone = || match rule.unmet(self.subject.as_ref()) {
            Some(unmet) => Verdict::NotApplicable(unmet.to_string()),
            None => self
                .attempt(rule)
                .map_or_else(Verdict::Failed, |()| Verdict::Passed),
        };
        if self.waiver(rule).is_some() {
            return alone();
        }
        let together = if shared::is_process_per_test() {
            // Every test is a process: one of them runs all rules, and the others read the
            // verdicts.
            self.together.get_or_init(|| {
                let all = || self.run_together(|_| true);
                shared::once_per_run([&self.name, self.module], all).unwrap_or_default()
            })
        } else if rule.waits {
            self.together
                .get_or_init(|| self.run_together(|rule| rule.waits))
        } else {
            return alone();
        };
        match together.get(&rule.id()) {
            Some(verdict) => verdict.clone(),
            None => alone(),
        }
    }

    /// Runs these rules together, except waived ones.
    fn run_together(&self, which: impl Fn(&Rule) -> bool) -> HashMap<String, Verdict> {
        let chosen: Vec<&'static Rule> = rules::all()
            .iter()
            .filter(|rule| which(rule) && self.waiver(rule).is_none())
            .collect();
        let ended = self.run_all(&chosen);
        let verdicts = ended.into_iter().map(|(verdict, _)| verdict);
        chosen.iter().map(|rule| rule.id()).zip(verdicts).collect()
    }

    /// The body of a `#[test]`: panics if a waiver names no rule, or one that passes.
    #[doc(hidden)]
    #[allow(clippy::panic)] // A test fails by panicking.
    pub fn assert_waivers_are_needed(&self) {
        let mistakes: Vec<String> = self.mistakes().into_iter().map(|(_, why)| why).collect();
        assert!(mistakes.is_empty(), "{}", mistakes.join("; "));
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

/// Fails the test of a rule. A panic would print a backtrace with `RUST_BACKTRACE`, which tells
/// nothing about the backend and takes longer than most rules.
#[allow(clippy::print_stderr)] // It is where libtest shows why a test failed.
fn fail_test(why: String) -> ! {
    eprintln!("{why}");
    std::panic::resume_unwind(Box::new(why))
}

/// Rules to be run, each with its place in the report.
type Queue = Mutex<VecDeque<(usize, &'static Rule)>>;

/// Whether the rule makes servers fail.
fn fails_servers(rule: &Rule) -> bool {
    matches!(rule.group, "faults" | "outages")
}

/// Whether calls that hang in one rule probably hang in the other: what hangs under one fault
/// need not do so under another, or without any.
fn hang_alike(one: &Rule, other: &Rule) -> bool {
    match (fails_servers(one), fails_servers(other)) {
        (false, false) => true,
        (true, true) => one.requires == other.requires,
        _ => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two workers, so that a rule can move work between threads.
fn in_own_runtime<T: Send + 'static>(
    check: impl FnOnce(Context) -> crate::harness::BoxFuture<'static, Outcome<T>>,
    context: &Context,
) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start a Tokio runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        let outcome = match tokio::spawn(check(context.clone())).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Failure::new(match error.try_into_panic() {
                Ok(panic) => describe_panic(&*panic),
                Err(_) => "the rule was cancelled".to_owned(),
            })),
        };
        let hangs = matches!(&outcome, Err(failure) if failure.kind == FailureKind::Hung);
        if !hangs {
            // In a task of its own: if the backend panics in it, the outcome is still that of the
            // rule.
            let context = context.clone();
            tokio::spawn(async move { context.clean_up().await })
                .await
                .ok();
        }
        outcome
    });
    runtime.shutdown_background();
    outcome
}
