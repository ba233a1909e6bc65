//! Checks that the published crates build with the minimal versions of their dependencies.

use std::fs;

use anyhow::Result;
use cargo_metadata::Package;

use crate::process;
use crate::steps::Live;
use crate::workspace::{Workspace, folder, is_published};

/// Checks a copy of the workspace whose lock file has the minimal version of each direct
/// dependency. The copy omits unpublished crates that the published ones do not depend on.
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
    let is_needed = |helper: &Package| {
        let dependencies = workspace
            .published()
            .flat_map(|package| &package.dependencies);
        dependencies
            .into_iter()
            .any(|dependency| dependency.name == helper.name.as_str())
    };
    for package in workspace.published().chain(workspace.unpublished()) {
        let from = folder(package);
        let to = from.strip_prefix(root)?;
        if is_published(package) || is_needed(package) {
            let to = copy.join(to);
            fs::create_dir_all(&to)?;
            let mut command = process::command("cp");
            process::output_of(command.arg("-R").arg(from.join(".")).arg(to))?;
        } else {
            manifest = without_member(&manifest, &to.to_string_lossy());
        }
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
    fn removes_a_member() {
        let manifest = "members = [\n    \"a\",\n    \"b\",\n]\n";
        assert_eq!(
            without_member(manifest, "b"),
            "members = [\n    \"a\",\n]\n"
        );
        assert_eq!(without_member(manifest, "c"), manifest);
    }
}
