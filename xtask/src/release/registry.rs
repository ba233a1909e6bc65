//! Queries a registry through cargo.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use semver::Version;

use crate::process::{self, Captured};
use crate::workspace::{self, Workspace};

/// Timeouts, in seconds, for queries and for uploads.
const PATIENCE: u32 = 15;
pub(crate) const PATIENCE_WITH_PACKAGES: u32 = 30;

/// What cargo says if a registry answers, but does not offer what is asked for.
const MISSING: [&str; 2] = ["no matching package", "failed to select a version"];

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
        let from = self.name.as_ref().map_or_else(String::new, |registry| {
            format!(", registry = \"{registry}\"")
        });
        let requirement = format!("{{ version = \"={version}\"{from} }}");
        workspace::write_project(&self.probe, name, &requirement)?;
        let mut cargo = process::cargo();
        bounded(&mut cargo, PATIENCE)
            .arg("generate-lockfile")
            .current_dir(&self.probe);
        let Captured { status, output } = process::capture(&mut cargo, |_| ())?;
        if !status.success() {
            let is_missing = MISSING.iter().any(|said| output.contains(said));
            ensure!(
                is_missing,
                "{} does not answer for {name}; try again later, or look at cargo's configuration:\
                 \n{output}",
                self.shown()
            );
            return Ok(None);
        }
        let lock = fs::read_to_string(self.probe.join("Cargo.lock"))?;
        let package = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let checksum = lock.split("[[package]]").find_map(|text| {
            let mut lines = text.trim_start().strip_prefix(&package)?.lines();
            lines.find_map(|line| line.strip_prefix("checksum = "))
        });
        let checksum = checksum
            .with_context(|| format!("cargo locked {name} {version} without a checksum"))?;
        Ok(Some(checksum.trim_matches('"').to_owned()))
    }

    /// Why cargo could not publish to the registry. It looks for a token before it asks for the
    /// owners of a crate, too.
    pub(crate) fn lacks_token(&self, workspace: &Workspace) -> Result<Option<String>> {
        let mut cargo = process::cargo();
        bounded(&mut cargo, PATIENCE)
            .args(["owner", "--list"])
            .args(workspace.published().next().map(|package| &*package.name))
            .args(self.arguments())
            .current_dir(&workspace.workspace_root);
        let said = process::capture(&mut cargo, |_| ())?.output;
        let advice = said.split_once("no token found").map(|(_, advice)| advice);
        Ok(advice.map(|advice| {
            let advice = advice.trim_end().replace('\n', " ");
            format!("cargo has no token for {}{advice}", self.shown())
        }))
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
