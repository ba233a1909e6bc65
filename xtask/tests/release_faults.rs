//! Complete runs of `cargo xtask release`, with faults of a registry on loopback.

mod support;

use std::time::Duration;

use support::playground::Playground;
use support::registry::errors;

/// Publishes `tiny-base` without tagging it, like a release interrupted between the two.
fn publish_without_tag(playground: &Playground) {
    playground
        .release(&["tiny-base", "--execute"])
        .succeeds(&[]);
    playground.git(&["tag", "--delete", "tiny-base-v0.1.0"]);
}

#[test]
fn partial_release_is_resumed() {
    let playground = Playground::tiny();
    playground
        .registry
        .fail_next("tiny-top", 500, &errors("the disk is full"));
    playground.release(&["--execute"]).fails(&[
        "the disk is full",
        "published tiny-base 0.1.0",
        "run the same command again to resume it",
    ]);
    assert_eq!(playground.tags(), ["tiny-base-v0.1.0"]);

    playground.release(&["--execute"]).succeeds(&[
        "published tiny-top 0.1.0",
        "git push origin tiny-base-v0.1.0 tiny-top-v0.1.0",
    ]);
    assert_eq!(
        playground.registry.published(),
        ["tiny-base 0.1.0", "tiny-top 0.1.0"]
    );
    assert_eq!(playground.tags(), ["tiny-base-v0.1.0", "tiny-top-v0.1.0"]);
}

#[test]
fn published_version_without_a_tag_is_only_tagged() {
    let playground = Playground::tiny();
    publish_without_tag(&playground);
    playground
        .release(&[])
        .succeeds(&["1. tag      tiny-base", "2. publish  tiny-top"]);
    playground
        .release(&["--execute"])
        .succeeds(&["tagged tiny-base-v0.1.0"]);
    assert_eq!(
        playground.registry.attempts(),
        ["tiny-base 0.1.0", "tiny-top 0.1.0"]
    );
}

#[test]
fn different_checksum_in_the_index_stops_the_release() {
    let playground = Playground::tiny();
    publish_without_tag(&playground);
    playground.edit("tiny-base/src/lib.rs", "    1\n", "    1 + 0\n");
    playground.commit("changed after it was published");
    playground
        .release(&["--execute"])
        .fails(&["another checksum", "tiny-base-v0.1.0"]);
    assert_eq!(playground.registry.attempts().len(), 1);
    assert!(playground.tags().is_empty());
}

#[test]
fn rate_limited_release_can_be_resumed() {
    let playground = Playground::tiny();
    let detail = "You have published too many new crates in a short period of time. Please try \
                  again after Sun, 29 Nov 2026 10:00:00 GMT.";
    playground
        .registry
        .fail_from_now_on("tiny-top", 429, &errors(detail));
    // Each run ends, and published crates are not uploaded again.
    for _ in 0..2 {
        playground.release(&["--execute"]).fails(&[
            "loopback did not take tiny-top 0.1.0",
            "try again after Sun, 29 Nov 2026 10:00:00 GMT",
            "run the same command again",
        ]);
        assert_eq!(playground.registry.published(), ["tiny-base 0.1.0"]);
        assert_eq!(playground.tags(), ["tiny-base-v0.1.0"]);
    }
    playground.registry.fails_no_more("tiny-top");
    playground
        .release(&["--execute"])
        .succeeds(&["published tiny-top 0.1.0"]);
    assert_eq!(
        playground.registry.published(),
        ["tiny-base 0.1.0", "tiny-top 0.1.0"]
    );
    assert_eq!(playground.tags(), ["tiny-base-v0.1.0", "tiny-top-v0.1.0"]);
}

#[test]
fn token_in_a_response_is_not_printed() {
    let playground = Playground::tiny();
    let secret = "secret-of-somebody";
    let output = playground
        .command(env!("CARGO_BIN_EXE_xtask"))
        .args(["release", "--registry", "loopback", "--execute", "--root"])
        .arg(playground.root())
        .env("CARGO_REGISTRIES_LOOPBACK_TOKEN", secret)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("the token `***` is not known"), "{said}");
    assert!(!said.contains(secret), "{said}");
}

