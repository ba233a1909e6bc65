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
mod mutant;
mod store;

use std::time::Duration;

use crate::Suite;

pub use backend::{Backend, BackendHarness, Instance};
pub use catalogue::all;
pub use matrix::Kills;
pub use mutant::Mutant;
pub use store::{Entry, Store, Value};

/// Returns a suite for a backend that keeps every rule.
pub fn right() -> Suite {
    let patience = Duration::from_secs(20);
    Suite::new(BackendHarness::<true>::with_patience(
        Backend::right(),
        patience,
    ))
    .name("right")
}
