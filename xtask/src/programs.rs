//! Jobs that are programs of their own, in crates below `xtask/`, since they need the backends:
//! `cargo xtask test` should not have to compile these before it can start.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::{needs, process};

/// What the program is given, unread.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds the program with optimisations and runs it in this terminal.
pub(crate) fn run(package: &str, arguments: &Arguments) -> Result<()> {
    needs::provide(needs::EVERYTHING, |_| ())?;
    let mut cargo = process::cargo();
    cargo.args(["run", "--quiet", "--release", "--package", package, "--"]);
    process::stream(cargo.args(&arguments.arguments))
}
