//! `cargo xtask release` against a registry on loopback, with two tiny crates: what goes out, what
//! is refused, and what happens when it stops halfway.

mod support;

use support::playground::Playground;
use support::registry::{Registry, errors};

fn tiny() -> Playground {
    Playground::tiny(Registry::start())
}

/// Both crates are out.
fn released() -> Playground {
    let playground = tiny();
    playground.release(&["--execute"]).succeeds(&[]);
    playground
}

/// Publishes `tiny-base` and does not tag it, as a release does that ends between the two.
fn publish_without_tag(playground: &Playground) {
    playground.cargo(&[
        "publish",
        "--quiet",
        "--package",
        "tiny-base",
        "--registry",
        "loopback",
    ]);
}

#[test]
fn dry_is_the_default() {
    let playground = tiny();
    playground.release(&[]).succeeds(&[
        "would publish tiny-base 0.1.0 and tag tiny-base-v0.1.0",
        "would publish tiny-top 0.1.0",
        "nothing was published",
        "tiny-base-0.1.0.crate (8 files",
        "src/lib.rs",
    ]);
    assert!(playground.registry.attempts().is_empty());
    assert!(playground.tags().is_empty());
}

#[test]
fn plan_tells_order_versions_and_reasons() {
    let playground = tiny();
    let plan = playground.release(&["plan"]);
    plan.succeeds(&["1. tiny-base", "2. tiny-top", "first release"]);
    assert!(!plan.said.contains("package"), "{}", plan.said);
}

#[test]
fn publishes_in_order_then_has_nothing_to_do() {
    let playground = tiny();
    playground
        .release(&["--execute"])
        .succeeds(&["published tiny-base 0.1.0", "git push origin"]);
    assert_eq!(
        playground.registry.published(),
        ["tiny-base 0.1.0", "tiny-top 0.1.0"]
    );
    assert_eq!(playground.tags(), ["tiny-base-v0.1.0", "tiny-top-v0.1.0"]);

    playground
        .release(&["--execute"])
        .succeeds(&["nothing to do"]);
    assert_eq!(playground.registry.attempts().len(), 2);
}

