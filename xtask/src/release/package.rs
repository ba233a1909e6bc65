//! Creates and lists the package files, and builds them without the rest of the repository.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use toml_edit::{DocumentMut, value};

use super::manifest;
use super::plan::{Plan, Sources};
use super::registry::{PATIENCE_WITH_PACKAGES, Registry, bounded};
use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

/// A `.crate` file.
pub(crate) struct Packaged {
    name: String,
    checksum: String,
    file: PathBuf,
}

/// A clone of the commit to release, unaffected by later edits to the tree.
pub(crate) struct Checkout<'a> {
    folder: PathBuf,
    target: PathBuf,
    registry: &'a Registry,
}

impl<'a> Checkout<'a> {
    pub(crate) fn new(sources: &Sources<'a>) -> Result<Self> {
        let (workspace, registry) = (sources.workspace, sources.registry);
        let clone = workspace.target_directory.join("release/checkout");
        let checkout = Self {
            folder: sources
                .git
                .cloned(clone.as_std_path(), &sources.state.head)?,
            target: workspace.target_directory.clone().into(),
            registry,
        };
        if let Some(name) = &registry.name {
            checkout.look_for_sisters_in(name, workspace)?;
        }
        Ok(checkout)
    }

    /// Makes the crates depend on each other in this registry, which their manifests need not name.
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

    /// `cargo package` or `cargo publish` for the registry.
    pub(crate) fn cargo(&self, command: &str) -> Command {
        let mut cargo = process::cargo();
        cargo
            .args([command, "--no-verify", "--locked"])
            .args(self.registry.arguments())
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(&self.folder);
        if self.registry.name.is_some() {
            // The manifests were edited.
            cargo.arg("--allow-dirty");
        }
        bounded(&mut cargo, PATIENCE_WITH_PACKAGES);
        cargo
    }
}

/// Packages all crates to publish or tag, and lists the contents of each package. A single cargo
/// command lets crates depend on versions that are not in the registry yet.
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

/// The checksum of the package of `name`.
pub(crate) fn checksum_of<'a>(packages: &'a [Packaged], name: &str) -> Result<&'a str> {
    let package = packages.iter().find(|package| package.name == name);
    let package = package.with_context(|| format!("{name} was not packaged"))?;
    Ok(&package.checksum)
}

/// Builds, tests and documents the crates from the contents of their packages alone.
///
/// The unpacked crates form a separate workspace, so that they use each other and the locked
/// versions of everything else. Unlike cargo's own verification, this does not need a fresh
/// `CARGO_HOME`, since it cannot pick up cached sources of the same name and version.
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
        // Cargo gives all packed files the same old timestamp, which would make builds of an
        // earlier package look up to date.
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
