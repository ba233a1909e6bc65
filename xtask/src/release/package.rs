//! The package files: made, shown, and built without the rest of the repository.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use toml_edit::{DocumentMut, value};

use super::git::Git;
use super::manifest;
use super::plan::Plan;
use super::registry::{PATIENCE_WITH_PACKAGES, Registry, bounded};
use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

/// One `.crate` file.
pub(crate) struct Packaged {
    name: String,
    checksum: String,
    file: PathBuf,
}

/// The commit that is released, in a clone: what is edited in the tree meanwhile is not in it.
pub(crate) struct Checkout<'a> {
    folder: PathBuf,
    target: PathBuf,
    registry: &'a Registry,
}

impl<'a> Checkout<'a> {
    pub(crate) fn new(
        workspace: &Workspace,
        git: &Git,
        commit: &str,
        registry: &'a Registry,
    ) -> Result<Self> {
        let clone = workspace.target_directory.join("release/checkout");
        let checkout = Self {
            folder: git.cloned(clone.as_std_path(), commit)?,
            target: workspace.target_directory.clone().into(),
            registry,
        };
        if let Some(name) = &registry.name {
            checkout.look_for_sisters_in(name, workspace)?;
        }
        Ok(checkout)
    }

    /// Crates for another registry than crates.io have to find each other there, whether their
    /// manifests say so or not.
    fn look_for_sisters_in(&self, registry: &str, workspace: &Workspace) -> Result<()> {
        let root = workspace.workspace_root.as_path();
        let members = workspace.workspace_packages().into_iter();
        let manifests = members.map(|package| package.manifest_path.clone());
        for file in manifests.chain([root.join("Cargo.toml")]) {
            let file = self.folder.join(file.strip_prefix(root)?);
            let mut manifest: DocumentMut = fs::read_to_string(&file)?.parse()?;
            manifest::each_dependency(manifest.as_table_mut(), &mut |package, dependency| {
                let is_sister = workspace.published().any(|sister| sister.name == package);
                let has = |key| dependency.contains_key(key);
                if is_sister && has("version") && !has("registry") {
                    dependency.insert("registry", value(registry));
                }
            });
            fs::write(&file, manifest.to_string())?;
        }
        Ok(())
    }

    /// `cargo package` or `cargo publish`, for that registry.
    pub(crate) fn cargo(&self, command: &str) -> Command {
        let mut cargo = process::cargo();
        cargo
            .args([command, "--no-verify", "--locked"])
            .args(self.registry.arguments())
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(&self.folder);
        if self.registry.name.is_some() {
            // For the lines that were added.
            cargo.arg("--allow-dirty");
        }
        bounded(&mut cargo, PATIENCE_WITH_PACKAGES);
        cargo
    }
}

/// Packages what goes out and what is to be tagged, in one go: so the crates find each other
/// though the registry does not have them yet. Shows what each package holds.
pub(crate) fn make(checkout: &Checkout<'_>, plan: &Plan<'_>, live: &Live) -> Result<Vec<Packaged>> {
    let mut cargo = checkout.cargo("package");
    for entry in plan.to_tag() {
        cargo.args(["--package", entry.name]);
    }
    live.run(&mut cargo)?;
    let packaged = plan.to_tag().map(|entry| {
        let file = format!("package/{}-{}.crate", entry.name, entry.version);
        let file = checkout.target.join(file);
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let list = process::output_of(process::command("tar").arg("-tzf").arg(&file))?;
        let kibibytes = content.len().div_ceil(1024);
        live.say(&format!(
            "  {} {}, {kibibytes} KiB",
            entry.name, entry.version
        ));
        for line in list.lines() {
            live.say(&format!("    {line}"));
        }
        let checksum = format!("{:x}", Sha256::digest(&content));
        let name = entry.name.to_owned();
        Ok(Packaged {
            name,
            checksum,
            file,
        })
    });
    packaged.collect()
}

/// The checksum of what was packaged of `name`.
pub(crate) fn checksum_of<'a>(packages: &'a [Packaged], name: &str) -> Result<&'a str> {
    let package = packages.iter().find(|package| package.name == name);
    let package = package.with_context(|| format!("{name} was not packaged"))?;
    Ok(&package.checksum)
}

/// Builds, tests and documents the crates from what their packages hold and nothing else.
///
/// The unpacked crates form a workspace of their own, so that they find each other, and keep the
/// locked versions of everything else. Unlike cargo's own verification this needs no fresh
/// `CARGO_HOME`: nothing is taken from a cache of sources that had the same name and version.
pub(crate) fn verify(
    workspace: &Workspace,
    packages: &[Packaged],
    registry: &Registry,
    live: &Live,
) -> Result<String> {
    let folder = workspace.target_directory.join("release/unpacked");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut patches = String::new();
    for Packaged { name, file, .. } in packages {
        let mut tar = process::command("tar");
        // Cargo packs everything with one date of long ago; with it, cargo would take what it
        // built from an earlier package for up to date.
        tar.args(["--extract", "--touch", "--gzip", "--file"])
            .arg(file)
            .current_dir(&folder);
        live.run(&mut tar)?;
        let unpacked = file.file_stem().unwrap_or_default().display();
        let _ = writeln!(patches, "{name} = {{ path = \"{unpacked}\" }}");
    }
    let registry = registry.name.as_deref().unwrap_or("crates-io");
    fs::write(
        folder.join("Cargo.toml"),
        format!(
            "[workspace]\nresolver = \"3\"\nmembers = [\"*\"]\n\n\
             [patch.{registry}]\n{patches}"
        ),
    )?;
    let lock = workspace.workspace_root.join("Cargo.lock");
    fs::copy(lock, folder.join("Cargo.lock")).context("cannot copy Cargo.lock")?;
    for (arguments, flags) in [
        (["test", "--quiet"], ""),
        (["doc", "--no-deps"], "-D warnings"),
    ] {
        let mut cargo = process::cargo();
        cargo
            .args(arguments)
            .args(["--workspace", "--all-features", "--target-dir"])
            .arg(&workspace.target_directory)
            .env("RUSTDOCFLAGS", flags)
            .current_dir(&folder);
        live.run(&mut cargo)?;
    }
    Ok(String::new())
}
