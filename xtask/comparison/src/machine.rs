//! Describes the machine and the crate versions of a run, and reads resource usage from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::root;

/// Describes the machine, as far as known: `AMD EPYC, 2 cores, 24 GiB, Linux 6.18, rustc 1.95.0`.
pub(crate) fn describe() -> String {
    let first_line = |path| Some(fs::read_to_string(path).ok()?.trim().to_owned());
    let parts = |text: String, at, count| {
        text.splitn(count + 1, at)
            .take(count)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let rustc = output_of(Command::new("rustc").arg("--version"));
    let parts = [
        field_of("/proc/cpuinfo", "model name"),
        thread::available_parallelism()
            .ok()
            .map(|count| format!("{count} cores")),
        kibibytes("/proc/meminfo", "MemTotal")
            .map(|memory| format!("{} GiB", (memory / 1024 + 512) / 1024)),
        first_line("/proc/sys/kernel/osrelease")
            .map(|system| format!("Linux {}", parts(system, ".", 2).join("."))),
        rustc.ok().map(|rustc| parts(rustc, " ", 2).join(" ")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn field_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Parses a field such as `MemTotal:  24684084 kB`.
fn kibibytes(path: &str, name: &str) -> Option<u64> {
    field_of(path, name)?.strip_suffix(" kB")?.parse().ok()
}

/// Runs a command and returns what it prints.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = output.output();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// The resident memory of this process, in bytes.
pub fn resident() -> Result<u64> {
    let held = kibibytes("/proc/self/status", "VmRSS");
    Ok(held.context("cannot read /proc/self/status")? * 1024)
}

/// The CPU time, user and system, that process `id` has used; `"self"` is this process.
///
/// Linux counts in ticks of 10 ms, so a round should last at least a second.
pub fn cpu_time(id: &str) -> Result<Duration> {
    let path = format!("/proc/{id}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_cpu_time(&text).with_context(|| format!("cannot understand {path}"))
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    // The process name, in parentheses, may contain anything, including spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(10 * (user + system)))
}

/// The versions of `crates` in Cargo.lock.
pub(crate) fn versions(crates: &[&str]) -> Result<BTreeMap<String, String>> {
    let lock = fs::read_to_string(root().join("Cargo.lock"));
    let lock = lock.context("cannot read Cargo.lock")?;
    let version = |name: &&str| {
        let version = locked(&lock, name);
        let version = version.with_context(|| format!("`{name}` is not in Cargo.lock"))?;
        Ok(((*name).to_owned(), version))
    };
    crates.iter().map(version).collect()
}

/// The highest version of `name`, which is the last, since Cargo.lock is sorted.
fn locked(lock: &str, name: &str) -> Option<String> {
    let heading = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.rsplit_once(&heading)?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_is_short() {
        let machine = describe();
        assert!(machine.contains(" cores, "), "{machine}");
        assert!(machine.contains(", rustc 1."), "{machine}");
        assert!(!machine.contains('('), "{machine}");
    }

    #[test]
    fn parses_cpu_time() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_cpu_and_memory() {
        assert!(cpu_time("self").is_ok());
        assert!(resident().unwrap() > 100_000);
    }

    #[test]
    fn finds_locked_versions() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \"ab\"\nversion = \"4.0.0\"\n";
        assert_eq!(locked(lock, "a").as_deref(), Some("1.2.3"));
        assert_eq!(locked(lock, "ab").as_deref(), Some("4.0.0"));
        assert_eq!(locked(lock, "b"), None);
        let versions = |name| versions(&[name]);
        assert!(versions("serde_json").unwrap().contains_key("serde_json"));
        assert!(versions("no-such-crate").is_err());
    }
}
