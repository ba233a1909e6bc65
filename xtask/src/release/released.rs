//! Compares a crate with its last release.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::Package;

use super::manifest;
use super::plan::Sources;
use crate::process;
use crate::workspace::Workspace;

impl Sources<'_> {
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.workspace.target_directory.join("release");
        folder.join(name).into_std_path_buf()
    }

    /// The workspace at `tag`, checked out below target/.
    pub(crate) fn at(&self, tag: &str) -> Result<Workspace> {
        let clone = self.git.cloned(&self.folder("past"), tag)?;
        Workspace::members_only(&clone).with_context(|| format!("the workspace at {tag}"))
    }

    /// The packaged files that have changed since `tag`.
    pub(crate) fn changed(
        &self,
        package: &Package,
        tag: &str,
        sisters: &[&str],
    ) -> Result<Vec<String>> {
        let old = unpacked(&self.at(tag)?, package, &self.folder("packages/old"))?;
        let new = unpacked(self.workspace, package, &self.folder("packages/new"))?;
        let manifests = [&old, &new].map(|folder| fs::read_to_string(folder.join("Cargo.toml")));
        let [before, now] = manifests;
        if !manifest::differs(&before?, &now?, sisters)? {
            fs::copy(old.join("Cargo.toml"), new.join("Cargo.toml"))?;
        }
        self.git.difference(&old, &new)
    }
}

/// Packages and unpacks a crate, so that its manifest is normalized, with inherited settings
/// resolved.
fn unpacked(workspace: &Workspace, package: &Package, folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let mut cargo = process::cargo();
    cargo
        .args(["package", "--quiet", "--no-verify", "--allow-dirty"])
        .args(["--exclude-lockfile", "--package", &package.name])
        .arg("--target-dir")
        .arg(folder)
        .current_dir(&workspace.workspace_root);
    process::output_of(&mut cargo)?;
    let stem = format!("{}-{}", package.name, package.version);
    let packages = folder.join("package");
    let mut tar = process::command("tar");
    tar.args(["--extract", "--gzip", "--file", &format!("{stem}.crate")])
        // The former differs between any two commits; the latter adds nothing to the normalized
        // manifest.
        .args([
            "--exclude=.cargo_vcs_info.json",
            "--exclude=Cargo.toml.orig",
        ]);
    process::output_of(tar.current_dir(&packages))?;
    Ok(packages.join(stem))
}
