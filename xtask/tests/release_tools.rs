//! `cargo xtask release` with the tools of others: what they have to say is in the error, and what
//! they write is kept.

mod support;

use support::playground::Playground;

#[test]
#[ignore = "takes tools of others; `cargo xtask test --all` builds them and runs it"]
fn refuses_a_breaking_change_without_the_version_that_says_so() {
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
    // Those who know better say so, crate by crate.
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
#[ignore = "takes tools of others; `cargo xtask test --all` builds them and runs it"]
fn a_compatible_change_takes_a_compatible_version() {
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
#[ignore = "takes tools of others; `cargo xtask test --all` builds them and runs it"]
fn the_list_of_licences_names_what_a_crate_is_built_from() {
    let playground = Playground::tiny().with_real_tools();
    playground.release(&[]).succeeds(&[]);
    let list = playground.read("target/release/sbom/tiny-top-0.1.0.spdx.json");
    assert!(list.contains("\"tiny-base\""), "{list}");
    assert!(list.contains("Apache-2.0"), "{list}");
}
