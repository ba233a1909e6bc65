//! What a crate was when it was released, compared with what it would be now.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::Package;

use super::git::Git;
use super::manifest;
use crate::process;
use crate::workspace::Workspace;

/// Makes the past of this workspace visible in folders below target/.
pub(crate) struct Past<'a> {
    pub(crate) git: &'a Git,
    pub(crate) workspace: &'a Workspace,
}

/// These differ from one commit to the next, whatever was changed, or hold nothing that the
/// normalised manifest does not.
const NOT_COMPARED: [&str; 2] = [".cargo_vcs_info.json", "Cargo.toml.orig"];

impl Past<'_> {
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.workspace.target_directory.join("release");
        folder.join(name).into_std_path_buf()
    }

    /// The workspace as it was at `tag`.
    pub(crate) fn at(&self, tag: &str) -> Result<Workspace> {
        let clone = self.git.cloned(&self.folder("past"), tag)?;
        Workspace::members_only(&clone).with_context(|| format!("the workspace at {tag}"))
    }

    /// Files of which the package would hold something else than at `tag`.
    pub(crate) fn changed(
        &self,
        package: &Package,
        tag: &str,
        sisters: &[&str],
    ) -> Result<Vec<String>> {
        let past = self.at(tag)?;
        let old = unpacked(&past, package, &self.folder("packages-past"))?;
        let new = unpacked(self.workspace, package, &self.folder("packages-now"))?;
        let mut changed = Vec::new();
        for file in self.git.difference(&old, &new)? {
            if NOT_COMPARED
                .iter()
                .any(|name| file.as_path() == Path::new(name))
            {
                continue;
            }
            let is_manifest = file.as_path() == Path::new("Cargo.toml");
            let read = |folder: &Path| fs::read_to_string(folder.join("Cargo.toml"));
            if !is_manifest || manifest::differs(&read(&old)?, &read(&new)?, sisters)? {
                changed.push(file.display().to_string());
            }
        }
        Ok(changed)
    }
}

/// What the package holds, with the manifest as cargo normalises it: whatever it inherits from the
/// workspace is written out there.
fn unpacked(workspace: &Workspace, package: &Package, folder: &Path) -> Result<PathBuf> {
    let mut cargo = process::cargo();
    cargo
        .args([
            "package",
            "--quiet",
            "--no-verify",
            "--exclude-lockfile",
            "--allow-dirty",
        ])
        .args(["--package", &package.name, "--target-dir"])
        .arg(folder)
        .current_dir(&workspace.workspace_root);
    process::output_of(&mut cargo)?;
    let stem = format!("{}-{}", package.name, package.version);
    let packages = folder.join("package");
    let unpacked = packages.join(&stem);
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked)?;
    }
    let mut tar = process::command("tar");
    tar.args(["--extract", "--gzip", "--file", &format!("{stem}.crate")]);
    process::output_of(tar.current_dir(packages))?;
    Ok(unpacked)
}
