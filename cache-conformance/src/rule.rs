//! [`Rule`], one sentence of the contract and its check.

use std::fmt;

use serde::Serialize;

use crate::context::{Context, Outcome};
use crate::harness::{BoxFuture, Subject};
use crate::{Clock, Expiry, Fault};

/// The versions of the set of rules, oldest first. Rules are added only in a new rule set, and no
/// rule becomes stricter. [`tests!`](crate::tests) and [`Suite::up_to`](crate::Suite::up_to) can
/// test against any of them.
///
/// ```
/// use cache_conformance::RULE_SETS;
///
/// let newest = RULE_SETS.last();
/// assert!(cache_conformance::rules().iter().any(|rule| Some(&rule.since) == newest));
/// ```
pub const RULE_SETS: &[&str] = &["0.1"];

/// One rule of the contract.
///
/// ```
/// let rule = cache_conformance::rules().iter().find(|rule| rule.id() == "basic::set_replaces").unwrap();
/// assert!(!rule.statement.is_empty());
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Rule {
    /// The group: a part of the contract.
    pub group: &'static str,
    /// The name, unique in its group.
    pub name: &'static str,
    /// The [rule set](crate::RULE_SETS) that added the rule.
    pub since: &'static str,
    /// Former names, each with its group.
    pub formerly: &'static [&'static str],
    /// What a backend must declare for the rule to apply.
    pub requires: &'static [Requirement],
    /// The statement of the rule.
    pub statement: &'static str,
    /// The source of the rule: a section of the contract, or another project.
    pub source: &'static str,
    /// Whether the rule spends its time waiting. Such rules all run concurrently.
    pub(crate) waits: bool,
    pub(crate) check: fn(Context) -> BoxFuture<'static, Outcome>,
}

impl Rule {
    /// Returns group and name, as in `multi::duplicates_are_answered_in_place`.
    pub fn id(&self) -> String {
        format!("{}::{}", self.group, self.name)
    }

    /// The first requirement that a backend does not meet.
    pub(crate) fn unmet(&self, subject: &dyn Subject) -> Option<Requirement> {
        let mut requires = self.requires.iter().copied();
        requires.find(|requirement| !requirement.is_met(subject))
    }

    /// Whether `pattern` is the group, the name or a former name of this rule.
    pub(crate) fn matches(&self, pattern: &str) -> bool {
        match pattern.split_once("::") {
            None => pattern == self.group,
            Some((group, name)) => {
                (group == self.group && name == self.name) || self.formerly.contains(&pattern)
            }
        }
    }

    /// For rules without further properties.
    pub(crate) const fn as_listed(self) -> Self {
        self
    }

    /// For rules about expiry.
    pub(crate) const fn needs_ttl(self) -> Self {
        self.requires(&[Requirement::Ttl]).waits()
    }

    pub(crate) const fn source(self, source: &'static str) -> Self {
        Self { source, ..self }
    }

    pub(crate) const fn requires(self, requires: &'static [Requirement]) -> Self {
        Self { requires, ..self }
    }

