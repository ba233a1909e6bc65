//! `cargo xtask interop`: Rust and Python share one cache.
//!
//! Real servers, the real Python packages, and every pair of writer and reader. A table says what
//! the one reads of what the other wrote.
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod checks;
mod matrix;
mod oslo;
mod pages;
mod python;
mod settings;
mod sides;
mod vectors;
mod walk;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use interop::venv;

use crate::checks::{CHECKS, Context};
use crate::python::Python;
use crate::settings::{Servers, Setting};

/// A broken format fails everywhere; the first lines say it all.
const SHOWN: usize = 20;

fn main() -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        None => {}
        Some((word, options)) if word == "oslo" => return oslo::run(&target, options),
        Some((word, _)) => bail!(
            "`cargo xtask interop` alone shares servers with Python, `cargo xtask interop oslo` \
             runs Python's suites; `{word}` is neither"
        ),
    }
    let interpreter = venv::provide(target.join("interop"))?;
    let python = Python::start(&interpreter)?;
    let servers = Servers::start()?;
    let runtime = tokio::runtime::Runtime::new()?;
    // The backends live in it.
    let _inside = runtime.enter();

    let settings = Setting::all(&servers)?;
    let mut outcome = matrix::run(&settings, &runtime, &python)?;
    let cells = outcome.passed;
    println!(
        "{cells} exchanges between Python and Rust hold, in {} settings",
        settings.len()
    );
    let context = Context {
        servers: &servers,
        runtime: &runtime,
        python: &python,
    };
    for (sentence, check) in CHECKS {
        let result = check(&context);
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{word:8}{sentence}");
        if let Err(error) = result {
            outcome.failures.push(format!("{sentence}: {error:#}"));
        }
    }
    let total = outcome.failures.len();
    if total == 0 {
        println!("\n{cells} exchanges and {} checks hold", CHECKS.len());
        return Ok(());
    }
    outcome.failures.truncate(SHOWN);
    if total > SHOWN {
        outcome.failures.push(format!("… {total} in all"));
    }
    bail!(
        "Rust and Python do not share one cache:\n{}",
        outcome.failures.join("\n")
    )
}
