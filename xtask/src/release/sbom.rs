//! Writes an SPDX software bill of materials, with licenses, for each released crate.

use std::fs;

use anyhow::{Result, ensure};

use super::plan::Plan;
use super::tool::SBOM;
use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

/// Writes a document for each crate to publish, and returns their folder.
pub(crate) fn run(workspace: &Workspace, plan: &Plan<'_>, live: &Live) -> Result<String> {
    let folder = workspace.target_directory.join("release/sbom");
    fs::create_dir_all(&folder)?;
    for entry in plan.outgoing() {
        let mut sbom = process::command(SBOM.provide(workspace, live)?);
        sbom.args([
            "sbom",
            "--output-format",
            "spdx_json_2_3",
            "--cargo-package",
        ])
        .arg(entry.name)
        .current_dir(&workspace.workspace_root);
        let document = process::output_of(&mut sbom)?;
        let read: serde_json::Value = serde_json::from_str(&document)?;
        ensure!(
            read.get("packages").is_some(),
            "the SBOM of {} is empty",
            entry.name
        );
        let file = format!("{}-{}.spdx.json", entry.name, entry.version);
        fs::write(folder.join(file), document)?;
    }
    Ok(folder.into())
}
