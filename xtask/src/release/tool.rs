//! Programs of others that a release takes, built when they are first needed.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Knows what breaks users of a Rust crate.
pub(crate) const SEMVER_CHECKS: Tool = Tool {
    name: "cargo-semver-checks",
    version: "0.51.0",
};

/// Lists what a crate is built from, with licences.
pub(crate) const SBOM: Tool = Tool {
    name: "cargo-sbom",
    version: "0.10.0",
};

impl Tool {
    /// The tool on `PATH` or in target/tools; built there if it is in neither.
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
        eprintln!("\nbuilding {name} {version} into target/tools, once; this takes minutes");
        let mut install = process::cargo();
        install
            .args(["install", name, "--version", version, "--locked"])
            // It runs for a second; what it takes is the time to build it.
            .args(["--profile", "dev", "--root"])
            .arg(&tools)
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .current_dir(&workspace.workspace_root);
        live.run(&mut install)
            .with_context(|| format!("{name} is needed here: cargo install {name}"))?;
        find().with_context(|| format!("{name} is not there after installing it"))
    }
}
