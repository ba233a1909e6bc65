//! `cargo xtask release` with two tiny crates and a registry on loopback: what is published, and
//! what is refused before anything is published.

mod support;

use support::playground::Playground;

#[test]
fn default_is_a_dry_run() {
    let playground = Playground::tiny();
    playground.release(&[]).succeeds(&[
        "1. publish  tiny-base",
        "2. publish  tiny-top",
        "tiny-base-0.1.0/src/lib.rs",
        "nothing was published",
    ]);
    assert!(playground.registry.attempts().is_empty());
    assert!(playground.tags().is_empty());
}

#[test]
fn plan_shows_order_versions_and_reasons() {
    let playground = Playground::tiny();
    let plan = playground.release(&["plan"]);
    plan.succeeds(&[
        "1. publish  tiny-base",
        "2. publish  tiny-top",
        "first release",
    ]);
    assert!(!plan.said.contains("package"), "{}", plan.said);
}

#[test]
fn publishes_in_order_then_has_nothing_to_do() {
    let playground = Playground::tiny();
    playground.release(&["--execute"]).succeeds(&[
        "published tiny-base 0.1.0",
        "git push origin tiny-base-v0.1.0 tiny-top-v0.1.0",
    ]);
    assert_eq!(
        playground.registry.published(),
        ["tiny-base 0.1.0", "tiny-top 0.1.0"]
    );
    assert_eq!(playground.tags(), ["tiny-base-v0.1.0", "tiny-top-v0.1.0"]);
    for name in ["tiny-base", "tiny-top"] {
        let list = playground.read(&format!("target/release/sbom/{name}-0.1.0.spdx.json"));
        assert!(list.contains("packages"), "{list}");
    }

    // Finished steps are not repeated; remaining ones are reported.
    playground.release(&["--execute"]).succeeds(&[
        "nothing to do",
        "git push origin tiny-base-v0.1.0 tiny-top-v0.1.0",
    ]);
    assert_eq!(playground.registry.attempts().len(), 2);

    playground
        .release(&["--execute", "--push"])
        .succeeds(&["pushed tiny-base-v0.1.0 tiny-top-v0.1.0"]);
    assert_eq!(playground.tags_of_origin(), playground.tags());
    let release = playground.release(&["--execute", "--push"]);
    release.succeeds(&["nothing to do"]);
    assert!(!release.said.contains("push"), "{}", release.said);

    a_change_needs_a_new_version(&playground);
}

/// This includes inherited changes, but not files outside of the packages.
fn a_change_needs_a_new_version(playground: &Playground) {
    playground.write("notes.md", "Not in any package.\n");
    playground.commit("notes");
    playground.release(&["plan"]).succeeds(&["nothing to do"]);

    playground.edit("tiny-base/src/lib.rs", "    1\n", "    1 + 0\n");
    playground.commit("changed");
    playground.release(&["plan"]).fails(&[
        "tiny-base has changed since tiny-base-v0.1.0 and still is 0.1.0",
        "src/lib.rs",
    ]);
    playground.git(&["revert", "--no-edit", "HEAD"]);

    playground.edit(
        "Cargo.toml",
        "rust-version = \"1.88\"",
        "rust-version = \"1.89\"",
    );
    playground.commit("inherited");
    playground.release(&["plan"]).fails(&[
        "tiny-base has changed since tiny-base-v0.1.0 and still is 0.1.0",
        "tiny-top has changed since tiny-top-v0.1.0 and still is 0.1.0",
        "(Cargo.toml)",
    ]);
}

#[test]
fn refuses_a_crate_before_its_dependency() {
    let playground = Playground::tiny();
    playground
        .release(&["tiny-top"])
        .fails(&["tiny-top needs tiny-base 0.1.0, which loopback does not have"]);
}

#[test]
fn refuses_a_dirty_tree() {
    let playground = Playground::tiny();
    playground.write("tiny-base/src/new.rs", "");
    playground
        .release(&["--execute"])
        .fails(&["the tree is dirty", "new.rs"]);
    assert!(playground.registry.attempts().is_empty());
}

