//! What a registry holds, as cargo sees it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use semver::Version;

use crate::process;
use crate::workspace::Workspace;

/// A registry, by its name in cargo's configuration; crates.io without one.
pub(crate) struct Registry {
    pub(crate) name: Option<String>,
    /// A project of which cargo is asked to resolve the dependencies.
    probe: PathBuf,
}

impl Registry {
    pub(crate) fn new(name: Option<&str>, workspace: &Workspace) -> Result<Self> {
        let probe = workspace
            .target_directory
            .join("release/probe")
            .into_std_path_buf();
        fs::create_dir_all(probe.join("src"))
            .with_context(|| format!("cannot make {}", probe.display()))?;
        fs::write(probe.join("src/lib.rs"), "")?;
        Ok(Self {
            name: name.map(str::to_owned),
            probe,
        })
    }

    /// How cargo is told of it.
    pub(crate) fn arguments(&self) -> Vec<&str> {
        match &self.name {
            Some(name) => vec!["--registry", name],
            None => Vec::new(),
        }
    }

    pub(crate) fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or("crates.io")
    }

    /// The checksum of that version of `name`, or `None` if the registry does not have it.
    ///
    /// Cargo answers this for every kind of registry and credential: what it would lock is what
    /// the index says.
    pub(crate) fn checksum(&self, name: &str, version: &Version) -> Result<Option<String>> {
        let asked = self.lock(name, &format!("={version}"))?;
        let Some(lock) = asked else { return Ok(None) };
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let checksum = lock.split_once(&entry).and_then(|(_, rest)| {
            let (entry, _) = rest.split_once("\n\n").unwrap_or((rest, ""));
            let (_, checksum) = entry.split_once("checksum = \"")?;
            Some(checksum.split_once('"')?.0.to_owned())
        });
        let checksum = checksum
            .with_context(|| format!("cargo locked {name} {version} without a checksum"))?;
        Ok(Some(checksum))
    }

    /// Whether the registry has the crate, in any version.
    pub(crate) fn knows(&self, name: &str) -> Result<bool> {
        Ok(self.lock(name, "*")?.is_some())
    }

    /// The lock file of a project that asks for this, or `None` if there is no such thing.
    fn lock(&self, name: &str, requirement: &str) -> Result<Option<String>> {
        let from = self.name.as_ref().map_or_else(String::new, |registry| {
            format!(", registry = \"{registry}\"")
        });
        let manifest = format!(
            "[package]\nname = \"probe\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [dependencies]\n{name} = {{ version = \"{requirement}\"{from} }}\n"
        );
        let lock = self.probe.join("Cargo.lock");
        fs::write(self.probe.join("Cargo.toml"), manifest)?;
        if lock.exists() {
            fs::remove_file(&lock)?;
        }
        let mut cargo = process::cargo();
        cargo.arg("generate-lockfile").current_dir(&self.probe);
        let captured = process::capture(&mut cargo, |_| ())?;
        if captured.status.success() {
            return Ok(Some(fs::read_to_string(&lock)?));
        }
        let said = &captured.output;
        let of_this = said.contains(&format!("`{name} = \"{requirement}\"`"))
            || said.contains(&format!("`{name}`"));
        if of_this && said.contains("yanked") {
            bail!(
                "{name} {requirement} was yanked from {}: take another version",
                self.shown()
            );
        }
        let absent = said.contains("no matching package named")
            || said.contains("candidate versions found which didn't match");
        if of_this && absent {
            return Ok(None);
        }
        bail!("cannot ask {} for {name}:\n{said}", self.shown())
    }
}
