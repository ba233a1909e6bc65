//! Jobs in separate programs, in crates below `xtask/`, because they depend on the backends, which
//! `cargo xtask test` should not have to compile before it can start.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::{needs, process};

/// Arguments, passed on unparsed.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// Builds the program in release mode and runs it in this terminal.
pub(crate) fn run(package: &str, arguments: &Arguments) -> Result<()> {
    needs::provide(needs::EVERYTHING, |_| ())?;
    let mut cargo = process::cargo();
    cargo.args(["run", "--quiet", "--release", "--package", package, "--"]);
    process::stream(cargo.args(&arguments.arguments))
}
