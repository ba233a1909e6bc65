//! Whether the published crates build with the lowest versions that they ask for.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::process;
use crate::steps::Live;
use crate::workspace::{Package, Workspace};

/// Checks a copy of the workspace, whose lock file has the lowest version of each direct
/// dependency. Of what is not published it has what the tests of the others need.
pub(crate) fn check(workspace: &Workspace, live: &Live) -> Result<String> {
    let copy = workspace.target_directory.join("minimal-versions");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    fs::create_dir_all(&copy)?;
    let mut manifest = fs::read_to_string(workspace.root.join("Cargo.toml"))?;
    for package in workspace.members() {
        let folder = package.folder().strip_prefix(&workspace.root)?;
        let is_needed = |other: &Package| {
            let mut dependencies = other.dependencies.iter();
            dependencies.any(|dependency| dependency.name == package.name)
        };
        if package.is_published() || workspace.published().any(is_needed) {
            copy_folder(package.folder(), &copy.join(folder))?;
        } else {
            manifest = without_member(&manifest, &folder.to_string_lossy());
        }
    }
    fs::write(copy.join("Cargo.toml"), manifest)?;

    let mut lock = process::cargo();
    lock.args(["generate-lockfile", "-Z", "direct-minimal-versions"])
        // Cargo lets stable Rust do this only so. It changes no more than the choice of versions;
        // what follows is built as ever.
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

/// The manifest without the line of that member.
fn without_member(manifest: &str, member: &str) -> String {
    let line = format!("\"{member}\",");
    let lines = manifest.split_inclusive('\n');
    lines.filter(|other| other.trim() != line).collect()
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, to) = (entry?.path(), to.to_path_buf());
        let to = to.join(from.file_name().unwrap_or_default());
        if from.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_is_left_out() {
        let manifest = "members = [\n    \"a\",\n    \"b\",\n]\n";
        assert_eq!(
            without_member(manifest, "b"),
            "members = [\n    \"a\",\n]\n"
        );
        assert_eq!(without_member(manifest, "c"), manifest);
    }
}
