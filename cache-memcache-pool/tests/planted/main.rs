//! Proves that the simulation finds bugs: each one is planted in a copy of the crate, where the
//! simulation must find it.
//!
//! ```text
//! cargo test -p cache-memcache-pool --test planted -- --ignored --nocapture
//! PLANTED=lost-wake-up cargo test -p cache-memcache-pool --test planted -- --ignored --nocapture
//! ```

mod bugs;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bugs::BUGS;

/// Some bugs cause an endless loop.
const LONGEST: Duration = Duration::from_secs(600);

/// A copy of the crate for the simulation, in which an environment variable selects the bug.
fn plant(crates: &Path, copy: &Path) {
    let _ = fs::remove_dir_all(copy);
    for part in [
        "cache-core",
        "cache-memcache-pool/src",
        "cache-memcache-pool/tests/simulation",
        "cache-memcache-pool/tests/data",
        "cache-memcache-pool/README.md",
        "cache-memcache-pool/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        copy_all(&crates.join(part), &copy.join(part));
    }
    edit(&copy.join("Cargo.toml"), |text| {
        let (before, rest) = text.split_once("members = [").unwrap();
        let (_, after) = rest.split_once("\n]\n").unwrap();
        let (_, after) = after.split_once("\n[workspace.package]").unwrap();
        let members = "members = [\"cache-core\", \"cache-memcache-pool\"]\n";
        format!("{before}{members}\n[workspace.package]{after}")
    });
    // Without benchmarks, and what only other tests need.
    edit(&copy.join("cache-memcache-pool/Cargo.toml"), |text| {
        let mut is_bench = false;
        let kept = |line: &&str| {
            if line.starts_with('[') {
                is_bench = line.starts_with("[[bench]]") || line.contains("cfg(peers)");
            }
            let others = ["cache-conformance", "test-servers", "criterion"];
            !is_bench && !others.iter().any(|other| line.starts_with(other))
        };
        text.lines().filter(kept).collect::<Vec<_>>().join("\n")
    });
    let root = copy.join("cache-memcache-pool/src");
    for bug in BUGS {
        edit(&root.join(bug.file), |text| {
            let n = text.matches(bug.from).count();
            assert_eq!(
                n, 1,
                "{}: its place is there {n} times; see to it",
                bug.name
            );
            let condition = format!("crate::is_planted({:?})", bug.name);
            text.replace(bug.from, &bug.to.replace('@', &condition))
        });
    }
    edit(&root.join("lib.rs"), |text| {
        format!(
            "{text}\nfn is_planted(name: &str) -> bool {{\n    \
             static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();\n    \
             PLANTED.get_or_init(|| std::env::var(\"PLANTED\").ok()).as_deref() == Some(name)\n}}\n"
        )
    });
}

fn edit(file: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, change(text)).unwrap();
}

fn copy_all(from: &Path, to: &Path) {
    if from.is_file() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
        return;
    }
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy_all(&entry.path(), &to.join(entry.file_name()));
    }
}

/// Builds the simulation in the copy, and returns the program.
fn build(copy: &Path, target: &Path) -> PathBuf {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
    cargo.args(["test", "--offline", "-p", "cache-memcache-pool"]);
    cargo.args(["--test", "simulation", "--no-run"]);
    cargo.current_dir(copy).env("CARGO_TARGET_DIR", target);
    // Without optimization, a thousand histories per bug take minutes.
    cargo.env("CARGO_PROFILE_TEST_OPT_LEVEL", "2");
    let output = cargo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the copy does not build: {said}");
    let line = said.lines().find(|line| line.contains("Executable"));
    let (_, program) = line.and_then(|line| line.rsplit_once('(')).expect(&said);
    copy.join(program.trim_end_matches(')'))
}

/// Runs the simulation. Returns whether one of its tests fails.
fn finds(program: &Path, bug: &str) -> bool {
    let mut run = Command::new(program);
    run.env("PLANTED", bug).env("SIMULATION_SHRINKS", "0");
    run.env("SIMULATION_HISTORIES", "1000")
        .env("SIMULATION_PATIENCE", "10")
        // All at once, so that one that never ends does not hold up the others.
        .env("RUST_TEST_THREADS", "64")
        .env("RUST_BACKTRACE", "0");
    let mut run = run
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = BufReader::new(run.stdout.take().unwrap()).lines();
    let (failed, is_over) = mpsc::channel();
    std::thread::spawn(move || {
        let is_found = said
            .map_while(Result::ok)
            .any(|line| line.ends_with("FAILED"));
        let _ = failed.send(is_found);
    });
    // A bug that is not found in time counts as missed.
    let is_found = is_over.recv_timeout(LONGEST).unwrap_or(false);
    let _ = run.kill();
    let _ = run.wait();
    is_found
}

#[test]
#[ignore = "rebuilds the crate and runs the simulation for each bug; takes minutes"]
fn every_planted_bug_is_found() {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let crates = manifest.parent().unwrap();
    let copy = crates.join("target/planted/copy");
    let target = match std::env::var("CARGO_TARGET_DIR") {
        Ok(target) => PathBuf::from(target),
        Err(_) => crates.join("target/planted"),
    };
    let only = std::env::var("PLANTED").ok();
    plant(crates, &copy);
    let program = build(&copy, &target);
    assert!(!finds(&program, "none"), "it fails without a bug");
    let mut missed = Vec::new();
    for bug in BUGS {
        if only.as_deref().is_some_and(|only| only != bug.name) {
            continue;
        }
        let begun = Instant::now();
        let is_found = finds(&program, bug.name);
        let verdict = if is_found { "found" } else { "MISSED" };
        println!("{verdict} in {:.0?}: {}", begun.elapsed(), bug.name);
        if !is_found {
            missed.push(bug.name);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_bug_applies_to_exactly_one_place() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    assert!(BUGS.len() >= 20, "{}", BUGS.len());
    for bug in BUGS {
        let text = fs::read_to_string(root.join(bug.file)).unwrap();
        let n = text.matches(bug.from).count();
        assert_eq!(n, 1, "{}: its place is there {n} times", bug.name);
        assert!(bug.to.contains('@'), "{}", bug.name);
    }
}
