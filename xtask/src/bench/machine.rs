//! Where and with which versions a comparison ran.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};

use crate::workspace;

/// What figures depend on, as far as the machine tells:
/// `AMD EPYC, 2 cores, 24 GiB, Linux 6.18, rustc 1.95.0`.
pub(crate) fn describe() -> String {
    let cores = thread::available_parallelism().ok();
    let parts = [
        field_of("/proc/cpuinfo", "model name"),
        cores.map(|count| format!("{count} cores")),
        field_of("/proc/meminfo", "MemTotal").and_then(|memory| gibibytes(&memory)),
        said_by("uname", &["-sr"])
            .map(|system| system.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")),
        said_by("rustc", &["--version"])
            .map(|rustc| rustc.split(' ').take(2).collect::<Vec<_>>().join(" ")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Of `24684084 kB`.
fn gibibytes(memory: &str) -> Option<String> {
    let kibibytes: u64 = memory.strip_suffix(" kB")?.parse().ok()?;
    Some(format!("{} GiB", (kibibytes / 1024 + 512) / 1024))
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
    fn machines_in_short() {
        assert_eq!(gibibytes("24684084 kB").as_deref(), Some("24 GiB"));
        let machine = describe();
        assert!(machine.contains(" cores, "), "{machine}");
        assert!(machine.contains(", rustc 1."), "{machine}");
        assert!(!machine.contains('('), "{machine}");
    }

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