#[test]
fn refuses_another_branch() {
    let playground = Playground::tiny();
    playground.git(&["switch", "--quiet", "--create", "fix"]);
    playground.release(&[]).fails(&["this is branch `fix`"]);
    playground
        .release(&["plan", "--branch", "fix"])
        .succeeds(&[]);
}

#[test]
fn refuses_a_tag_without_a_published_version() {
    let playground = Playground::tiny();
    playground.git(&["tag", "tiny-base-v0.1.0"]);
    playground
        .release(&[])
        .fails(&["the tag tiny-base-v0.1.0 exists, but loopback does not have"]);
}

#[test]
fn refuses_a_dependent_that_requires_the_old_version() {
    let playground = Playground::tiny();
    playground.bump("tiny-base", "0.1.0", "0.1.1");
    playground.lock();
    playground.commit("raised one only");
    playground
        .release(&[])
        .fails(&["tiny-top asks for tiny-base ^0.1.0; with this release it is 0.1.1"]);
}

#[test]
fn refuses_undated_or_empty_changelog_entries() {
    let playground = Playground::tiny();
    playground.edit("tiny-base/CHANGELOG.md", "(2026-01-01)", "(unreleased)");
    playground.edit(
        "tiny-top/CHANGELOG.md",
        "## 0.1.0 (2026-01-01)\n\n- First release.\n",
        "## 0.1.0 (2026-01-01)\n",
    );
    playground.commit("holes");
    playground.release(&["plan"]).fails(&[
        "tiny-base/CHANGELOG.md does not date its entry",
        "tiny-top/CHANGELOG.md says nothing under 0.1.0",
    ]);
}

#[test]
fn refuses_a_cycle_of_versioned_dev_dependencies() {
    let playground = Playground::tiny();
    let manifest = playground.read("tiny-base/Cargo.toml");
    let top = "\n[dev-dependencies]\ntiny-top = { path = \"../tiny-top\" }\n";
    playground.write("tiny-base/Cargo.toml", &(manifest.clone() + top));
    playground.lock();
    playground.commit("a path alone is none");
    playground
        .release(&["plan"])
        .succeeds(&["1. publish  tiny-base"]);

    let top = "\n[dev-dependencies]\ntiny-top = { version = \"0.1.0\", path = \"../tiny-top\" }\n";
    playground.write("tiny-base/Cargo.toml", &(manifest + top));
    playground.commit("a circle");
    playground
        .release(&["plan"])
        .fails(&["tiny-base, tiny-top depend on each other in a circle"]);
}

#[test]
fn refuses_an_unknown_crate() {
    Playground::tiny()
        .release(&["tiny-bottom"])
        .fails(&["`tiny-bottom` is not a published crate"]);
}

#[test]
fn plan_as_json() {
    let playground = Playground::tiny();
    let plan = playground.release(&["plan", "--json"]);
    plan.succeeds(&[]);
    let read: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(read["crates"][1]["name"], "tiny-top");
    assert_eq!(read["crates"][1]["action"], "publish");
    assert_eq!(read["crates"][1]["tag"], "tiny-top-v0.1.0");
    assert_eq!(read["refusals"], serde_json::json!([]));

    playground.write("new.rs", "");
    let plan = playground.release(&["plan", "--json"]);
    plan.fails(&["the tree is dirty"]);
    let read: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    assert!(read["refusals"][0].as_str().unwrap().contains("new.rs"));
}

#[test]
fn refuses_a_detached_head() {
    let playground = Playground::tiny();
    playground.git(&["switch", "--quiet", "--detach"]);
    playground
        .release(&["plan"])
        .fails(&["HEAD is detached", "git switch main"]);
}

#[test]
fn refuses_a_shallow_clone() {
    let playground = Playground::tiny();
    playground.write("more.md", "");
    playground.commit("more");
    let origin = format!("file://{}", playground.origin().display());
    playground.git(&["fetch", "--quiet", "--depth", "1", &origin, "main"]);
    playground
        .release(&["plan"])
        .fails(&["git fetch --unshallow --tags"]);
}

