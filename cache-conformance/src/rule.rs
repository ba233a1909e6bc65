//! [`Rule`], one sentence of the contract and how to check it.

use std::fmt;

use serde::Serialize;

use crate::context::{Context, Outcome};
use crate::harness::BoxFuture;
use crate::{Capabilities, Fault, Ttl};

/// A rule that a backend keeps or breaks.
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
    /// The version of this crate that had it first.
    pub since: &'static str,
    /// What a backend must declare for the rule to apply.
    pub requires: &'static [Requirement],
    /// What the rule says.
    pub statement: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// Whether it spends its time waiting: such rules run all at once.
    pub(crate) waits: bool,
    pub(crate) check: fn(Context) -> BoxFuture<'static, Outcome>,
}

impl Rule {
    /// Group and name, as in `multi::duplicates_are_answered_in_place`.
    pub fn id(&self) -> String {
        format!("{}::{}", self.group, self.name)
    }

    /// The first requirement that a backend with these capabilities does not meet.
    pub(crate) fn unmet(&self, capabilities: &Capabilities) -> Option<Requirement> {
        self.requires
            .iter()
            .copied()
            .find(|requirement| !requirement.is_met(capabilities))
    }

    /// Whether `pattern` names this rule or its group.
    pub(crate) fn matches(&self, pattern: &str) -> bool {
        match pattern.split_once("::") {
            None => pattern == self.group,
            Some((group, name)) => group == self.group && name == self.name,
        }
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

/// What a rule needs a backend to declare.
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
    /// [`Capabilities::ttl`] other than [`Ttl::None`].
    Ttl,
    /// [`Capabilities::max_key`].
    MaxKey,
    /// [`Capabilities::max_value`].
    MaxValue,
    /// [`Capabilities::linearizable`].
    Linearizable,
    /// This one in [`Capabilities::faults`].
    Fault(Fault),
    /// Something in [`Capabilities::secrets`].
    Secrets,
}

impl Requirement {
    fn is_met(self, capabilities: &Capabilities) -> bool {
        match self {
            Self::Ttl => capabilities.ttl != Ttl::None,
            Self::MaxKey => capabilities.max_key.is_some(),
            Self::MaxValue => capabilities.max_value.is_some(),
            Self::Linearizable => capabilities.linearizable,
            Self::Fault(fault) => capabilities.faults.contains(&fault),
            Self::Secrets => !capabilities.secrets.is_empty(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fault(fault) => {
                return write!(f, "the harness cannot bring about the fault \"{fault}\"");
            }
            Self::Secrets => "the backend declares no secrets",
            Self::Ttl => "the backend declares that values do not expire",
            Self::MaxKey => "the backend declares no longest key",
            Self::MaxValue => "the backend declares no largest value",
            Self::Linearizable => "the backend does not claim to be linearizable",
        })
    }
}

/// A rule whose check is the function of the same name.
macro_rules! rule {
    ($group:literal, $name:ident, $source:expr, $statement:literal) => {
        $crate::rule::Rule {
            group: $group,
            name: stringify!($name),
            since: "0.1.0",
            requires: &[],
            statement: $statement,
            source: $source,
            waits: false,
            check: |context| Box::pin($name(context)),
        }
    };
}
pub(crate) use rule;
