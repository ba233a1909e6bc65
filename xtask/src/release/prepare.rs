//! `cargo xtask release prepare CRATE VERSION`: the edits that a new version takes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use semver::Version;

use crate::process;
use crate::workspace::{Workspace, folder};

/// Sets the version of a crate, what the others ask of it, and the date of its changelog entry.
/// What was edited is left to be read and committed.
pub(crate) fn run(workspace: &Workspace, name: &str, version: &Version) -> Result<()> {
    let package = workspace
        .published()
        .find(|package| package.name.as_str() == name)
        .with_context(|| format!("`{name}` is not a published crate of this workspace"))?;

    let today = process::output_of(process::command("date").arg("+%F"))?;
    let folder = folder(package);
    edit(&folder.join("CHANGELOG.md"), |text| {
        dated(text, version, today.trim())
            .context("no entry to date: write what changed under a heading `## Unreleased`")
    })?;
    edit(&folder.join("Cargo.toml"), |text| {
        with_version(text, version).context("no line `version = \"…\"`")
    })?;
    let mut manifests = vec![workspace.workspace_root.join("Cargo.toml")];
    let members = workspace.workspace_packages();
    manifests.extend(members.iter().map(|member| member.manifest_path.clone()));
    for manifest in manifests {
        edit(manifest.as_std_path(), |text| {
            Ok(with_requirement(text, name, version))
        })?;
    }
    // Writes the lock file anew.
    let mut cargo = process::cargo();
    cargo
        .args(["metadata", "--format-version", "1"])
        .current_dir(&workspace.workspace_root);
    process::output_of(&mut cargo)?;
    println!("{name} is {version} now: read the changes, commit them, and go on with `plan`");
    Ok(())
}

fn edit(file: &Path, change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let changed = change(&text).with_context(|| shown.to_string())?;
    if changed == text {
        return Ok(());
    }
    fs::write(file, changed).with_context(|| format!("cannot write {shown}"))?;
    println!("edited {shown}");
    Ok(())
}

/// The first heading of the changelog with this version and date, if it is one without a date.
fn dated(changelog: &str, version: &Version, date: &str) -> Option<String> {
    let heading = changelog.lines().find(|line| line.starts_with("## "))?;
    if !heading.to_lowercase().contains("unreleased") {
        return None;
    }
    Some(changelog.replacen(heading, &format!("## {version} ({date})"), 1))
}

/// The manifest with this version of its package.
fn with_version(manifest: &str, version: &Version) -> Option<String> {
    let line = manifest
        .lines()
        .find(|line| line.starts_with("version = \""))?;
    Some(manifest.replacen(line, &format!("version = \"{version}\""), 1))
}

/// The manifest with `version` wherever it asks for a version of `name`, in the same manner
/// (`^`, `~`, `=`) as before. A dependency that is a path alone stays one.
fn with_requirement(manifest: &str, name: &str, version: &Version) -> String {
    let changed = manifest.split_inclusive('\n').map(|line| {
        let asks = line
            .strip_prefix(name)
            .is_some_and(|rest| rest.trim_start().starts_with('='));
        let Some((before, rest)) = line.split_once("version = \"").filter(|_| asks) else {
            return line.to_owned();
        };
        let Some((requirement, after)) = rest.split_once('"') else {
            return line.to_owned();
        };
        let digits = requirement.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let manner = requirement.get(..digits).unwrap_or_default();
        format!("{before}version = \"{manner}{version}\"{after}")
    });
    changed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_entry_without_a_date_is_dated() {
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
    fn requirements_are_raised_in_their_own_manner() {
        let manifest = "cache-core = { version = \"~0.1.0\", path = \"x\" }\n\
                        cache-core-more = { version = \"0.1.0\" }\n\
                        cache-core.workspace = true\n\
                        cache-core = { path = \"x\" }\n";
        let raised = with_requirement(manifest, "cache-core", &Version::new(0, 2, 0));
        assert_eq!(raised, manifest.replacen("~0.1.0", "~0.2.0", 1));
    }
}
