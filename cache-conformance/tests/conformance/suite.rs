//! How the suite handles waivers, rules that do not apply, and broken backends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::reference::{Reference, ReferenceHarness};
use cache_conformance::mutants::{self, Backend, BackendHarness};
use cache_conformance::{
    Capabilities, Clock, Expiry, Fault, Harness, OpenError, Options, Report, Suite, Verdict,
};

fn manual() -> Suite {
    Suite::new(ReferenceHarness {
        clock: Clock::Manual,
    })
}

/// Its `set` does nothing.
fn broken() -> Suite {
    Suite::new(BackendHarness::new(Backend::right().set(|_, _, _| Ok(()))))
}

fn panic_of(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

fn verdict_of<'r>(report: &'r Report, id: &str) -> &'r Verdict {
    let mut rules = report.rules.iter();
    &rules.find(|rule| rule.id == id).unwrap().verdict
}

#[test]
fn a_waiver_of_a_broken_rule_is_kept() {
    let rule = "basic::a_set_value_is_found";
    let report = broken().only(rule).only("keys").waive(rule, "known").run();
    assert_eq!(*verdict_of(&report, rule), Verdict::Waived("known".into()));
    assert!(!verdict_of(&report, rule).is_failure());
}

#[test]
fn a_waiver_of_a_rule_that_passes_is_stale() {
    let rule = "basic::a_set_value_is_found";
    let report = manual().only("basic").waive(rule, "no more").run();
    let expected = Verdict::StaleWaiver("no more".into());
    assert_eq!(*verdict_of(&report, rule), expected);
    assert!(!report.is_ok());
    assert!(report.to_string().contains("STALE"), "{report}");

    let stale = manual().waive(rule, "no more");
    let message = panic_of(|| stale.assert_waivers_are_needed());
    assert!(message.contains(rule), "{message}");
}

#[test]
fn a_waiver_of_an_unknown_rule_fails() {
    let report = manual().only("basic").waive("basic::no_such", "why").run();
    assert!(!report.is_ok());
    assert!(
        report.to_string().contains("unknown rule or group"),
        "{report}"
    );
    let suite = manual().waive("nothing", "why");
    let message = panic_of(|| suite.assert_waivers_are_needed());
    assert!(message.contains("nothing"), "{message}");
}

#[test]
fn a_run_that_executes_no_rule_is_not_a_success() {
    let report = manual().only("faults").run();
    assert!(report.rules.iter().all(|rule| !rule.verdict.is_failure()));
    assert!(!report.is_ok());
    assert!(report.to_string().contains("proves nothing"), "{report}");
    assert!(!manual().only("no_such_group").run().is_ok());
}

#[test]
fn a_test_of_a_rule_that_does_not_apply_says_how_to_waive_it() {
    let suite = manual();
    let message = panic_of(|| suite.assert_rule("faults", "a_dead_server_is_transient"));
    let literal = r#"waive { faults: "the harness cannot inject the fault \"down\"" }"#;
    assert!(message.contains(literal), "{message}");
    let message = panic_of(|| suite.assert_rule("limits", "too_large_is_an_error"));
    assert!(message.contains("waive { limits:"), "{message}");
}

#[test]
fn a_failure_names_the_rule_the_calls_and_the_seed() {
    let rule = "basic::a_set_value_is_found";
    let report = broken().name("mine").seed(42).only(rule).run();
    let Verdict::Failed(message) = verdict_of(&report, rule) else {
        panic!("{report}");
    };
    for part in [
        "mine breaks the rule basic::a_set_value_is_found",
        "`get` returns the payload that was set.",
        "CacheBackend: Writes",
        "expected \"value\", got a miss",
        "set \"",
        "ms)",
        "CACHE_CONFORMANCE_SEED=42 cargo test",
    ] {
        assert!(message.contains(part), "{part} is not in:\n{message}");
    }
}

#[test]
fn a_seed_repeats_the_shrunk_sequence() {
    let shrunk = || {
        let mut all = mutants::all().into_iter();
        let wrong = all.find(|mutant| mutant.name == "loses every fourth write");
        let rule = "model::sequences_agree";
        let report = wrong.unwrap().suite().seed(7).only(rule).run();
        let message = report.to_string();
        let (_, sequence) = message.split_once("shrunk:").unwrap();
        let (sequence, _) = sequence.split_once("done until then").unwrap();
        sequence.to_owned()
    };
    let sequence = shrunk();
    assert_eq!(sequence, shrunk());
    assert!(sequence.lines().count() <= 12, "{sequence}");
}

