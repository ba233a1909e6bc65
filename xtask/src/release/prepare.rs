//! `cargo xtask release prepare CRATE VERSION`: makes the edits for a new version.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Package;
use semver::Version;
use toml_edit::{DocumentMut, Item, value};

use super::git::Git;
use super::manifest;
use crate::process;
use crate::workspace::{Workspace, folder};

/// Sets the versions of crates, other crates' requirements on them, and the dates of their
/// changelog entries. Leaves the changes uncommitted, for review.
pub(crate) fn run(workspace: &Workspace, git: &Git, pairs: &[String]) -> Result<()> {
    // A clean tree keeps the edits separate from other changes.
    git.is_clean()?;
    let tags = git.state()?.tags;
    let today = process::output_of(process::command("date").arg("+%F"))?;
    let mut versions = BTreeMap::new();
    let mut edited = Vec::new();
    for pair in pairs.chunks(2) {
        let [name, version] = pair else {
            bail!("each crate needs a version: prepare CRATE VERSION [CRATE VERSION]…");
        };
        let package = workspace
            .published()
            .find(|package| package.name.as_str() == name)
            .with_context(|| format!("`{name}` is not a published crate of this workspace"))?;
        let version = Version::parse(version)
            .with_context(|| format!("`{version}` is not a version such as 1.2.3"))?;
        let (now, tag) = (&package.version, format!("{name}-v{version}"));
        ensure!(
            version >= *now,
            "{name} is {now} and would go back to {version}"
        );
        ensure!(
            !tags.contains_key(&tag),
            "{name} {version} was released: there is a tag {tag}"
        );
        let changelog = folder(package).join("CHANGELOG.md");
        let text = fs::read_to_string(&changelog)
            .ok()
            .and_then(|text| dated(&text, &version, today.trim()))
            .with_context(|| {
                format!(
                    "{name}/CHANGELOG.md has no entry to date: write what changed under a heading \
                     `## Unreleased`"
                )
            })?;
        edited.push((changelog, text));
        versions.insert(name.as_str(), version);
    }
    let members = workspace.workspace_packages();
    let manifests = members.iter().map(|package| package.manifest_path.clone());
    for file in manifests.chain([workspace.workspace_root.join("Cargo.toml")]) {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let package = members.iter().find(|package| package.manifest_path == file);
        let new = with_versions(&text, package.copied(), &versions)
            .with_context(|| format!("cannot edit {file}"))?;
        if new != text {
            edited.push((file.into(), new));
        }
    }
    for (file, text) in edited {
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("edited {}", file.display());
    }
    // Updates the lock file.
    let mut cargo = process::cargo();
    cargo
        .args(["metadata", "--format-version", "1"])
        .current_dir(&workspace.workspace_root);
    process::output_of(&mut cargo)?;
    println!("review and commit the changes, then continue with `plan`");
    Ok(())
}

/// Replaces the changelog's first heading, which must be `Unreleased`, with the version and date.
fn dated(changelog: &str, version: &Version, date: &str) -> Option<String> {
    let heading = changelog.lines().find(|line| line.starts_with("## "))?;
    if !heading.to_lowercase().contains("unreleased") {
        return None;
    }
    Some(changelog.replacen(heading, &format!("## {version} ({date})"), 1))
}

/// Updates the manifest of `package`, or of the workspace: its own version, and its requirements on
/// the crates, keeping their operators (`^`, `~`, `=`). Path-only dependencies do not change.
fn with_versions(
    manifest: &str,
    package: Option<&Package>,
    versions: &BTreeMap<&str, Version>,
) -> Result<String> {
    let mut manifest: DocumentMut = manifest.parse()?;
    if let Some(version) = package.and_then(|package| versions.get(package.name.as_str())) {
        let own = manifest
            .get_mut("package")
            .and_then(|package| package.get_mut("version"))
            .filter(|own| own.is_str())
            .context("it has no line `version = \"…\"`")?;
        *own = value(version.to_string());
    }
    manifest::each_dependency(manifest.as_table_mut(), &mut |name, dependency| {
        let asked = dependency.get("version").and_then(Item::as_str);
        if let (Some(asked), Some(version)) = (asked, versions.get(name)) {
            let digits = asked.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
            let manner = asked.get(..digits).unwrap_or_default();
            dependency.insert("version", value(format!("{manner}{version}")));
        }
    });
    Ok(manifest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreleased_entries_are_dated() {
        let version = Version::new(0, 2, 0);
        for heading in ["Unreleased", "0.2.0 (unreleased)"] {
            let text = format!("# Changelog\n\n## {heading}\n\n- More.\n");
            let dated = dated(&text, &version, "2026-01-31").unwrap();
            assert_eq!(dated, "# Changelog\n\n## 0.2.0 (2026-01-31)\n\n- More.\n");
        }
        let text = "# Changelog\n\n## 0.1.0 (2026-01-01)\n";
        assert_eq!(dated(text, &version, "2026-01-31"), None);
    }

    #[test]
    fn raised_requirements_keep_their_operators() {
        let manifest = "# Kept.\n[workspace.dependencies]\n\
                        cache-core = { version = \"~0.1.0\", path = \"x\" } # Kept.\n\
                        cache-core-more = { version = \"0.1.0\" }\n\n\
                        [dev-dependencies]\n\
                        cache-core.workspace = true\n\n\
                        [target.'cfg(unix)'.dependencies]\n\
                        cache-core = { path = \"x\" }\n\n\
                        [build-dependencies.core]\n\
                        package = \"cache-core\"\nversion = \"=0.1.0\"\n";
        let versions = BTreeMap::from([("cache-core", Version::new(0, 2, 0))]);
        let raised = with_versions(manifest, None, &versions).unwrap();
        let expected = manifest
            .replacen("~0.1.0", "~0.2.0", 1)
            .replacen("=0.1.0", "=0.2.0", 1);
        assert_eq!(raised, expected);
    }
}