#[test]
fn refuses_an_unpushed_commit() {
    let playground = Playground::tiny();
    playground.write("notes.md", "");
    playground.git(&["add", "--all"]);
    playground.git(&["commit", "--quiet", "--message", "kept back"]);
    playground
        .release(&["plan"])
        .succeeds(&["before --execute: HEAD is on no branch of origin"]);
    playground
        .release(&["--execute"])
        .fails(&["git push origin HEAD"]);

    playground.git(&["remote", "remove", "origin"]);
    playground
        .release(&["--execute"])
        .fails(&["git remote add origin"]);
    assert!(playground.registry.attempts().is_empty());
}

#[test]
fn refuses_a_repository_that_differs_from_the_remote() {
    let playground = Playground::tiny();
    let folder = format!("url.{}.insteadOf", playground.origin().display());
    playground.git(&["config", &folder, "git@example.com:some/where.git"]);
    let remote = [
        "remote",
        "set-url",
        "origin",
        "git@example.com:some/where.git",
    ];
    playground.git(&remote);
    let line = "repository = \"https://example.com/some/where\"";
    playground.release(&["plan"]).fails(&[
        "tiny-base names https://example.org/tiny as its repository",
        line,
    ]);
    for name in ["tiny-base", "tiny-top"] {
        let manifest = format!("{name}/Cargo.toml");
        playground.edit(&manifest, "repository = \"https://example.org/tiny\"", line);
    }
    playground.commit("where it is");
    playground.release(&["plan"]).succeeds(&[]);
}

#[test]
fn refuses_to_start_without_a_token() {
    let playground = Playground::tiny();
    let run = |command: &mut std::process::Command| {
        let command = command.env_remove("CARGO_REGISTRIES_LOOPBACK_TOKEN");
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    let said = run(&mut playground.release_command(&["--execute"]));
    assert!(said.contains("cargo login --registry loopback"), "{said}");
    assert!(said.contains("CARGO_REGISTRIES_LOOPBACK_TOKEN"), "{said}");
    assert!(playground.registry.attempts().is_empty());

    let token = "[registries.loopback]\ntoken = \"x\"\n";
    std::fs::write(playground.cargo_home().join("credentials.toml"), token).unwrap();
    let said = run(&mut playground.release_command(&["plan"]));
    assert!(!said.contains("cargo login"), "{said}");
}

#[test]
fn refuses_tags_outside_of_the_branch() {
    let playground = Playground::tiny();
    playground.git(&["switch", "--quiet", "--create", "elsewhere"]);
    playground.write("tiny-base/src/more.rs", "");
    playground.commit("elsewhere");
    playground.git(&["tag", "tiny-base-v0.1.0"]);
    playground.git(&["switch", "--quiet", "main"]);
    playground.release(&["plan"]).fails(&[
        "the tag tiny-base-v0.1.0 is on a commit that HEAD does not contain",
        "git tag --delete tiny-base-v0.1.0",
    ]);

    playground.git(&["push", "--quiet", "origin", "tiny-base-v0.1.0"]);
    playground.git(&["tag", "--delete", "tiny-base-v0.1.0"]);
    playground
        .release(&["--execute"])
        .fails(&["origin has a tag tiny-base-v0.1.0 that is not the one here"]);
    assert!(playground.registry.attempts().is_empty());
}

#[test]
fn refuses_an_unpublished_dependency() {
    let playground = Playground::tiny();
    playground.edit(
        "tiny-base/Cargo.toml",
        "edition",
        "publish = false\nedition",
    );
    playground.lock();
    playground.commit("kept at home");
    playground
        .release(&["plan"])
        .fails(&["tiny-top depends on the folder of tiny-base, which is not published"]);
}

#[test]
fn distinguishes_an_unresponsive_registry_from_an_empty_one() {
    let playground = Playground::tiny();
    playground.registry.index_fails(500);
    let plan = ["plan"];
    playground
        .release(&plan)
        .fails(&["loopback does not answer for tiny-base"]);

    playground.registry.clear();
    playground.registry.is_silent_on("GET");
    let output = playground
        .release_command(&plan)
        .env("CARGO_HTTP_TIMEOUT", "1")
        .env("CARGO_NET_RETRY", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("asking loopback"), "{said}");
    assert!(said.contains("loopback does not answer"), "{said}");
}
