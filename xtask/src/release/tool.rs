//! Third-party tools for releases, built on first use.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Detects breaking API changes.
pub(crate) const SEMVER_CHECKS: Tool = Tool {
    name: "cargo-semver-checks",
    version: "0.51.0",
};

/// Lists a crate's dependencies and licenses.
pub(crate) const SBOM: Tool = Tool {
    name: "cargo-sbom",
    version: "0.10.0",
};

impl Tool {
    /// Finds the tool on `PATH` or in target/tools, or else builds it there.
    pub(crate) fn provide(&self, workspace: &Workspace, live: &Live) -> Result<PathBuf> {
        let Self { name, version } = self;
        let tools = workspace.target_directory.join("tools").into_std_path_buf();
        let find = || {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path)
                .chain([tools.join("bin")])
                .map(|folder| folder.join(name))
                .find(|file| file.is_file())
        };
        if let Some(tool) = find() {
            return Ok(tool);
        }
        eprintln!("\nbuilding {name} {version} in target/tools; this takes a few minutes, once");
        let mut install = process::cargo();
        install
            .args(["install", name, "--version", version, "--locked"])
            // The tool runs for a second, so a faster build outweighs a faster tool.
            .args(["--profile", "dev", "--root"])
            .arg(&tools)
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .current_dir(&workspace.workspace_root);
        live.run(&mut install)
            .with_context(|| format!("{name} is required: cargo install {name}"))?;
        find().with_context(|| format!("{name} was not found after its installation"))
    }
}
