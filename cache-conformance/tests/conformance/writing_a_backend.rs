//! The code of `WRITING_A_BACKEND.md`, compiled and run, and compared with the page.
#![allow(unreachable_pub)] // On the page it is a crate.

#[path = "guide/backend.rs"]
mod map_backend;

// The file that the reader writes as `tests/conformance.rs`.
include!("guide/conformance.rs");

#[test]
fn the_page_shows_the_code_tested_here() {
    let page = include_str!("../../WRITING_A_BACKEND.md");
    for (name, code) in [
        ("src/lib.rs", include_str!("guide/backend.rs")),
        ("tests/conformance.rs", include_str!("guide/conformance.rs")),
    ] {
        let block = format!("```rust\n{code}```\n");
        assert!(page.contains(&block), "the page shows another {name}");
    }
}
