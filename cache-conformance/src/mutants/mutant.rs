//! [`Mutant`], a backend with one bug.

use std::sync::Arc;
use std::time::Duration;

use super::backend::{Backend, BackendHarness};
use crate::{Capabilities, Suite};

/// A faulty backend, and the rule that must detect it.
///
/// ```
/// for mutant in cache_conformance::mutants::all() {
///     println!("{} {}: {}", mutant.rule, mutant.name, mutant.history.unwrap_or("made up"));
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Mutant {
    /// The rule that must detect it, as in `basic::set_replaces`.
    pub rule: &'static str,
    /// The bug.
    pub name: &'static str,
    /// The report of this bug in another project, if there is one.
    pub history: Option<&'static str>,
    backend: Arc<Backend>,
    immediate: bool,
    capabilities: fn(Capabilities) -> Capabilities,
}

impl Mutant {
    pub(super) fn declaring(self, capabilities: fn(Capabilities) -> Capabilities) -> Self {
        Self {
            capabilities,
            ..self
        }
    }

    pub(super) fn told(self, history: &'static str) -> Self {
        Self {
            history: Some(history),
            ..self
        }
    }

    pub(super) fn immediate(self) -> Self {
        Self {
            immediate: true,
            ..self
        }
    }

    /// Returns a suite for this backend.
    pub fn suite(&self) -> Suite {
        let suite = if self.immediate {
            let patience = Duration::from_secs(1);
            let harness =
                BackendHarness::<true>::with_patience(Arc::clone(&self.backend), patience);
            Suite::new(harness.declaring(self.capabilities))
        } else {
            let harness = BackendHarness::new(Arc::clone(&self.backend));
            Suite::new(harness.declaring(self.capabilities))
        };
        suite.name(self.name)
    }
}

/// Returns the mutant with the bug `name`, which `rule` must detect.
pub(super) fn wrong(rule: &'static str, name: &'static str, backend: Backend) -> Mutant {
    Mutant {
        rule,
        name,
        history: None,
        backend: Arc::new(backend),
        immediate: false,
        capabilities: |declared| declared,
    }
}
