//! Checks the English of Markdown files and doc comments with proselint and our own word list.

use anyhow::Result;

use super::pip;
use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

const PROSELINT: &str = "proselint==0.16.0";

/// The files to check, as patterns for `git ls-files`: Markdown, and sources for doc comments.
const FILES: [&str; 2] = ["*.md", "cache-*/src/*.rs"];

pub(super) fn check(workspace: &Workspace, live: &Live) -> Result<String> {
    let python = pip::provide(workspace, live, PROSELINT)?;
    let said = live.run(
        process::command(python)
            .arg(".github/prose/check.py")
            .args(FILES),
    )?;
    Ok(said.trim().to_owned())
}
