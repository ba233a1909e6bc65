//! The dependencies of this workspace, from cargo's cache. The registry on loopback serves them, so
//! that tests do not need the network.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::registry::checksum;

pub struct Upstream {
    /// Index lines by crate.
    index: HashMap<String, Vec<String>>,
    /// The folders in which cargo caches package files.
    folders: Vec<PathBuf>,
}

impl Upstream {
    /// Loads the crates in the lock file of `workspace`; cargo fetches missing ones.
    pub fn of(workspace: &Path) -> Self {
        let output = Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--format-version",
                "1",
                "--all-features",
                "--locked",
            ])
            .current_dir(workspace)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo metadata: {said}");
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();

        let home = std::env::var_os("CARGO_HOME").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cargo"),
            PathBuf::from,
        );
        let folders = fs::read_dir(home.join("registry/cache"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        let mut upstream = Self {
            index: HashMap::new(),
            folders,
        };
        for package in metadata["packages"].as_array().unwrap() {
            if !package["source"].is_null() {
                upstream.add(package);
            }
        }
        upstream
    }

    fn add(&mut self, package: &Value) {
        let name = package["name"].as_str().unwrap();
        let version = package["version"].as_str().unwrap();
        let file = self
            .file_of(name, version)
            .unwrap_or_else(|| panic!("{name}-{version}.crate is not in cargo's cache"));
        let dependencies: Vec<Value> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|dependency| {
                let renamed = &dependency["rename"];
                let (name, package) = if renamed.is_null() {
                    (&dependency["name"], &Value::Null)
                } else {
                    (renamed, &dependency["name"])
                };
                let kind = dependency["kind"].as_str().unwrap_or("normal");
                json!({
                    "name": name, "package": package, "kind": kind,
                    "req": dependency["req"],
                    "features": dependency["features"],
                    "optional": dependency["optional"],
                    "default_features": dependency["uses_default_features"],
                    "target": dependency["target"],
                })
            })
            .collect();
        let line = json!({
            "name": name, "vers": version, "deps": dependencies,
            "cksum": checksum(&file), "features": {}, "features2": package["features"],
            "yanked": false, "links": package["links"], "v": 2,
            "rust_version": package["rust_version"],
        });
        let lines = self.index.entry(name.to_lowercase()).or_default();
        lines.push(line.to_string());
    }

    pub fn index_of(&self, name: &str) -> Option<Vec<u8>> {
        Some(self.index.get(name)?.join("\n").into_bytes())
    }

    pub fn file_of(&self, name: &str, version: &str) -> Option<Vec<u8>> {
        let file = format!("{name}-{version}.crate");
        self.folders
            .iter()
            .find_map(|folder| fs::read(folder.join(&file)).ok())
    }
}
