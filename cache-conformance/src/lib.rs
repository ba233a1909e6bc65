#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod capabilities;
mod clock;
mod context;
mod failure;
mod faults;
mod front;
mod harness;
mod linearizability;
mod names;
mod report;
mod rng;
mod rule;
mod rules;
mod suite;

pub use capabilities::{Capabilities, Clock, Ttl};
pub use clock::ManualClock;
pub use faults::{Fault, FaultControl, Faulty, Proxy};
pub use harness::{Harness, OpenError, Options};
pub use report::{Report, RuleReport, Verdict};
pub use rule::{Requirement, Rule};
pub use rules::all as rules;
pub use suite::Suite;
