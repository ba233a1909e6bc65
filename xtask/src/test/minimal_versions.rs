//! Checks that the published crates build with the minimal versions of their dependencies.

use std::fs;

use anyhow::Result;
use toml_edit::{DocumentMut, Item, Table};

use crate::process;
use crate::steps::Live;
use crate::workspace::{Workspace, folder};

/// Checks a copy of the published crates whose lock file has the minimal version of each direct
/// dependency, without dev-dependencies.
pub(super) fn check(workspace: &Workspace, live: &Live) -> Result<String> {
    let copy = workspace
        .target_directory
        .join("minimal-versions")
        .into_std_path_buf();
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    fs::create_dir_all(&copy)?;
    let mut manifest = fs::read_to_string(workspace.workspace_root.join("Cargo.toml"))?;
    let root = workspace.workspace_root.as_std_path();
    for package in workspace.published() {
        let from = folder(package);
        let to = copy.join(from.strip_prefix(root)?);
        fs::create_dir_all(&to)?;
        let mut command = process::command("cp");
        process::output_of(command.arg("-R").arg(from.join(".")).arg(&to))?;
        let manifest = to.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)?;
        fs::write(&manifest, without_dev_dependencies(&text)?)?;
    }
    for package in workspace.unpublished() {
        let member = folder(package).strip_prefix(root)?;
        manifest = without_member(&manifest, &member.to_string_lossy());
    }
    fs::write(copy.join("Cargo.toml"), manifest)?;

    let mut lock = process::cargo();
    lock.args(["generate-lockfile", "-Z", "direct-minimal-versions"])
        // Required for `-Z` on stable Rust. It affects only the choice of versions, not the build
        // below.
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(&copy);
    live.run(&mut lock)?;
    let mut check = process::cargo();
    check
        .args([
            "check",
            "--workspace",
            "--all-features",
            "--locked",
            "--target-dir",
        ])
        .arg(&workspace.target_directory)
        .current_dir(&copy);
    live.run(&mut check)?;
    Ok(String::new())
}

fn without_dev_dependencies(manifest: &str) -> Result<String> {
    let mut manifest: DocumentMut = manifest.parse()?;
    manifest.remove("dev-dependencies");
    let targets = manifest.get_mut("target").and_then(Item::as_table_mut);
    for (_, target) in targets.into_iter().flat_map(Table::iter_mut) {
        target
            .as_table_mut()
            .and_then(|target| target.remove("dev-dependencies"));
    }
    Ok(manifest.to_string())
}

/// Removes a member's line from the manifest.
fn without_member(manifest: &str, member: &str) -> String {
    let line = format!("\"{member}\",");
    let lines = manifest.split_inclusive('\n');
    lines.filter(|other| other.trim() != line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_dev_dependencies_of_every_target() {
        let manifest = "[dependencies]\na = \"1\"\n\n[dev-dependencies]\nb = \"1\"\n\n\
                        [target.'cfg(unix)'.dependencies]\nc = \"1\"\n\n\
                        [target.'cfg(peers)'.dev-dependencies]\nd = \"1\"\n";
        let left = "[dependencies]\na = \"1\"\n\n[target.'cfg(unix)'.dependencies]\nc = \"1\"\n";
        assert_eq!(without_dev_dependencies(manifest).unwrap(), left);
    }

    #[test]
    fn removes_a_member() {
        let manifest = "members = [\n    \"a\",\n    \"b\",\n]\n";
        assert_eq!(
            without_member(manifest, "b"),
            "members = [\n    \"a\",\n]\n"
        );
        assert_eq!(without_member(manifest, "c"), manifest);
    }
}
