//! Faulty backends with one bug each, which prove that the rules detect these bugs.
//!
//! They are for authors of rules: a rule must detect its mutants, and pass with
//! [`Backend::right`].
//!
//! ```
//! use cache_conformance::mutants;
//!
//! let mutant = mutants::all().into_iter().find(|mutant| mutant.name == "stores nothing").unwrap();
//! let report = mutant.suite().only(mutant.rule).run();
//! assert!(!report.is_ok());
//! ```

mod backend;
mod catalogue;
mod matrix;
mod store;

use std::sync::Arc;
use std::time::Duration;

use crate::{Capabilities, Suite};

pub use backend::{Backend, BackendHarness, Instance};
pub use catalogue::all;
pub use matrix::Kills;
pub use store::{Entry, Store, Value};

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
    fn new(rule: &'static str, name: &'static str, backend: Backend) -> Self {
        Self {
            rule,
            name,
            history: None,
            backend: Arc::new(backend),
            immediate: false,
            capabilities: |declared| declared,
        }
    }

    fn declaring(self, capabilities: fn(Capabilities) -> Capabilities) -> Self {
        Self {
            capabilities,
            ..self
        }
    }

    fn told(self, history: &'static str) -> Self {
        Self {
            history: Some(history),
            ..self
        }
    }

    fn immediate(self) -> Self {
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

/// Returns a suite for a backend that keeps every rule.
pub fn right() -> Suite {
    let patience = Duration::from_secs(20);
    Suite::new(BackendHarness::<true>::with_patience(
        Backend::right(),
        patience,
    ))
    .name("right")
}
