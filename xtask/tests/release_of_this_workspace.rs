//! The release of this very workspace, rehearsed against a registry on loopback; and then a
//! stranger who finds the crates there.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::playground::{Playground, succeeds};
use support::registry::{Registry, errors};
use support::upstream::Upstream;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// The working tree as it is, changelogs dated, committed.
fn this_workspace() -> Playground {
    let repository = repository();
    let registry = Registry::start_with(Upstream::of(&repository));
    // One place for all runs: what was built from the same dependencies is not built again.
    let folder = repository.join("target/release-rehearsal");
    let playground = Playground::new(registry).with_target(&folder);
    let files = succeeds(
        Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "-z",
            ])
            .current_dir(&repository),
    );
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        copy(&repository.join(file), &playground.root().join(file));
    }
    for name in CRATES {
        let changelog = format!("{name}/CHANGELOG.md");
        let text = playground.read(&changelog);
        playground.write(&changelog, &text.replace("(unreleased)", "(2026-01-01)"));
    }
    playground.commit("ready to go out");
    playground
}

/// A file or a link; what was removed from the working tree stays away.
fn copy(from: &Path, to: &Path) {
    let Ok(found) = from.symlink_metadata() else {
        return;
    };
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if found.is_symlink() {
        std::os::unix::fs::symlink(from.read_link().unwrap(), to).unwrap();
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// In an order in which they can go out.
const CRATES: [&str; 5] = [
    "cache-core",
    "cache-conformance",
    "cache-dict",
    "cache-etcd3",
    "cache-memcache-pool",
];

#[test]
fn goes_out_stops_goes_on_and_a_stranger_uses_it() {
    let playground = this_workspace();
    let version = "0.1.0";

    playground
        .registry
        .fail_next("cache-conformance", 500, &errors("out of order"));
    let release = playground.release(&["--execute"]);
    println!("{}", release.said);
    release.fails(&["out of order", "published cache-core 0.1.0"]);
    assert_eq!(playground.tags(), [format!("cache-core-v{version}")]);

    let release = playground.release(&["--execute"]);
    println!("{}", release.said);
    release.succeeds(&["published cache-etcd3 0.1.0"]);
    let published = playground.registry.published();
    assert_eq!(published, CRATES.map(|name| format!("{name} {version}")));
    let mut tags = CRATES.map(|name| format!("{name}-v{version}"));
    tags.sort();
    assert_eq!(playground.tags(), tags);

    playground
        .release(&["--execute"])
        .succeeds(&["nothing to do"]);

    only_what_was_bumped_goes_out(&playground);
    a_stranger_uses_it(&playground);
}

fn only_what_was_bumped_goes_out(playground: &Playground) {
    playground.edit(
        "cache-dict/Cargo.toml",
        "version = \"0.1.0\"",
        "version = \"0.1.1\"",
    );
    playground.edit(
        "Cargo.toml",
        "cache-dict = { version = \"0.1.0\"",
        "cache-dict = { version = \"0.1.1\"",
    );
    playground.edit(
        "cache-dict/CHANGELOG.md",
        "# Changelog\n",
        "# Changelog\n\n## 0.1.1 (2026-02-02)\n\n- Better.\n",
    );
    playground.lock();
    playground.commit("cache-dict 0.1.1");
    // The check for breaking changes has a test of its own.
    let release = playground.release(&["--execute", "--allow-breaking", "cache-dict"]);
    println!("{}", release.said);
    release.succeeds(&["0.1.0 → 0.1.1", "published cache-dict 0.1.1"]);
    assert_eq!(playground.registry.published().len(), CRATES.len() + 1);
}

/// `cargo new`, `cargo add`, a backend of a few lines, the conformance macro, `cargo test`.
fn a_stranger_uses_it(playground: &Playground) {
    let folder = playground.folder().join("stranger");
    let cargo = |arguments: &[&str]| {
        let at = if folder.exists() {
            folder.as_path()
        } else {
            playground.folder()
        };
        let said = succeeds(
            playground
                .command(env!("CARGO"))
                .args(arguments)
                .current_dir(at),
        );
        println!("$ cargo {}\n{said}", arguments.join(" "));
        said
    };
    cargo(&["new", "--quiet", "--lib", "stranger"]);
    cargo(&[
        "add",
        "--quiet",
        "cache-core",
        "cache-dict",
        "cache-memcache-pool",
        "cache-etcd3",
    ]);
    cargo(&["add", "--quiet", "--dev", "cache-conformance"]);
    fs::write(
        folder.join("src/lib.rs"),
        include_str!("support/stranger.rs"),
    )
    .unwrap();
    let said = cargo(&["test", "--quiet", "--lib"]);
    assert!(said.contains("test result: ok"), "{said}");
    let listed = cargo(&["test", "--quiet", "--lib", "--", "--list"]);
    let rules = listed
        .lines()
        .filter(|line| line.ends_with(": test"))
        .count();
    assert!(rules > 30, "only {rules} tests:\n{listed}");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("cache-dict = \"0.1.1\""), "{manifest}");
}
