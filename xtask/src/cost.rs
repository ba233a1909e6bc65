//! `cargo xtask cost`: measures what depending on each crate, or on an alternative, adds to a
//! project.
//!
//! Each crate is the only dependency of an empty project with its own target directory. The result
//! is written to the workspace README.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::workspace::{self, Workspace};
use crate::{needs, process, readme_part};

/// Each dependency, its requirement, and where it stores values.
const SUBJECTS: [(&str, &str, &str); 9] = [
    ("cache-core", r#"{ path = "ROOT/cache-core" }"#, "the trait"),
    (
        "cache-dict",
        r#"{ path = "ROOT/cache-dict" }"#,
        "in process",
    ),
    ("quick_cache", r#""0.7""#, "in process"),
    (
        "moka",
        r#"{ version = "0.12", features = ["future"] }"#,
        "in process",
    ),
    (
        "cache-memcache-pool",
        r#"{ path = "ROOT/cache-memcache-pool" }"#,
        "memcached",
    ),
    (
        "memcache",
        r#"{ version = "0.21", features = ["tokio"] }"#,
        "memcached",
    ),
    (
        "redis",
        r#"{ version = "1", features = ["tokio-comp"] }"#,
        "Redis",
    ),
    ("cache-etcd3", r#"{ path = "ROOT/cache-etcd3" }"#, "etcd"),
    ("etcd-client", r#""0.21""#, "etcd"),
];

#[derive(Args)]
pub(crate) struct Options {
    /// The number of builds per crate; the table shows the median
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    needs::provide(needs::WITHOUT_PYTHON, |_| ())?;
    let root = workspace::root();
    let target = Workspace::members_only(&root)?
        .target_directory
        .join("cost");
    let mut projects = Vec::new();
    for (name, requirement, _) in SUBJECTS {
        let folder = target.join(name).into_std_path_buf();
        let requirement = requirement.replace("ROOT", &root.to_string_lossy());
        workspace::write_project(&folder, name, &requirement)?;
        process::output_of(process::cargo().arg("fetch").current_dir(&folder))?;
        projects.push((folder, Vec::new()));
    }
    for round in 1..=options.rounds {
        for ((folder, seconds), (name, ..)) in projects.iter_mut().zip(SUBJECTS) {
            eprintln!("[{round}/{}] {name}", options.rounds);
            seconds.push(build(folder)?);
        }
    }
    let mut table =
        String::from("| | stores | crates in the tree | seconds to build |\n|---|---|---|---|\n");
    for ((folder, seconds), (name, _, stores)) in projects.iter_mut().zip(SUBJECTS) {
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
        let crates = crates(folder)?;
        let _ = writeln!(table, "| `{name}` | {stores} | {crates} | {median:.0} |");
    }
    print!("{table}");
    let readme = root.join("README.md");
    let text = fs::read_to_string(&readme)?;
    let text = readme_part::replace(&text, "cost", "cost", &table).context("README.md")?;
    fs::write(&readme, text)?;
    Ok(())
}

/// The duration of a full debug build, in seconds.
fn build(folder: &Path) -> Result<f64> {
    let target: PathBuf = folder.join("target");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--offline", "--target-dir"])
        .arg(&target);
    let begin = Instant::now();
    process::output_of(cargo.current_dir(folder))?;
    Ok(begin.elapsed().as_secs_f64())
}

/// The number of crates that a build compiles, including the dependency itself.
fn crates(folder: &Path) -> Result<usize> {
    let mut cargo = process::cargo();
    cargo.args([
        "tree",
        "--offline",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
    ]);
    cargo.args(["--format", "{p}"]);
    let tree = process::output_of(cargo.current_dir(folder))?;
    let crates: BTreeSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    Ok(crates.len() - 1)
}
