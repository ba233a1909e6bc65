//! `cargo xtask interop`: checks that Rust and Python can share a cache.
//!
//! Uses real servers and the real Python packages, in both directions.
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod checks;
mod context;
mod matrix;
mod oslo;
mod python;
mod recipe;
mod servers;
mod settings;
mod sides;
mod vectors;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use interop::venv;

use crate::context::Context;
use crate::python::Python;
use crate::servers::Servers;
use crate::settings::Setting;

/// A statement and the function that checks it.
type Check = (&'static str, fn(&Context) -> Result<()>);

const CHECKS: &[Check] = &[
    (
        "values pickled by Python are rejected with advice",
        checks::pickled,
    ),
    ("values compressed by Python are read", checks::compressed),
    (
        "two formats in one etcd are distinguished",
        checks::two_formats_in_etcd,
    ),
    (
        "expiration_time counts from cached_at",
        checks::expiration_time,
    ),
    (
        "get_or_create accepts values from Rust",
        checks::get_or_create,
    ),
    (
        "the crates' test vectors match what Python stores",
        vectors::are_what_is_stored,
    ),
    (
        "a service can migrate as described in MIGRATING.md",
        walk::is_as_the_page_says,
    ),
];

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
            "unknown argument `{word}`: `cargo xtask interop` accepts only `oslo`, which runs \
             Python's test suites"
        ),
    }
    let interpreter = venv::provide(target.join("interop"))?;
    let context = Context {
        servers: Servers::start()?,
        python: Arc::new(Python::start(&interpreter)?),
    };
    let settings = Setting::all(&context.servers)?;
    let mut outcome = matrix::run(&context, &settings)?;
    let cells = outcome.passed;
    println!(
        "{cells} exchanges between Python and Rust passed, in {} settings",
        settings.len()
    );
    for (sentence, check) in CHECKS {
        let result = check(&context);
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{word:8}{sentence}");
        if let Err(error) = result {
            outcome.failures.push(format!("{sentence}: {error:#}"));
        }
    }
    ensure!(
        outcome.failures.is_empty(),
        "Rust and Python cannot share a cache:\n{}",
        outcome.failures.join("\n")
    );
    println!("\n{cells} exchanges and {} checks passed", CHECKS.len());
    Ok(())
}
