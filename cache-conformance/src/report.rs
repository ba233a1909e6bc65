//! [`Report`], the result of each rule.

use std::fmt;

use serde::Serialize;

/// The results of a run. It prints as a table, and implements `Serialize`.
///
/// ```
/// # use cache_conformance::{Report, Verdict};
/// fn failed_rules(report: &Report) -> Vec<&str> {
///     let failed = report.rules.iter().filter(|rule| rule.verdict.is_failure());
///     failed.map(|rule| rule.id.as_str()).collect()
/// }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The name of the suite.
    pub name: String,
    /// The seed of the run.
    pub seed: u64,
    /// One entry per rule.
    pub rules: Vec<RuleReport>,
    /// How long the run took, in seconds.
    pub seconds: f64,
}

/// The result of one rule.
///
/// ```
/// use cache_conformance::Report;
///
/// fn slowest(report: &Report) -> Option<&str> {
///     let rules = report.rules.iter();
///     let slowest = rules.max_by(|a, b| a.seconds.total_cmp(&b.seconds));
///     slowest.map(|rule| rule.id.as_str())
/// }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RuleReport {
    /// Group and name, as in `multi::duplicates_are_answered_in_place`.
    pub id: String,
    /// The statement of the rule.
    pub statement: &'static str,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How a rule ended.
///
/// ```
/// use cache_conformance::Verdict;
///
/// assert!(Verdict::Failed("expected 1, got 2".into()).is_failure());
/// // The waiver is no longer needed.
/// assert!(Verdict::StaleWaiver("a bug of version 3".into()).is_failure());
/// assert!(!Verdict::Waived("a bug of version 3".into()).is_failure());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// The backend keeps the rule.
    Passed,
    /// The backend breaks the rule: what was expected and found, and the operations until then.
    Failed(String),
    /// The rule does not apply to the backend, for this reason.
    NotApplicable(String),
    /// The rule was added in this [rule set](crate::RULE_SETS), which is newer than the one to test
    /// against.
    Newer(String),
    /// The rule was waived for this reason, and does not always pass.
    Waived(String),
    /// The rule was waived for this reason, but the backend keeps it.
    StaleWaiver(String),
}

impl Verdict {
    /// Returns whether the verdict fails a run.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::StaleWaiver(_))
    }
}

impl Report {
    /// Returns whether no rule failed, no waiver is stale, and at least one rule passed.
    pub fn is_ok(&self) -> bool {
        self.passed() > 0 && !self.rules.iter().any(|rule| rule.verdict.is_failure())
    }

    /// Returns the number of rules that passed.
    pub fn passed(&self) -> usize {
        let passed = |rule: &&RuleReport| rule.verdict == Verdict::Passed;
        self.rules.iter().filter(passed).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rules.iter().map(|rule| rule.id.len()).max();
        let width = width.unwrap_or_default();
        for rule in &self.rules {
            let (verdict, detail) = match &rule.verdict {
                Verdict::Passed => ("ok", String::new()),
                Verdict::Failed(_) => ("FAILED", String::new()),
                Verdict::NotApplicable(reason) => ("-", format!("  {reason}")),
                Verdict::Newer(set) => ("new", format!("  new since {set}")),
                Verdict::Waived(reason) => ("waived", format!("  {reason}")),
                Verdict::StaleWaiver(reason) => {
                    ("STALE", format!("  it passes, but was waived: {reason}"))
                }
            };
            writeln!(
                f,
                "{:width$}  {verdict:<6} {:>7.3} s{detail}",
                rule.id, rule.seconds
            )?;
        }
        for rule in &self.rules {
            if let Verdict::Failed(detail) = &rule.verdict {
                writeln!(f, "\n{detail}")?;
            }
        }
        let count = |which: fn(&Verdict) -> bool| {
            let counted = self.rules.iter().filter(|rule| which(&rule.verdict));
            counted.count()
        };
        write!(
            f,
            "{}: {} rules kept, {} broken, {} waived, {} not applicable, {} newer, in {:.2} s \
             (seed {})",
            self.name,
            self.passed(),
            count(Verdict::is_failure),
            count(|verdict| matches!(verdict, Verdict::Waived(_))),
            count(|verdict| matches!(verdict, Verdict::NotApplicable(_))),
            count(|verdict| matches!(verdict, Verdict::Newer(_))),
            self.seconds,
            self.seed
        )?;
        if self.passed() == 0 {
            write!(f, "\nno rule passed, so the run proves nothing")?;
        }
        Ok(())
    }
}
