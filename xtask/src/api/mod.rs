//! `cargo xtask api`: the public API of the published crates, one item a line.
//!
//! The lists are kept beside this crate's sources, so that no change of the API goes unseen.

#![expect(
    clippy::indexing_slicing,
    reason = "indexing JSON does not panic: what is not there is null"
)]

mod examples;
mod list;
mod render;
mod rustdoc;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Workspace};
use rustdoc::Crate;

pub(crate) const HELP: &str = "\
  --accept             keeps the list as it is now, under xtask/api/
  --check              fails where it differs from what is kept
  --examples           the items without an example: neither they nor their type have one";

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let root = workspace::root();
    std::env::set_current_dir(&root).with_context(|| format!("cannot enter {}", root.display()))?;
    let workspace = Workspace::members_only(&root)?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => show(&crates(&workspace)?, list::lines),
        ["--examples"] => show(&crates(&workspace)?, examples::missing),
        ["--accept"] => accept(&workspace),
        ["--check"] => {
            println!("{}", check(&workspace)?);
            Ok(())
        }
        other => bail!(
            "`{}` is no option of `cargo xtask api`\n{HELP}",
            other.join(" ")
        ),
    }
}

/// The public API is the one that was accepted, and each item has an example.
///
/// Returns a remark. A toolchain whose JSON is of another format is one, and no failure.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let format = rustdoc::format_of_toolchain(workspace)?;
    if !rustdoc::is_known(&format) {
        return Ok(format!("NOT RUN: {}", unknown(&format)));
    }
    let mut problems = Vec::new();
    let mut count = 0;
    for krate in crates(workspace)? {
        let now = list::lines(&krate)?;
        let file = file_of(workspace, &krate.name);
        let kept = fs::read_to_string(&file).unwrap_or_default();
        count += now.len();
        problems.extend(difference(&krate.name, &kept, &now));
        let missing = examples::missing(&krate)?;
        problems.extend(
            missing
                .iter()
                .map(|item| format!("without an example: {item}")),
        );
    }
    if !problems.is_empty() {
        bail!(
            "{}\nIf the API is to change like this: cargo xtask api --accept",
            problems.join("\n")
        );
    }
    Ok(format!("{count} items"))
}

fn accept(workspace: &Workspace) -> Result<()> {
    for krate in crates(workspace)? {
        let file = file_of(workspace, &krate.name);
        let lines = list::lines(&krate)?;
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&file, lines.join("\n") + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}: {} items", file.display(), lines.len());
    }
    Ok(())
}

fn show(crates: &[Crate], lines: fn(&Crate) -> Result<Vec<String>>) -> Result<()> {
    for krate in crates {
        println!("# {}", krate.name);
        for line in lines(krate)? {
            println!("{line}");
        }
        println!();
    }
    Ok(())
}

fn crates(workspace: &Workspace) -> Result<Vec<Crate>> {
    let format = rustdoc::format_of_toolchain(workspace)?;
    if !rustdoc::is_known(&format) {
        bail!("{}", unknown(&format));
    }
    rustdoc::document(workspace)
}

fn unknown(format: &str) -> String {
    format!(
        "rustdoc of this toolchain writes JSON of format {format}; this reads {}",
        rustdoc::KNOWN
    )
}

fn file_of(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.root.join(format!("xtask/api/{name}.txt"))
}

/// What came and what went, a line each.
fn difference(name: &str, kept: &str, now: &[String]) -> Vec<String> {
    let kept: BTreeSet<&str> = kept.lines().collect();
    let now: BTreeSet<&str> = now.iter().map(String::as_str).collect();
    let gone = kept.difference(&now).map(|line| format!("{name} - {line}"));
    let new = now.difference(&kept).map(|line| format!("{name} + {line}"));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_line_by_line() {
        let now = ["fn a()".to_owned(), "fn c()".to_owned()];
        assert_eq!(
            difference("x", "fn a()\nfn b()\n", &now),
            ["x - fn b()", "x + fn c()"]
        );
        assert!(difference("x", "fn a()\nfn c()\n", &now).is_empty());
        assert_eq!(difference("x", "", &now).len(), 2);
    }
}
