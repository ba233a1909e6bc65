//! `cargo xtask release` with third-party tools: errors include their output, and the documents
//! they write are kept.

mod support;

use support::playground::Playground;

#[test]
#[ignore = "needs third-party tools; `cargo xtask test --all` builds and runs them"]
fn refuses_a_breaking_change_in_a_compatible_version() {
    let playground = Playground::tiny().with_real_tools();
    playground.release(&["--execute"]).succeeds(&[]);
    playground.edit("tiny-top/src/lib.rs", "fn two()", "fn deux()");
    playground.bump("tiny-top", "0.1.0", "0.1.1");
    playground.lock();
    playground.commit("French");
    playground.release(&[]).fails(&[
        "tiny-top 0.1.1 claims to be compatible with tiny-top-v0.1.0",
        "pub fn removed or renamed",
    ]);
    // The check can be overridden per crate.
    playground
        .release(&["--allow-breaking", "tiny-top"])
        .succeeds(&["0.1.0 → 0.1.1", "nothing was published"]);

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
        .succeeds(&["0.1.0 → 0.2.0", "nothing was published"]);
}

#[test]
#[ignore = "needs third-party tools; `cargo xtask test --all` builds and runs them"]
fn accepts_a_compatible_change_in_a_compatible_version() {
    let playground = Playground::tiny().with_real_tools();
    playground.release(&["--execute"]).succeeds(&[]);
    let code = playground.read("tiny-top/src/lib.rs");
    let more = "\n/// Three.\npub fn three() -> u8 {\n    3\n}\n";
    playground.write("tiny-top/src/lib.rs", &(code + more));
    playground.bump("tiny-top", "0.1.0", "0.1.1");
    playground.lock();
    playground.commit("three");
    playground
        .release(&[])
        .succeeds(&["compatible: tiny-top", "nothing was published"]);
}
#[test]
#[ignore = "needs third-party tools; `cargo xtask test --all` builds and runs them"]
fn sbom_lists_dependencies_and_licenses() {
    let playground = Playground::tiny().with_real_tools();
    playground.release(&[]).succeeds(&[]);
    let list = playground.read("target/release/sbom/tiny-top-0.1.0.spdx.json");
    assert!(list.contains("\"tiny-base\""), "{list}");
    assert!(list.contains("Apache-2.0"), "{list}");
}
