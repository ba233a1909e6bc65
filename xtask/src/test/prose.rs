//! Checks the English of Markdown files and doc comments with proselint and our own word list.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

const PROSELINT: &str = "proselint==0.16.0";

/// The files to check, as patterns for `git ls-files`: Markdown, and sources for doc comments.
const FILES: [&str; 2] = ["*.md", "cache-*/src/*.rs"];

pub(crate) fn check(workspace: &Workspace, live: &Live) -> Result<String> {
    let python = proselint(workspace, live)
        .with_context(|| format!("cannot install {PROSELINT} from PyPI"))?;
    let said = live.run(
        process::command(python)
            .arg(".github/prose/check.py")
            .args(FILES),
    )?;
    Ok(said.trim().to_owned())
}

/// The Python interpreter of a virtual environment below target/ with proselint installed.
fn proselint(workspace: &Workspace, live: &Live) -> Result<PathBuf> {
    let folder: PathBuf = workspace.target_directory.join("prose").into();
    let (python, installed) = (folder.join("bin/python"), folder.join("installed"));
    if fs::read_to_string(&installed).is_ok_and(|version| version == PROSELINT) {
        return Ok(python);
    }
    let environment = ["-m", "venv", "--clear"];
    live.run(process::command("python3").args(environment).arg(&folder))?;
    let install = ["-m", "pip", "install", "--quiet", PROSELINT];
    live.run(process::command(&python).args(install))?;
    fs::write(&installed, PROSELINT)?;
    Ok(python)
}