#[test]
fn half_a_failure_is_resumed() {
    let playground = tiny();
    playground
        .registry
        .fail_next("tiny-top", 500, &errors("the disk is full"));
    playground.release(&["--execute"]).fails(&[
        "the disk is full",
        "published tiny-base 0.1.0",
        "the same command goes on from here",
    ]);
    assert_eq!(playground.tags(), ["tiny-base-v0.1.0"]);

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
fn what_is_in_the_index_without_a_tag_is_only_tagged() {
    let playground = tiny();
    publish_without_tag(&playground);
    playground
        .release(&[])
        .succeeds(&["would tag tiny-base-v0.1.0", "would publish tiny-top"]);
    playground
        .release(&["--execute"])
        .succeeds(&["tagged tiny-base-v0.1.0"]);
    assert_eq!(
        playground.registry.attempts(),
        ["tiny-base 0.1.0", "tiny-top 0.1.0"]
    );
}

#[test]
fn another_checksum_in_the_index_stops_everything() {
    let playground = tiny();
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
fn a_rate_limit_is_told_and_waited_for() {
    let playground = tiny();
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(3);
    let soon = support::playground::succeeds(
        playground
            .command("date")
            .args(["--utc", "+%a, %d %b %Y %H:%M:%S GMT", "--date"])
            .arg(format!(
                "@{}",
                soon.duration_since(std::time::UNIX_EPOCH)
                    .unwrap()
                    .as_secs()
            ))
            .env("LC_ALL", "C"),
    );
    let detail = format!(
        "You have published too many new crates in a short period of time. Please try again \
         after {} or ask.",
        soon.trim()
    );
    playground
        .registry
        .fail_next("tiny-top", 429, &errors(&detail));
    playground
        .release(&["--execute"])
        .succeeds(&["limits how fast", "published tiny-top 0.1.0"]);
    assert_eq!(
        playground.registry.attempts(),
        ["tiny-base 0.1.0", "tiny-top 0.1.0", "tiny-top 0.1.0"]
    );
}

#[test]
fn a_token_that_the_registry_repeats_is_not_printed() {
    let playground = tiny();
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
fn one_crate_can_go_out_by_itself() {
    let playground = tiny();
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
fn one_crate_does_not_go_out_before_what_it_needs() {
    let playground = tiny();
    playground
        .release(&["tiny-top"])
        .fails(&["tiny-top needs tiny-base 0.1.0, which loopback does not have"]);
}

#[test]
fn only_what_was_bumped_goes_out() {
    let playground = released();
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
fn prepare_makes_the_edits_that_a_version_takes() {
    let playground = released();
    playground.edit(
        "tiny-base/CHANGELOG.md",
        "# Changelog\n",
        "# Changelog\n\n## Unreleased\n\n- More.\n",
    );
    playground.edit(
        "tiny-top/CHANGELOG.md",
        "# Changelog\n",
        "# Changelog\n\n## Unreleased\n\n- Follows.\n",
    );
    playground
        .release(&["prepare", "tiny-base", "0.2.0"])
        .succeeds(&["tiny-base is 0.2.0 now"]);
    playground
        .release(&["prepare", "tiny-top", "0.2.0"])
        .succeeds(&["tiny-top is 0.2.0 now"]);
    let manifest = playground.read("tiny-top/Cargo.toml");
    assert!(
        manifest.contains("tiny-base = { version = \"0.2.0\", path"),
        "{manifest}"
    );
    playground.commit("0.2.0");
    playground
        .release(&["--execute"])
        .succeeds(&["published tiny-base 0.2.0", "published tiny-top 0.2.0"]);

    playground
        .release(&["prepare", "tiny-base", "0.3.0"])
        .fails(&["write what changed under a heading"]);
}

#[test]
fn refuses_a_dirty_tree() {
    let playground = tiny();
    playground.write("tiny-base/src/new.rs", "");
    playground
        .release(&["--execute"])
        .fails(&["the tree is dirty", "new.rs"]);
    assert!(playground.registry.attempts().is_empty());
}

#[test]
fn refuses_another_branch() {
    let playground = tiny();
    playground.git(&["switch", "--quiet", "--create", "fix"]);
    playground.release(&[]).fails(&["this is branch `fix`"]);
    playground
        .release(&["plan", "--branch", "fix"])
        .succeeds(&[]);
}

#[test]
fn refuses_a_tag_that_leads_the_index() {
    let playground = tiny();
    playground.git(&["tag", "tiny-base-v0.1.0"]);
    playground
        .release(&[])
        .fails(&["the tag tiny-base-v0.1.0 exists, but loopback does not have"]);
}

#[test]
fn refuses_a_change_without_a_new_version() {
    let playground = released();
    playground.edit("tiny-base/src/lib.rs", "    1\n", "    1 + 0\n");
    playground.commit("changed");
    playground.release(&[]).fails(&[
        "tiny-base has changed since tiny-base-v0.1.0 and still is 0.1.0",
        "src/lib.rs",
    ]);
}

#[test]
fn a_change_that_is_not_packaged_needs_no_new_version() {
    let playground = released();
    playground.write("notes.md", "Nobody ships this.\n");
    playground.commit("notes");
    playground.release(&[]).succeeds(&["nothing to do"]);
}

#[test]
fn refuses_a_version_that_goes_back() {
    let playground = released();
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
fn refuses_a_dependent_that_asks_for_the_old_version() {
    let playground = tiny();
    playground.bump("tiny-base", "0.1.0", "0.1.1");
    playground.lock();
    playground.commit("raised one only");
    playground
        .release(&[])
        .fails(&["tiny-top asks for tiny-base ^0.1.0; with this release it is 0.1.1"]);
}

#[test]
fn refuses_to_leave_a_dependent_behind() {
    let playground = released();
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
fn refuses_what_its_page_would_lack() {
    let playground = tiny();
    playground.edit("tiny-base/CHANGELOG.md", "(2026-01-01)", "(unreleased)");
    playground.edit("tiny-base/Cargo.toml", "description = \"For a test\"\n", "");
    playground.edit("tiny-top/Cargo.toml", "license = \"Apache-2.0\"\n", "");
    playground.write("tiny-top/README.md", "\n");
    std::fs::remove_file(playground.root().join("tiny-top/LICENSE")).unwrap();
    playground.commit("holes");
    playground.release(&[]).fails(&[
        "tiny-base CHANGELOG.md does not date its entry",
        "tiny-base has no description",
        "tiny-top names no license",
        "tiny-top has no README",
        "tiny-top has no file LICENSE",
    ]);
}

#[test]
fn refuses_a_circle_of_versioned_dev_dependencies() {
    let playground = tiny();
    let manifest = playground.read("tiny-base/Cargo.toml");
    let top = "\n[dev-dependencies]\ntiny-top = { path = \"../tiny-top\" }\n";
    playground.write("tiny-base/Cargo.toml", &(manifest.clone() + top));
    playground.lock();
    playground.commit("a path alone is none");
    playground.release(&["plan"]).succeeds(&["1. tiny-base"]);

    let top = "\n[dev-dependencies]\ntiny-top = { version = \"0.1.0\", path = \"../tiny-top\" }\n";
    playground.write("tiny-base/Cargo.toml", &(manifest + top));
    playground.commit("a circle");
    playground
        .release(&["plan"])
        .fails(&["tiny-base, tiny-top depend on each other in a circle"]);
}

#[test]
fn refuses_documentation_with_warnings() {
    let playground = tiny();
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
    let playground = tiny();
    // In the tree it builds: the file is there, outside of what is packaged.
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
fn refuses_files_that_no_user_needs() {
    let playground = tiny();
    playground.write("tiny-base/benches/data.bin", "x");
    playground.commit("test data");
    playground
        .release(&[])
        .fails(&["tiny-base holds what no user needs: benches/data.bin"]);
}

#[test]
fn refuses_a_crate_that_is_not_here() {
    tiny()
        .release(&["tiny-bottom"])
        .fails(&["`tiny-bottom` is not a published crate"]);
}

#[test]
#[ignore = "takes cargo-semver-checks; `cargo xtask test` runs it where that is installed"]
fn refuses_a_breaking_change_without_the_version_that_says_so() {
    let playground = released();
    playground.edit("tiny-top/src/lib.rs", "fn two()", "fn deux()");
    playground.bump("tiny-top", "0.1.0", "0.1.1");
    playground.lock();
    playground.commit("French");
    playground.release(&[]).fails(&[
        "tiny-top 0.1.1 claims to be compatible with tiny-top-v0.1.0",
        "pub fn removed or renamed",
    ]);
    // Whoever knows better says so, crate by crate.
    playground
        .release(&["--allow-breaking", "tiny-top"])
        .succeeds(&["would publish tiny-top 0.1.1"]);

    playground.edit(
        "tiny-top/Cargo.toml",
        "version = \"0.1.1\"",
        "version = \"0.2.0\"",
    );
    playground.edit("tiny-top/CHANGELOG.md", "## 0.1.1", "## 0.2.0");
    playground.lock();
    playground.commit("a version that says so");
    playground
        .release(&[])
        .succeeds(&["would publish tiny-top 0.2.0"]);
}

#[test]
#[ignore = "takes cargo-semver-checks; `cargo xtask test` runs it where that is installed"]
fn a_compatible_change_takes_a_compatible_version() {
    let playground = released();
    let code = playground.read("tiny-top/src/lib.rs");
    let more = "\n/// Three.\npub fn three() -> u8 {\n    3\n}\n";
    playground.write("tiny-top/src/lib.rs", &(code + more));
    playground.bump("tiny-top", "0.1.0", "0.1.1");
    playground.lock();
    playground.commit("three");
    playground
        .release(&[])
        .succeeds(&["compatible: tiny-top", "would publish tiny-top 0.1.1"]);
}