#[test]
fn a_call_that_hangs_is_abandoned() {
    let hangs = Backend::right().async_get(async |_, _| std::future::pending().await);
    let began = Instant::now();
    let report = Suite::new(BackendHarness::new(hangs)).only("basic").run();
    assert!(!report.is_ok());
    assert!(
        report
            .to_string()
            .contains("did not end within the call_limit of 1s"),
        "{report}"
    );
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_call_that_blocks_its_thread_is_abandoned() {
    let blocks = Backend::right().get(|_, _| {
        loop {
            std::thread::sleep(Duration::from_secs(600));
        }
    });
    let rule = "basic::an_absent_key_is_a_miss";
    let report = Suite::new(BackendHarness::new(blocks)).only(rule).run();
    assert!(
        report.to_string().contains("it blocks its thread"),
        "{report}"
    );
}

#[test]
fn a_panic_during_cleanup_does_not_fail_the_rule() {
    let panics = Backend::right().delete_multi(|_, _| panic!("index out of bounds"));
    let rule = "basic::a_set_value_is_found";
    let report = Suite::new(BackendHarness::patient(panics)).only(rule).run();
    assert!(report.is_ok(), "{report}");
}

#[test]
fn a_panic_is_a_failure_that_quotes_the_message() {
    let panics = Backend::right().get(|_, _| panic!("index out of bounds"));
    let rule = "basic::an_absent_key_is_a_miss";
    let report = Suite::new(BackendHarness::patient(panics)).only(rule).run();
    assert!(
        report
            .to_string()
            .contains("it panicked: index out of bounds"),
        "{report}"
    );
}

#[test]
fn declaring_faults_without_injecting_them_is_a_failure() {
    struct Declares;
    impl Harness for Declares {
        type Backend = Reference;
        fn capabilities(&self) -> Capabilities {
            Capabilities::default().with_faults(&[Fault::Down])
        }
        async fn open(&self, options: &Options) -> Result<Self::Backend, OpenError> {
            Ok(Self::Backend::new(options.default_ttl, None))
        }
    }
    let report = Suite::new(Declares).only("faults").run();
    assert!(
        report
            .to_string()
            .contains("does not override `Harness::open_faulty`"),
        "{report}"
    );
    assert!(!report.is_ok());
}

#[test]
fn every_rule_has_a_source_and_a_unique_statement_and_name() {
    let rules = cache_conformance::rules();
    assert!(rules.len() >= 70);
    let mut ids: Vec<String> = rules.iter().map(cache_conformance::Rule::id).collect();
    let mut statements: Vec<&str> = rules.iter().map(|rule| rule.statement).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), rules.len());
    statements.sort_unstable();
    statements.dedup();
    assert_eq!(statements.len(), rules.len());
    for rule in rules {
        assert!(rule.statement.ends_with('.'), "{}", rule.id());
        assert!(
            !rule.source.is_empty() && rule.since == "0.1",
            "{}",
            rule.id()
        );
    }
}

#[test]
fn a_rule_that_may_fail_is_waived_either_way() {
    let rule = "basic::a_set_value_is_found";
    for suite in [broken(), manual()] {
        let suite = suite.only(rule).may_fail(rule, "a race");
        let verdict = Verdict::Waived("a race".into());
        assert_eq!(*verdict_of(&suite.run(), rule), verdict);
        suite.assert_waivers_are_needed();
    }
}

#[test]
fn an_unknown_rule_set_is_a_failure() {
    let report = manual().only("basic").up_to("7.7").run();
    assert!(report.to_string().contains("unknown rule set"), "{report}");
    assert!(!report.is_ok());
    assert!(manual().only("basic").up_to("0.1").run().is_ok());
}

type Change = fn(Capabilities) -> Capabilities;

/// The report of a run with these capabilities.
fn declaring(change: Change) -> Report {
    let harness = BackendHarness::patient(Backend::right()).declaring(change);
    Suite::new(harness).name("mine").only("basic").run()
}

#[test]
fn capabilities_that_cannot_be_tested_are_reported_once() {
    const DAYS: Duration = Duration::from_secs(2 * 86_400);
    let mistakes: [(Change, &str); 8] = [
        (|it| it.with_max_key(59), "max_key of 59"),
        (
            |it| it.with_max_key(usize::MAX),
            "max_key of 18446744073709551615",
        ),
        (|it| it.with_max_value(999), "max_value of 999"),
        (
            |it| it.with_max_value(usize::MAX),
            "max_value of 18446744073709551615",
        ),
        (|it| it.with_capacity(0), "capacity of 0"),
        (
            |it| it.with_call_limit(Duration::ZERO),
            "call_limit of zero",
        ),
        (
            |it| it.with_expiry(Expiry::Granularity(DAYS)),
            "granularity of 172800s",
        ),
        (
            |it| it.with_expiry(Expiry::Granularity(Duration::MAX)),
            "is too coarse",
        ),
    ];
    for (change, said) in mistakes {
        let report = declaring(change);
        let text = report.to_string();
        assert_eq!(report.passed(), 0, "{text}");
        assert!(text.contains("the capabilities of mine: "), "{text}");
        assert!(
            (1..=2).contains(&text.matches(said).count()),
            "{said}: {text}"
        );
    }
}

