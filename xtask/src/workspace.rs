//! What `cargo metadata` says of this workspace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
    #[serde(rename = "workspace_members")]
    members: Vec<String>,
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    pub(crate) target_directory: PathBuf,
    pub(crate) resolve: Option<Resolve>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) rust_version: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// `Some([])` means that it is not published.
    publish: Option<Vec<String>>,
    manifest_path: PathBuf,
    pub(crate) description: Option<String>,
    pub(crate) readme: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) license_file: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for a normal one.
    pub(crate) kind: Option<String>,
    pub(crate) rename: Option<String>,
    pub(crate) optional: bool,
    /// `*` if it is only a path.
    pub(crate) req: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<NodeDependency>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NodeDependency {
    pub(crate) pkg: String,
    pub(crate) dep_kinds: Vec<NodeKind>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NodeKind {
    pub(crate) kind: Option<String>,
}

impl Workspace {
    /// The workspace at `root`, without what it depends on.
    pub(crate) fn members_only(root: &Path) -> Result<Self> {
        Self::load(root, &["--no-deps"])
    }

    /// The workspace at `root` with everything it depends on, all features on.
    pub(crate) fn with_dependencies(root: &Path) -> Result<Self> {
        Self::load(root, &["--all-features"])
    }

    fn load(root: &Path, arguments: &[&str]) -> Result<Self> {
        let mut cargo = process::cargo();
        cargo
            .args(["metadata", "--format-version", "1"])
            .args(arguments)
            .current_dir(root);
        let text = process::output_of(&mut cargo)?;
        serde_json::from_str(&text).context("cannot read what `cargo metadata` printed")
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.members.contains(&package.id))
    }

    /// The members that go to a registry.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Package> {
        self.members().filter(|package| package.is_published())
    }
}

impl Package {
    pub(crate) fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|to| !to.is_empty())
    }

    /// Where its Cargo.toml is.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    /// The features that a user can name: those that were written down.
    pub(crate) fn own_features(&self) -> impl Iterator<Item = &str> {
        self.features
            .keys()
            .map(String::as_str)
            .filter(|name| *name != "default")
    }
}

/// The folder of this workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or(manifest.clone(), Path::to_path_buf)
}