#[test]
fn single_crate_can_be_released() {
    let playground = Playground::tiny();
    playground
        .release(&["tiny-base", "--execute"])
        .succeeds(&[]);
    assert_eq!(playground.registry.published(), ["tiny-base 0.1.0"]);
    playground.release(&["tiny-top", "--execute"]).succeeds(&[]);
    assert_eq!(
        playground.registry.published(),
        ["tiny-base 0.1.0", "tiny-top 0.1.0"]
    );
}

#[test]
fn refuses_to_leave_a_dependent_behind() {
    let playground = Playground::released();
    playground.bump("tiny-base", "0.1.0", "0.2.0");
    playground.edit(
        "tiny-top/Cargo.toml",
        "version = \"0.1.0\", path",
        "version = \"0.2.0\", path",
    );
    playground.lock();
    playground.commit("tiny-base 0.2.0");
    playground
        .release(&[])
        .fails(&["raise the version of tiny-top and release it as well"]);

    playground.bump("tiny-top", "0.1.0", "0.2.0");
    playground.lock();
    playground.commit("tiny-top 0.2.0");
    playground
        .release(&["--execute"])
        .succeeds(&["published tiny-base 0.2.0", "published tiny-top 0.2.0"]);
}

#[test]
fn refuses_documentation_with_warnings() {
    let playground = Playground::tiny();
    playground.edit(
        "tiny-base/src/lib.rs",
        "/// One.",
        "/// One, see [`nowhere`].",
    );
    playground.commit("a dead link");
    playground
        .release(&["--execute"])
        .fails(&["unresolved link to `nowhere`", "nothing was published"]);
    assert!(playground.registry.attempts().is_empty());
}

#[test]
fn refuses_a_package_that_does_not_build_alone() {
    let playground = Playground::tiny();
    // It builds in the tree, since the file exists, but outside of the package.
    playground.write("shared.txt", "text");
    playground.edit(
        "tiny-base/src/lib.rs",
        "/// One.",
        "/// Text.\npub const TEXT: &str = include_str!(\"../../shared.txt\");\n\n/// One.",
    );
    playground.commit("looks outside");
    playground.cargo(&["build", "--quiet"]);
    playground
        .release(&["--execute"])
        .fails(&["shared.txt", "nothing was published"]);
    assert!(playground.registry.attempts().is_empty());
}

#[test]
fn refuses_a_lower_version() {
    let playground = Playground::released();
    playground.bump("tiny-base", "0.1.0", "0.0.9");
    playground.edit(
        "tiny-top/Cargo.toml",
        "version = \"0.1.0\", path",
        "version = \"0.0.9\", path",
    );
    playground.lock();
    playground.commit("back");
    playground
        .release(&[])
        .fails(&["tiny-base goes back from 0.1.0 to 0.0.9"]);
}

#[test]
fn only_bumped_crates_are_published() {
    let playground = Playground::released();
    playground.edit("tiny-top/src/lib.rs", "+ 1", "+ 2");
    playground.bump("tiny-top", "0.1.0", "0.2.0");
    playground.lock();
    playground.commit("a better two");
    playground
        .release(&["--execute"])
        .succeeds(&["0.1.0 → 0.2.0", "published tiny-top 0.2.0"]);
    assert_eq!(playground.registry.published().len(), 3);
}

#[test]
fn prepare_edits_manifests_and_changelogs() {
    let playground = Playground::released();
    for name in ["tiny-base", "tiny-top"] {
        playground.edit(
            &format!("{name}/CHANGELOG.md"),
            "# Changelog\n",
            "# Changelog\n\n## Unreleased\n\n- More.\n",
        );
    }
    let prepare = ["prepare", "tiny-base", "0.2.0", "tiny-top", "0.2.0"];
    playground.release(&prepare).fails(&["the tree is dirty"]);
    playground.commit("what changed");
    playground
        .release(&prepare)
        .succeeds(&["tiny-base/CHANGELOG.md", "tiny-top/Cargo.toml"]);
    let manifest = playground.read("tiny-top/Cargo.toml");
    assert!(
        manifest.contains("tiny-base = { version = \"0.2.0\", path"),
        "{manifest}"
    );
    playground.commit("0.2.0");
    playground
        .release(&["--execute"])
        .succeeds(&["published tiny-base 0.2.0", "published tiny-top 0.2.0"]);

    for (version, says) in [
        ("0.3.0", "write what changed under a heading"),
        ("0.1.5", "would go back to 0.1.5"),
        ("0.2.0", "there is a tag tiny-base-v0.2.0"),
        ("0.3", "`0.3`"),
    ] {
        playground
            .release(&["prepare", "tiny-base", version])
            .fails(&[says]);
    }
    assert_eq!(playground.git(&["status", "--porcelain"]), "");
}

