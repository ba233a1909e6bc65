//! Queries a registry through cargo.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use semver::Version;
use toml_edit::{DocumentMut, Item};

use crate::process;
use crate::workspace::Workspace;

/// Timeouts, in seconds, for queries and for uploads.
const PATIENCE: u32 = 15;
pub(crate) const PATIENCE_WITH_PACKAGES: u32 = 30;

/// A registry, identified by its name in cargo's configuration; `None` is crates.io.
pub(crate) struct Registry {
    pub(crate) name: Option<String>,
    /// The folder of a project whose dependencies cargo resolves.
    probe: PathBuf,
    was_asked: Cell<bool>,
}

impl Registry {
    pub(crate) fn new(name: Option<&str>, workspace: &Workspace) -> Self {
        let probe = workspace.target_directory.join("release/probe");
        Self {
            name: name.map(str::to_owned),
            probe: probe.into_std_path_buf(),
            was_asked: Cell::new(false),
        }
    }

    /// The cargo arguments that select the registry.
    pub(crate) fn arguments(&self) -> Vec<&str> {
        match &self.name {
            Some(name) => vec!["--registry", name],
            None => Vec::new(),
        }
    }

    pub(crate) fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or("crates.io")
    }

    /// The checksum of a version of `name`, or `None` if the registry does not offer it.
    ///
    /// Cargo finds it out by locking a project, which works for every kind of registry and
    /// credential.
    pub(crate) fn checksum(&self, name: &str, version: &Version) -> Result<Option<String>> {
        if !self.was_asked.replace(true) {
            let shown = self.shown();
            eprintln!("asking {shown} what it has; an answer may take {PATIENCE} s");
        }
        if self.lock(name, &format!("={version}"), false)?.is_ok() {
            let lock = fs::read_to_string(self.probe.join("Cargo.lock"))?;
            let package = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            let checksum = lock.split("[[package]]").find_map(|text| {
                let mut lines = text.trim_start().strip_prefix(&package)?.lines();
                lines.find_map(|line| line.strip_prefix("checksum = "))
            });
            let checksum = checksum
                .with_context(|| format!("cargo locked {name} {version} without a checksum"))?;
            return Ok(Some(checksum.trim_matches('"').to_owned()));
        }
        // Either the version is missing or the registry is unreachable. With a patch in place,
        // cargo still queries the registry, but fails only if it gets no answer.
        match self.lock(name, "*", true)? {
            Ok(()) => Ok(None),
            Err(said) => bail!(
                "{} does not answer for {name}; try again later, or look at cargo's configuration:\
                 \n{said}",
                self.shown()
            ),
        }
    }

    /// Locks a project with this dependency; the inner error is cargo's output.
    fn lock(&self, name: &str, requirement: &str, replace: bool) -> Result<Result<(), String>> {
        let registry = self.name.as_deref().unwrap_or("crates-io");
        let from = self.name.as_ref().map_or_else(String::new, |registry| {
            format!(", registry = \"{registry}\"")
        });
        let patches = if replace {
            format!("[patch.{registry}]\n{name} = {{ path = \"patch\" }}\n")
        } else {
            String::new()
        };
        let manifest = format!(
            "[package]\nname = \"probe\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [dependencies]\n{name} = {{ version = \"{requirement}\"{from} }}\n\n{patches}"
        );
        let patch = format!("[package]\nname = \"{name}\"\nversion = \"0.0.0\"\n\n[workspace]\n");
        let _ = fs::remove_dir_all(&self.probe);
        for (folder, manifest) in [("", manifest), ("patch", patch)] {
            let folder = self.probe.join(folder);
            fs::create_dir_all(folder.join("src"))
                .with_context(|| format!("cannot make {}", folder.display()))?;
            fs::write(folder.join("Cargo.toml"), manifest)?;
            fs::write(folder.join("src/lib.rs"), "")?;
        }
        let mut cargo = process::cargo();
        bounded(&mut cargo, PATIENCE)
            .arg("generate-lockfile")
            .current_dir(&self.probe);
        let captured = process::capture(&mut cargo, |_| ())?;
        Ok(if captured.status.success() {
            Ok(())
        } else {
            Err(captured.output)
        })
    }

    /// Why cargo could not publish to the registry from `root`, judging by its configuration.
    pub(crate) fn lacks_token(&self, root: &Path) -> Option<String> {
        let name = self.name.as_deref();
        let variable = name.map_or("CARGO_REGISTRY_TOKEN".to_owned(), |name| {
            let name = name.to_uppercase().replace('-', "_");
            format!("CARGO_REGISTRIES_{name}_TOKEN")
        });
        let is_set = std::env::vars().any(|(key, value)| {
            let is_provider =
                key.starts_with("CARGO_REGISTR") && key.contains("CREDENTIAL_PROVIDER");
            (key == variable || is_provider) && !value.is_empty()
        });
        if is_set || settings(root).any(|settings| has_credential(&settings, name)) {
            return None;
        }
        let login = name.map_or("cargo login".to_owned(), |name| {
            format!("cargo login --registry {name}")
        });
        Some(format!(
            "cargo has no token for {}: run `{login}`, or set {variable}",
            self.shown()
        ))
    }
}

/// Sets cargo's network timeout to `patience` seconds, unless the environment sets it.
pub(crate) fn bounded(cargo: &mut Command, patience: u32) -> &mut Command {
    let patience = patience.to_string();
    for (variable, value) in [
        ("CARGO_HTTP_TIMEOUT", patience.as_str()),
        ("CARGO_NET_RETRY", "1"),
    ] {
        if std::env::var_os(variable).is_none() {
            cargo.env(variable, value);
        }
    }
    cargo
}

/// The files in which cargo looks for credentials.
fn settings(root: &Path) -> impl Iterator<Item = DocumentMut> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let folders = root
        .ancestors()
        .map(|folder| folder.join(".cargo"))
        .chain(home);
    let files = folders.flat_map(|folder| {
        ["credentials.toml", "credentials", "config.toml", "config"].map(|name| folder.join(name))
    });
    let texts: Vec<String> = files
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    texts.into_iter().filter_map(|text| text.parse().ok())
}

/// Whether there is a token or a credential provider.
fn has_credential(settings: &DocumentMut, name: Option<&str>) -> bool {
    let global = settings.get("registry");
    let own = match name {
        Some(name) => settings.get("registries").and_then(|all| all.get(name)),
        None => global,
    };
    let has = |table: Option<&Item>, key: &str| table.is_some_and(|table| table.get(key).is_some());
    has(own, "token")
        || has(own, "credential-provider")
        || has(global, "global-credential-providers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_must_belong_to_the_registry() {
        let settings: DocumentMut = "[registries.other]\ntoken = \"x\"".parse().unwrap();
        assert!(has_credential(&settings, Some("other")));
        assert!(!has_credential(&settings, Some("another")));
        assert!(!has_credential(&settings, None));
        let settings: DocumentMut = "[registry]\ntoken = \"x\"".parse().unwrap();
        assert!(has_credential(&settings, None));
        assert!(!has_credential(&settings, Some("other")));
    }
}
