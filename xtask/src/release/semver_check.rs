//! Checks versions that claim to be compatible for breaking changes.

use anyhow::{Context, Result};

use super::plan::Plan;
use super::tool::SEMVER_CHECKS;
use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

/// Compares each crate whose version claims to be compatible with its last release.
pub(crate) fn run(
    workspace: &Workspace,
    plan: &Plan<'_>,
    allowed: &[String],
    live: &Live,
) -> Result<String> {
    let mut checked = Vec::new();
    for (entry, _, tag) in plan.compatible(allowed) {
        let name = entry.name;
        let mut command = process::command(SEMVER_CHECKS.provide(workspace, live)?);
        command
            .args(["semver-checks", "--package", name, "--baseline-rev", &tag])
            .current_dir(&workspace.workspace_root);
        live.run(&mut command).with_context(|| {
            format!(
                "{name} {} claims to be compatible with {tag}: raise the version so that it does \
                 not, or, where the check itself failed, pass --allow-breaking {name}",
                entry.version,
            )
        })?;
        checked.push(name);
    }
    if checked.is_empty() {
        return Ok("nothing claims to be compatible with an earlier release".to_owned());
    }
    Ok(format!("compatible: {}", checked.join(", ")))
}
