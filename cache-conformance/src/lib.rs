#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// What a caller or a server controls must not be able to panic the process. Tests may panic.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod cache;
mod capabilities;
mod clock;
mod context;
mod failure;
mod faults;
mod front;
mod harness;
mod history;
#[cfg(feature = "mutants")]
#[cfg_attr(docsrs, doc(cfg(feature = "mutants")))]
pub mod mutants;
mod open_error;
mod report;
mod rng;
mod rule;
mod rules;
#[cfg(unix)]
mod server;
mod shared;
mod show;
mod suite;

pub use capabilities::{Capabilities, Clock, Expiry};
pub use clock::ManualClock;
pub use faults::{Fault, FaultControl, Faulty, Proxy};
pub use harness::{Harness, Options};
pub use open_error::OpenError;
pub use report::{Report, RuleReport, Verdict};
pub use rule::{RULE_SETS, Requirement, Rule};
pub use rules::all as rules;
#[cfg(unix)]
pub use server::Server;
pub use suite::Suite;

/// The suite's checker of histories, for tools of this workspace. Not part of the public API.
#[doc(hidden)]
pub mod checker {
    pub use crate::history::{Action, Operation, Shrunk, Span, is_linearizable};
}
