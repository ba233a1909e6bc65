//! Whether a version that claims to be compatible is.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::plan::{Entry, Plan, is_compatible};
use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

/// Knows what breaks users of a Rust crate.
const TOOL: &str = "cargo-semver-checks";
const TOOL_VERSION: &str = "0.51.0";

/// Compares each crate that claims to be compatible with its last release, by the tag of that.
pub(crate) fn run(
    workspace: &Workspace,
    plan: &Plan<'_>,
    allowed: &[String],
    live: &Live,
) -> Result<String> {
    let mut checked = Vec::new();
    for entry in plan.outgoing() {
        let Some(last) = &entry.last else { continue };
        // A version that says that it breaks may.
        if !is_compatible(last, &entry.version) || allowed.iter().any(|a| a == entry.name()) {
            continue;
        }
        check(workspace, entry, &format!("{}-v{last}", entry.name()), live)?;
        checked.push(entry.name());
    }
    if checked.is_empty() {
        return Ok("nothing claims to be compatible with an earlier release".to_owned());
    }
    Ok(format!("compatible: {}", checked.join(", ")))
}

fn check(workspace: &Workspace, entry: &Entry<'_>, tag: &str, live: &Live) -> Result<()> {
    let tool = provide(workspace, live)?;
    let mut command = process::command(tool);
    command
        .args([
            "semver-checks",
            "--package",
            entry.name(),
            "--baseline-rev",
            tag,
        ])
        .current_dir(&workspace.workspace_root);
    live.run(&mut command).with_context(|| {
        format!(
            "{name} {} claims to be compatible with {tag}: raise the version so that it does not, \
             or, where the check itself failed, pass --allow-breaking {name}",
            entry.version,
            name = entry.name(),
        )
    })?;
    Ok(())
}

/// The tool, on `PATH` or in target/tools.
pub(crate) fn find(workspace: &Workspace) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([folder(workspace)])
        .map(|folder| folder.join(TOOL))
        .find(|file| file.is_file())
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target_directory.join("tools/bin").into()
}

/// The tool; built into target/tools when it is first needed.
pub(crate) fn provide(workspace: &Workspace, live: &Live) -> Result<PathBuf> {
    if let Some(tool) = find(workspace) {
        return Ok(tool);
    }
    eprintln!("\nbuilding {TOOL} {TOOL_VERSION} into target/tools, once; this takes minutes");
    let mut install = process::cargo();
    install
        .args(["install", TOOL, "--version", TOOL_VERSION, "--locked"])
        // It runs for a second; what it takes is the time to build it.
        .args(["--profile", "dev", "--root"])
        .arg(workspace.target_directory.join("tools"))
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .current_dir(&workspace.workspace_root);
    live.run(&mut install)?;
    find(workspace).with_context(|| format!("{TOOL} is not there after installing it"))
}