    pub(crate) const fn waits(self) -> Self {
        Self {
            waits: true,
            ..self
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// A capability that a backend must declare for a rule to apply.
///
/// ```
/// use cache_conformance::Requirement;
///
/// let rules = cache_conformance::rules().iter();
/// let about_expiry = rules.filter(|rule| rule.requires.contains(&Requirement::Ttl));
/// assert!(about_expiry.count() > 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Requirement {
    /// [`Capabilities::expiry`](crate::Capabilities::expiry) other than [`Expiry::None`].
    Ttl,
    /// [`Capabilities::max_key`](crate::Capabilities::max_key).
    MaxKey,
    /// [`Capabilities::max_value`](crate::Capabilities::max_value).
    MaxValue,
    /// [`Capabilities::capacity`](crate::Capabilities::capacity).
    Capacity,
    /// [`Capabilities::linearizable`](crate::Capabilities::linearizable).
    Linearizable,
    /// This fault in [`Capabilities::faults`](crate::Capabilities::faults).
    Fault(Fault),
    /// [`Capabilities::servers`](crate::Capabilities::servers) greater than 1.
    SeveralServers,
    /// At least one of [`Capabilities::secrets`](crate::Capabilities::secrets).
    Secrets,
    /// [`Capabilities::unreadable_values`](crate::Capabilities::unreadable_values).
    UnreadableValues,
    /// [`Capabilities::batched_reads`](crate::Capabilities::batched_reads).
    BatchedReads,
    /// [`Capabilities::brief_polls`](crate::Capabilities::brief_polls).
    BriefPolls,
    /// [`Capabilities::no_tasks_left`](crate::Capabilities::no_tasks_left).
    NoTasksLeft,
    /// [`Capabilities::no_values_left`](crate::Capabilities::no_values_left).
    NoValuesLeft,
    /// [`Capabilities::distinct_reads`](crate::Capabilities::distinct_reads).
    DistinctReads,
    /// [`Capabilities::no_connections_left`](crate::Capabilities::no_connections_left).
    NoConnectionsLeft,
    /// [`Capabilities::steady_lifetimes`](crate::Capabilities::steady_lifetimes), by a
    /// [manual clock](Clock::Manual).
    SteadyLifetimes,
    /// [`CacheBackend::IMMEDIATE`](cache_core::CacheBackend::IMMEDIATE).
    Immediate,
}

impl Requirement {
    fn is_met(self, subject: &dyn Subject) -> bool {
        let capabilities = subject.capabilities();
        match self {
            Self::Ttl => capabilities.expiry != Expiry::None,
            Self::MaxKey => capabilities.max_key.is_some(),
            Self::MaxValue => capabilities.max_value.is_some(),
            Self::Capacity => capabilities.capacity.is_some(),
            Self::Linearizable => capabilities.linearizable,
            Self::Fault(fault) => capabilities.faults.contains(&fault),
            Self::SeveralServers => capabilities.servers > 1,
            Self::Secrets => !capabilities.secrets.is_empty(),
            Self::UnreadableValues => capabilities.unreadable_values,
            Self::BatchedReads => capabilities.batched_reads,
            Self::BriefPolls => capabilities.brief_polls,
            Self::NoTasksLeft => capabilities.no_tasks_left,
            Self::NoValuesLeft => capabilities.no_values_left,
            Self::DistinctReads => capabilities.distinct_reads,
            Self::NoConnectionsLeft => capabilities.no_connections_left,
            Self::SteadyLifetimes => {
                capabilities.steady_lifetimes && capabilities.clock == Clock::Manual
            }
            Self::Immediate => subject.is_immediate(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fault(fault) => {
                return write!(f, "the harness cannot inject the fault \"{fault}\"");
            }
            Self::SeveralServers => {
                "the harness does not have several servers that can fail one by one"
            }
            Self::Secrets => "the backend declares no secrets",
            Self::Ttl => "the backend declares that values do not expire",
            Self::MaxKey => "the backend declares no maximum key length",
            Self::MaxValue => "the backend declares no maximum value length",
            Self::Capacity => "the backend declares no bound on its size",
            Self::Linearizable => "the backend does not claim to be linearizable",
            Self::UnreadableValues => "the backend declares no unreadable values",
            Self::BatchedReads => "the backend does not promise batched reads",
            Self::BriefPolls => "the backend does not promise brief polls",
            Self::NoTasksLeft => "the backend does not promise that calls leave no task running",
            Self::NoValuesLeft => {
                "the backend does not promise to release the values of cancelled writes"
            }
            Self::DistinctReads => "the backend does not promise to ask for each key once",
            Self::NoConnectionsLeft => {
                "the backend does not promise to close its connections when it is dropped"
            }
            Self::SteadyLifetimes => {
                "the backend does not promise steady lifetimes on a manual clock"
            }
            Self::Immediate => "the backend is not immediate",
        })
    }
}

/// Lists the rules of a group, whose checks are the functions with the same names, as the constant
/// `RULES` and as a macro that gives their names to [`tests!`](crate::tests).
///
/// The head has the group, the name of the macro, and the source and a method of [`Rule`] that all
/// rules have. A rule is `name: "statement"`, followed by further methods. A rule that was added
/// after the first rule set is `name since "0.2"`, and one that was renamed is `name formerly
/// [group::old_name]`.
///
/// `$d` is a dollar sign, which the inner macro needs.
macro_rules! rules {
    (
        ($d:tt) $group:ident, $names:ident, $source:expr, $each:expr;
        $(
            $name:ident $(since $since:tt)?
            $(formerly [$($old_group:ident :: $old_name:ident),+])?
            : $statement:literal $(, $method:ident($($argument:expr),*))*
        );* $(;)?
    ) => {
        pub(crate) const RULES: &[$crate::rule::Rule] = &[$(
            $each($crate::rule::Rule {
                group: stringify!($group),
                name: stringify!($name),
                since: $crate::rule::since!($($since)?),
                formerly: &[$($(
                    concat!(stringify!($old_group), "::", stringify!($old_name))
                ),+)?],
                requires: &[],
                statement: $statement,
                source: $source,
                waits: false,
                check: |context| Box::pin($name(context)),
            })$(.$method($($argument),*))*
        ),*];

        #[doc(hidden)]
        #[macro_export]
        macro_rules! $names {
            ($d test:ident) => {
                $(
                    $d test! {
                        ($($since)?) $($([$old_group $old_name])+)? [$group $name];
                        $group $name
                    }
                )*
            };
        }
    };
}

/// The rule set of a rule without `since`.
macro_rules! since {
    () => {
        "0.1"
    };
    ($since:tt) => {
        $since
    };
}
pub(crate) use {rules, since};
