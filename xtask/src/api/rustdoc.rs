//! What rustdoc says of a crate, as JSON.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;
use crate::workspace::Workspace;

/// The format that this program reads. It changes from one Rust to the next; what the changes
/// are stands in the history of the crate `rustdoc-types`.
pub(super) const KNOWN: &str = "57";

/// Stable toolchains write JSON only when they are told that they may.
const ALLOW: (&str, &str) = ("RUSTC_BOOTSTRAP", "1");
const JSON: &str = "-Zunstable-options --output-format=json --cap-lints=allow";

/// One crate and its items.
pub(super) struct Crate {
    pub(super) name: String,
    json: Value,
}

impl Crate {
    fn read(name: &str, file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("rustdoc left no {}", file.display()))?;
        Ok(Self {
            name: name.to_owned(),
            json: serde_json::from_slice(&text)?,
        })
    }

    /// The format that the JSON is of.
    pub(super) fn format(&self) -> String {
        self.json["format_version"].to_string()
    }

    /// The item of the crate's root module.
    pub(super) fn root(&self) -> Option<&Value> {
        self.item(&self.json["root"])
    }

    /// The item with this number; `None` if it belongs to another crate.
    pub(super) fn item(&self, id: &Value) -> Option<&Value> {
        self.json["index"].get(id.to_string())
    }

    /// The items with these numbers.
    pub(super) fn items<'a>(&'a self, ids: &'a Value) -> impl Iterator<Item = &'a Value> {
        let ids = ids.as_array().into_iter().flatten();
        ids.filter_map(|id| self.item(id))
    }

    /// The crate that a type or trait comes from; `None` if it is this one.
    pub(super) fn origin(&self, id: &Value) -> Option<&str> {
        let path = self.json["paths"].get(id.to_string())?;
        if path["crate_id"] == 0 {
            return None;
        }
        path["path"][0].as_str()
    }
}

/// The format of the JSON that the toolchain's rustdoc writes, or what it says instead.
pub(super) fn format_of_toolchain(workspace: &Workspace) -> Result<String> {
    let folder = workspace.target_directory.join("api");
    fs::create_dir_all(&folder)?;
    Ok(match document_source("", &folder) {
        Ok(krate) => krate.format(),
        Err(error) => format!("unknown: {error:#}"),
    })
}

pub(super) fn is_known(format: &str) -> bool {
    format == KNOWN
}

/// What rustdoc says of one file of source text.
pub(super) fn document_source(source: &str, folder: &Path) -> Result<Crate> {
    let file = folder.join("probe.rs");
    fs::write(&file, source)?;
    let mut rustdoc = process::command(rustdoc());
    rustdoc.env(ALLOW.0, ALLOW.1).args(JSON.split(' '));
    rustdoc.args(["--crate-type=lib", "--edition=2024", "--out-dir"]);
    process::output_of(rustdoc.arg(folder).arg(&file))?;
    Crate::read("probe", &folder.join("probe.json"))
}

/// The published crates with all their features.
pub(super) fn document(workspace: &Workspace) -> Result<Vec<Crate>> {
    let mut cargo = process::cargo();
    cargo.args(["doc", "--workspace", "--exclude", "xtask", "--all-features"]);
    cargo.args(["--no-deps", "--lib", "--locked"]);
    // Allowed to rustdoc alone: allowed to all, every dependency would be compiled anew.
    cargo.env("RUSTDOC", allowed_rustdoc(workspace)?);
    cargo.env("RUSTDOCFLAGS", JSON);
    process::output_of(&mut cargo)?;
    let published = workspace.published();
    published
        .map(|package| {
            let file = format!("doc/{}.json", package.name.replace('-', "_"));
            Crate::read(&package.name, &workspace.target_directory.join(file))
        })
        .collect()
}

/// A program that runs rustdoc as it is allowed to.
fn allowed_rustdoc(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target_directory.join("api");
    fs::create_dir_all(&folder)?;
    let file = folder.join("rustdoc");
    let (name, value) = ALLOW;
    let rustdoc = rustdoc();
    let script = format!(
        "#!/bin/sh\n{name}={value} exec '{}' \"$@\"\n",
        rustdoc.display()
    );
    fs::write(&file, script)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

fn rustdoc() -> PathBuf {
    std::env::var_os("RUSTDOC").map_or_else(|| "rustdoc".into(), PathBuf::from)
}
