//! `cargo xtask conformance`: every rule of the contract against our backends.

mod harnesses;
mod run;
mod table;

pub(crate) use run::main;
