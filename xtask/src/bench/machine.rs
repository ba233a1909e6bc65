//! Where and with which versions a comparison ran.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};

use crate::workspace;

/// What figures depend on, as far as the machine tells.
pub(crate) fn describe() -> BTreeMap<String, String> {
    let mut machine = BTreeMap::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            machine.insert(name.to_owned(), value);
        }
    };
    add("cpu", field_of("/proc/cpuinfo", "model name"));
    add("memory", field_of("/proc/meminfo", "MemTotal"));
    add(
        "cores",
        thread::available_parallelism().ok().map(|n| n.to_string()),
    );
    add("system", said_by("uname", &["-sr"]));
    add("rustc", said_by("rustc", &["--version"]));
    machine
}

fn field_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said_by(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}

/// The versions of `crates` in Cargo.lock.
pub(crate) fn versions(crates: &[&str]) -> Result<BTreeMap<String, String>> {
    let path = workspace::root().join("Cargo.lock");
    let lock =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    crates
        .iter()
        .map(|name| {
            let version =
                locked(&lock, name).with_context(|| format!("`{name}` is not in Cargo.lock"))?;
            Ok(((*name).to_owned(), version))
        })
        .collect()
}

/// The highest version of `name`: the last, as Cargo.lock is sorted.
fn locked(lock: &str, name: &str) -> Option<String> {
    let heading = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.rsplit_once(&heading)?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_locked_versions() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \"ab\"\nversion = \"4.0.0\"\n";
        assert_eq!(locked(lock, "a").as_deref(), Some("1.2.3"));
        assert_eq!(locked(lock, "ab").as_deref(), Some("4.0.0"));
        assert_eq!(locked(lock, "b"), None);
        assert!(
            versions(&["serde_json"])
                .unwrap()
                .contains_key("serde_json")
        );
        assert!(versions(&["no-such-crate"]).is_err());
    }
}
