//! The package files: made, looked into, and proven to stand alone.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
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
    pub(crate) name: String,
    pub(crate) checksum: String,
    /// Whether it is to be published; otherwise it is only compared.
    is_outgoing: bool,
    file: PathBuf,
    bytes: usize,
    /// From the package's own folder.
    holds: Vec<String>,
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
/// though the registry does not have them yet.
pub(crate) fn make(checkout: &Checkout<'_>, plan: &Plan<'_>, live: &Live) -> Result<Vec<Packaged>> {
    let mut cargo = checkout.cargo("package");
    for entry in plan.to_tag() {
        cargo.args(["--package", entry.name()]);
    }
    live.run(&mut cargo)?;
    let folder = checkout.target.join("package");
    let packaged = plan.to_tag().map(|entry| {
        let stem = format!("{}-{}", entry.name(), entry.version);
        let file = folder.join(format!("{stem}.crate"));
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let list = process::output_of(process::command("tar").arg("-tzf").arg(&file))?;
        let holds = list
            .lines()
            .map(|line| line.trim_start_matches(&format!("{stem}/")));
        Ok(Packaged {
            name: entry.name().to_owned(),
            checksum: checksum(&content),
            is_outgoing: entry.goes_out(),
            bytes: content.len(),
            holds: holds.map(str::to_owned).collect(),
            file,
        })
    });
    packaged.collect()
}

fn checksum(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

impl Packaged {
    /// Name, size and files.
    pub(crate) fn shown(&self) -> String {
        format!(
            "  {} ({} files, {} KiB)\n      {}",
            self.file.file_name().unwrap_or_default().display(),
            self.holds.len(),
            self.bytes.div_ceil(1024),
            self.holds.join(" ")
        )
    }
}

/// The checksum of what was packaged of `name`.
pub(crate) fn checksum_of<'a>(packages: &'a [Packaged], name: &str) -> Result<&'a str> {
    let package = packages.iter().find(|package| package.name == name);
    let package = package.with_context(|| format!("{name} was not packaged"))?;
    Ok(&package.checksum)
}

/// Nothing in a package that a user does not need.
pub(crate) fn check_contents(packages: &[Packaged]) -> Result<()> {
    let mut problems = Vec::new();
    for package in packages.iter().filter(|package| package.is_outgoing) {
        let needless: Vec<&str> = package
            .holds
            .iter()
            .map(String::as_str)
            .filter(|file| !is_needed(file))
            .collect();
        if !needless.is_empty() {
            problems.push(format!(
                "{} holds what no user needs: {} (`include` in its Cargo.toml)",
                package.name,
                needless.join(" ")
            ));
        }
        if !package.holds.iter().any(|file| file == "LICENSE") {
            problems.push(format!("{} does not hold its LICENSE", package.name));
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

fn is_needed(file: &str) -> bool {
    const FILES: &[&str] = &[
        "Cargo.toml",
        "Cargo.toml.orig",
        "Cargo.lock",
        "LICENSE",
        ".cargo_vcs_info.json",
        "build.rs",
    ];
    if let Some((folder, _)) = file.split_once('/') {
        // What unit tests read, since they are in `src`.
        return matches!(folder, "src" | "examples" | "docs") || file.starts_with("tests/data/");
    }
    let is_page = Path::new(file)
        .extension()
        .is_some_and(|extension| extension == "md" || extension == "svg");
    is_page || FILES.contains(&file)
}

/// Builds, tests and documents each crate from what its package holds and nothing else.
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
    let mut members = Vec::new();
    let mut patches = String::new();
    for package in packages.iter().filter(|package| package.is_outgoing) {
        let mut tar = process::command("tar");
        // Cargo packs everything with one date of long ago; with it, cargo would take what it
        // built from an earlier package for up to date.
        tar.args(["--extract", "--touch", "--gzip", "--file"])
            .arg(&package.file)
            .current_dir(&folder);
        live.run(&mut tar)?;
        let stem = package
            .file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let _ = writeln!(patches, "{} = {{ path = \"{stem}\" }}", package.name);
        members.push(format!("\"{stem}\""));
    }
    fs::write(
        folder.join("Cargo.toml"),
        format!(
            "[workspace]\nresolver = \"3\"\nmembers = [{}]\n\n[patch.{}]\n{patches}",
            members.join(", "),
            registry.name.as_deref().unwrap_or("crates-io")
        ),
    )?;
    fs::copy(
        workspace.workspace_root.join("Cargo.lock"),
        folder.join("Cargo.lock"),
    )
    .context("there is no Cargo.lock")?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.target_directory.clone().into(), PathBuf::from);
    let cargo = |arguments: &[&str], name: &str| {
        let mut cargo = process::cargo();
        cargo
            .args(arguments)
            .args(["--package", name, "--all-features", "--target-dir"])
            .arg(&target)
            .current_dir(&folder);
        cargo
    };
    for package in packages.iter().filter(|package| package.is_outgoing) {
        live.run(&mut cargo(&["test", "--quiet"], &package.name))?;
        let mut doc = cargo(&["doc", "--no-deps"], &package.name);
        live.run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_holds_sources_and_pages() {
        for file in [
            "src/a/b.rs",
            "README.md",
            "LICENSE",
            "Cargo.toml.orig",
            "examples/x.rs",
        ] {
            assert!(is_needed(file), "{file}");
        }
        for file in [
            "tests/x.rs",
            "tests/common/mod.rs",
            "benches/x.rs",
            ".gitignore",
            "notes.txt",
            "proptest-regressions/x",
        ] {
            assert!(!is_needed(file), "{file}");
        }
    }
}