#[test]
fn release_ended_by_an_error_can_be_resumed() {
    let playground = Playground::tiny();
    for status in [500, 403] {
        playground
            .registry
            .fail_next("tiny-base", status, &errors("not today"));
        playground.release(&["--execute"]).fails(&[
            "did not take tiny-base 0.1.0",
            "not today",
            "run the same command again",
            "nothing was published",
        ]);
    }
    assert!(playground.tags().is_empty());
    playground
        .release(&["--execute"])
        .succeeds(&["published tiny-top 0.1.0"]);
}

#[test]
fn upload_without_a_response_ends_the_release() {
    let playground = Playground::tiny();
    playground.registry.is_silent_on("PUT");
    let output = playground
        .release_command(&["--execute"])
        .env("CARGO_HTTP_TIMEOUT", "2")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("loopback did not take tiny-base 0.1.0"),
        "{said}"
    );
    assert!(playground.tags().is_empty());
}

#[test]
fn waits_for_a_slow_index() {
    let playground = Playground::tiny();
    playground.registry.is_late_by(Duration::from_secs(70));
    playground
        .release(&["--execute"])
        .succeeds(&["published tiny-base 0.1.0", "published tiny-top 0.1.0"]);
    assert_eq!(playground.registry.attempts().len(), 2);
    assert_eq!(playground.tags(), ["tiny-base-v0.1.0", "tiny-top-v0.1.0"]);
}

#[test]
fn detects_a_registry_that_changes_files() {
    let playground = Playground::tiny();
    playground.registry.changes_files();
    let release = playground.release(&["--execute"]);
    release.fails(&[
        "took tiny-base 0.1.0 and has it with the checksum",
        "published tiny-base 0.1.0",
        "the release is not complete",
    ]);
    assert!(
        !release.said.contains("nothing was published"),
        "{}",
        release.said
    );
    assert!(playground.tags().is_empty());
}

#[test]
fn yanked_version_is_not_released_again() {
    let playground = Playground::released();
    playground.registry.yank("tiny-top");
    playground
        .release(&["plan"])
        .fails(&["does not have tiny-top 0.1.0, or it was yanked: raise the version"]);
}

#[test]
fn fix_of_an_older_version_can_be_released() {
    let playground = Playground::released();
    playground.bump("tiny-top", "0.1.0", "0.2.0");
    playground.lock();
    playground.commit("0.2.0");
    playground.release(&["--execute"]).succeeds(&[]);

    playground.git(&[
        "switch",
        "--quiet",
        "--create",
        "fix-0.1",
        "tiny-top-v0.1.0",
    ]);
    playground.edit("tiny-top/src/lib.rs", "+ 1", "+ 1 + 0");
    playground.bump("tiny-top", "0.1.0", "0.1.1");
    playground.lock();
    playground.commit("0.1.1");
    playground
        .release(&["--branch", "fix-0.1", "--execute", "--push"])
        .succeeds(&[
            "0.1.0 → 0.1.1",
            "compatible: tiny-top",
            "published tiny-top 0.1.1",
        ]);
    // Only tags reachable from this commit are pushed.
    assert_eq!(
        playground.tags_of_origin(),
        ["tiny-base-v0.1.0", "tiny-top-v0.1.0", "tiny-top-v0.1.1"]
    );
}

