//! Checks that `WRITING_A_BACKEND.md` shows the code of this crate.

#[test]
fn page_shows_this_crate() {
    let page = include_str!("../../../cache-conformance/WRITING_A_BACKEND.md");
    for (name, code) in [
        ("src/lib.rs", include_str!("../src/lib.rs")),
        ("tests/conformance.rs", include_str!("conformance.rs")),
    ] {
        let block = format!("```rust\n{code}```\n");
        assert!(page.contains(&block), "the page shows another {name}");
    }
    assert!(include_str!("../src/lib.rs").lines().count() <= 120);
}
