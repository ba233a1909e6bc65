//! The `cargo metadata` of this workspace.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package};

/// The metadata, accessible through [`Deref`].
pub(crate) struct Workspace(Metadata);

impl Deref for Workspace {
    type Target = Metadata;

    fn deref(&self) -> &Metadata {
        &self.0
    }
}

impl Workspace {
    /// Loads the workspace at `root`, without its dependencies.
    pub(crate) fn members_only(root: &Path) -> Result<Self> {
        let mut command = MetadataCommand::new();
        Ok(Self(command.current_dir(root).no_deps().exec()?))
    }

    /// Loads the workspace at `root` with all dependencies and features.
    pub(crate) fn with_dependencies(root: &Path) -> Result<Self> {
        let mut command = MetadataCommand::new();
        command
            .current_dir(root)
            .features(CargoOpt::AllFeatures)
            .other_options(["--locked".to_owned()]);
        Ok(Self(command.exec()?))
    }

    /// The members that are published to a registry.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Package> {
        let members = self.0.workspace_packages().into_iter();
        members.filter(|package| is_published(package))
    }

    pub(crate) fn unpublished(&self) -> impl Iterator<Item = &Package> {
        let members = self.0.workspace_packages().into_iter();
        members.filter(|package| !is_published(package))
    }
}

fn is_published(package: &Package) -> bool {
    package.publish.as_ref().is_none_or(|to| !to.is_empty())
}

/// The folder of the package's Cargo.toml.
pub(crate) fn folder(package: &Package) -> &Path {
    let manifest = package.manifest_path.as_std_path();
    manifest.parent().unwrap_or(manifest)
}

/// The features that users can select, except `default`.
pub(crate) fn own_features(package: &Package) -> impl Iterator<Item = &str> {
    let names = package.features.keys().map(String::as_str);
    names.filter(|name| *name != "default")
}

/// The folder of this workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or(manifest.clone(), Path::to_path_buf)
}

/// Writes an empty library with one dependency, outside of this workspace.
pub(crate) fn write_project(folder: &Path, dependency: &str, requirement: &str) -> Result<()> {
    fs::create_dir_all(folder.join("src"))
        .with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"empty\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n{dependency} = {requirement}\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    Ok(())
}