/// `tiny-top` implements a trait of `tiny-base`, publicly or only internally.
fn with_a_trait(is_public: bool) -> Playground {
    let playground = Playground::tiny();
    let code = "//! Tiny.\n\n/// Counts.\npub trait Count {\n    /// So many.\n    fn count(&self) -> u8;\n}\n";
    playground.write("tiny-base/src/lib.rs", code);
    let access = if is_public { "pub " } else { "" };
    let code = format!(
        "//! Tiny.\n\n/// A pair.\n{access}struct Pair;\n\n\
         impl tiny_base::Count for Pair {{\n    fn count(&self) -> u8 {{\n        2\n    }}\n}}\n\n\
         /// Two.\npub fn two() -> u8 {{\n    tiny_base::Count::count(&Pair)\n}}\n"
    );
    playground.write("tiny-top/src/lib.rs", &code);
    playground.commit("a trait");
    playground.release(&["--execute"]).succeeds(&[]);

    let method = "\n    /// As many as that.\n    fn doubled(&self) -> u8;\n}\n";
    let code = playground.read("tiny-base/src/lib.rs");
    playground.write(
        "tiny-base/src/lib.rs",
        &(code.trim_end().trim_end_matches('}').to_owned() + method),
    );
    playground.edit(
        "tiny-top/src/lib.rs",
        "        2\n    }\n",
        "        2\n    }\n\n    fn doubled(&self) -> u8 {\n        4\n    }\n",
    );
    playground.edit(
        "tiny-top/Cargo.toml",
        "version = \"0.1.0\", path",
        "version = \"0.2.0\", path",
    );
    playground.bump("tiny-base", "0.1.0", "0.2.0");
    playground.bump("tiny-top", "0.1.0", "0.1.1");
    playground.lock();
    playground.commit("a required method");
    playground
}

#[test]
fn breaking_public_dependency_requires_a_breaking_version() {
    let playground = with_a_trait(true);
    playground.release(&["plan"]).fails(&[
        "tiny-top 0.1.1 claims to be compatible with 0.1.0, but tiny-base, which its public API \
         shows, goes from 0.1.0 to 0.2.0",
    ]);
    playground.edit(
        "tiny-top/Cargo.toml",
        "version = \"0.1.1\"",
        "version = \"0.2.0\"",
    );
    playground.edit("tiny-top/CHANGELOG.md", "## 0.1.1", "## 0.2.0");
    playground.lock();
    playground.commit("a version that says so");
    playground
        .release(&["--execute"])
        .succeeds(&["published tiny-top 0.2.0"]);
}

#[test]
fn breaking_private_dependency_does_not() {
    let playground = with_a_trait(false);
    playground.release(&["plan"]).succeeds(&["0.1.0 → 0.1.1"]);
}

#[test]
fn packages_are_reproducible_in_another_folder() {
    let playground = Playground::tiny();
    let elsewhere = playground.folder().join("some/other/place");
    let to = elsewhere.to_str().unwrap();
    playground.git(&[
        "clone",
        "--quiet",
        playground.origin().to_str().unwrap(),
        to,
    ]);
    let packages = |root: &std::path::Path| {
        let output = playground
            .command(env!("CARGO_BIN_EXE_xtask"))
            .args(["release", "--registry", "loopback", "--root"])
            .arg(root)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        ["tiny-base", "tiny-top"].map(|name| {
            std::fs::read(root.join(format!("target/package/{name}-0.1.0.crate"))).unwrap()
        })
    };
    assert_eq!(packages(&playground.root()), packages(&elsewhere));
}

#[test]
fn new_project_can_use_the_crates_with_crates_io() {
    let playground = Playground::released();
    let folder = playground.folder().join("stranger");
    playground.cargo(&["new", "--quiet", "--lib", folder.to_str().unwrap()]);
    let cargo = |arguments: &[&str]| {
        let mut cargo = playground.command(env!("CARGO"));
        support::playground::succeeds(cargo.args(arguments).current_dir(&folder))
    };
    cargo(&["add", "--quiet", "tiny-top", "--registry", "loopback"]);
    let code = "#[test]\nfn two() {\n    assert_eq!(tiny_top::two(), 2);\n}\n";
    std::fs::write(folder.join("src/lib.rs"), code).unwrap();
    let said = cargo(&["test", "--quiet", "--lib"]);
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn failing_tool_ends_the_release() {
    let playground = Playground::released();
    playground.bump("tiny-top", "0.1.0", "0.1.1");
    playground.lock();
    playground.commit("0.1.1");
    playground.tool("cargo-semver-checks", "echo it is broken; exit 1");
    playground.release(&["--execute"]).fails(&[
        "it is broken",
        "--allow-breaking tiny-top",
        "nothing was published",
    ]);
    assert_eq!(playground.registry.attempts().len(), 2);
}
