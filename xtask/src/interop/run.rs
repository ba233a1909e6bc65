//! The command: packages, servers, matrix, checks.

use anyhow::{Result, bail};

use super::checks::{CHECKS, Context};
use super::matrix;
use super::python::Python;
use super::settings::{Servers, Setting};
use super::venv;
use crate::workspace::{self, Workspace};

/// A broken format fails everywhere; the first lines say it all.
const SHOWN: usize = 20;

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        bail!("`{argument}` is no option of `cargo xtask interop`");
    }
    let workspace = Workspace::members_only(&workspace::root())?;
    let interpreter = venv::provide(&workspace.target_directory.join("interop"))?;
    let python = Python::start(&interpreter)?;
    let servers = Servers::start()?;
    let runtime = tokio::runtime::Runtime::new()?;
    // The backends live in it.
    let _inside = runtime.enter();

    let settings = Setting::all(&servers)?;
    let matrix = matrix::run(&settings, &runtime, &python)?;
    println!("{matrix}");
    let mut failures = matrix.failures();

    let context = Context {
        servers: &servers,
        runtime: &runtime,
        python: &python,
    };
    for check in CHECKS {
        let result = (check.run)(&context);
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{word:8}{}", check.sentence);
        if let Err(error) = result {
            failures.push(format!("{}: {error:#}", check.sentence));
        }
    }
    if failures.is_empty() {
        let (cells, checks) = (matrix.cells(), CHECKS.len());
        println!("\n{cells} cells and {checks} checks hold");
        return Ok(());
    }
    let total = failures.len();
    failures.truncate(SHOWN);
    if total > SHOWN {
        failures.push(format!("… {total} in all"));
    }
    bail!(
        "Rust and Python do not share one cache:\n{}",
        failures.join("\n")
    )
}