#[test]
fn capabilities_may_be_at_their_limits() {
    let limits: [fn(Capabilities) -> Capabilities; 3] = [
        |it| it.with_call_limit(Duration::MAX),
        |it| it.with_recovery(Duration::MAX),
        |it| it.with_capacity(usize::MAX),
    ];
    for change in limits {
        let report = declaring(change);
        assert!(report.is_ok(), "{report}");
    }
}

#[test]
fn an_unreachable_backend_is_reported_once() {
    struct Nowhere {
        panics: bool,
    }
    impl Harness for Nowhere {
        type Backend = Reference;
        async fn open(&self, _: &Options) -> Result<Self::Backend, OpenError> {
            assert!(!self.panics, "nobody listens on port 1");
            Err("nobody listens on port 1".into())
        }
    }
    for panics in [false, true] {
        let report = Suite::new(Nowhere { panics }).run();
        let text = report.to_string();
        // Once in the rule for this, and at most once more in the first rule that runs.
        assert!(
            (1..=2).contains(&text.matches("nobody listens").count()),
            "{text}"
        );
        assert!(text.contains("was not run, because basic::the_backend_can_be_reached failed"));
        assert_eq!(report.passed(), 0);
    }
}

#[test]
fn every_rule_has_a_verdict_whatever_the_harness_declares() {
    /// Declares these capabilities, or panics.
    struct Declares(Option<Capabilities>);
    impl Harness for Declares {
        type Backend = Reference;
        fn capabilities(&self) -> Capabilities {
            self.0.expect("no configuration")
        }
        async fn open(&self, options: &Options) -> Result<Self::Backend, OpenError> {
            let clock = Some(options.clock.clone());
            Ok(Self::Backend::new(options.default_ttl, clock))
        }
        async fn again(
            &self,
            first: &Self::Backend,
            _: &Options,
        ) -> Result<Self::Backend, OpenError> {
            Ok(first.clone())
        }
    }
    let manual = Capabilities::default().with_clock(Clock::Manual);
    let for_ever = manual.with_call_limit(Duration::MAX);
    let report = Suite::new(Declares(Some(for_ever))).only("basic").run();
    assert!(report.is_ok(), "{report}");

    let report = Suite::new(Declares(None)).run();
    assert_eq!(report.rules.len(), cache_conformance::rules().len());
    let failed = report.rules.iter().filter(|rule| {
        matches!(&rule.verdict, Verdict::Failed(why) if why.starts_with(&rule.id)
            && why.contains("no configuration"))
    });
    assert_eq!(failed.count(), report.rules.len(), "{report}");
}

#[test]
fn a_deadlock_is_reported_in_full_only_a_few_times() {
    // It blocks its thread, like a lock that is taken twice.
    let deadlocked = Backend::right().get_multi(|_, _| {
        loop {
            std::thread::park();
        }
    });
    let report = Suite::new(BackendHarness::new(deadlocked))
        .only("basic")
        .only("multi")
        .only("concurrency")
        .run();
    let text = report.to_string();
    assert!(text.contains("get_multi ["), "{text}");
    assert!(
        text.contains("it blocks its thread, as in a deadlock"),
        "{text}"
    );
    let in_full = text.matches("done until then").count();
    assert!((1..=12).contains(&in_full), "{in_full} times in {text}");
    assert!(text.contains("calls hang"), "{text}");
}

#[test]
fn a_history_is_shrunk_to_the_contradiction() {
    let mut all = mutants::all().into_iter();
    let wrong = all.find(|mutant| mutant.name == "lets the second instance see writes late");
    let wrong = wrong.unwrap();
    let report = wrong.suite().seed(3).only(wrong.rule).run();
    let text = report.to_string();
    let (_, after) = text.split_once("these two contradict each other:").unwrap();
    let (_, history) = after.split_once("common counter):").unwrap();
    let (history, _) = history.split_once("done until then").unwrap();
    assert!(history.trim().lines().count() <= 8, "{text}");
}

#[test]
fn messages_show_where_payloads_and_times_differ() {
    let said = |name: &str| {
        let mut all = mutants::all().into_iter();
        let wrong = all.find(|mutant| mutant.name == name).unwrap();
        wrong.suite().seed(1).only(wrong.rule).run().to_string()
    };
    let text = said("loses a byte at a boundary");
    assert!(
        text.contains("the first difference is at byte 1024"),
        "{text}"
    );
    let text = said("keeps milliseconds");
    assert!(
        text.contains(" UTC: ") && text.contains("earlier"),
        "{text}"
    );
    let text = said("folds case");
    assert!(text.contains("they differ from byte"), "{text}");
}

#[test]
fn everything_comes_from_the_seed() {
    let keys = || {
        let report = broken().seed(5).only("basic::a_set_value_is_found").run();
        let text = report.to_string();
        let (_, key) = text.split_once("get \"").unwrap();
        key.split('"').next().unwrap().to_owned()
    };
    assert_eq!(keys(), keys());
}
