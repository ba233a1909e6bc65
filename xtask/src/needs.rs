//! Programs that the tests require, other than those that come with Rust.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// A program required on the machine.
pub(crate) struct Need {
    name: &'static str,
    /// What requires it.
    purpose: &'static str,
    /// Debian packages; empty for programs that come with Rust.
    packages: &'static [&'static str],
    is_there: fn() -> bool,
}

const fn need(
    name: &'static str,
    purpose: &'static str,
    packages: &'static [&'static str],
    is_there: fn() -> bool,
) -> Need {
    Need {
        name,
        purpose,
        packages,
        is_there,
    }
}

const ALL: &[Need] = &[
    need("rustfmt and clippy", "checks of the source", &[], || {
        runs("cargo", &["fmt", "--version"]) && runs("cargo", &["clippy", "--version"])
    }),
    need(
        "memcached",
        "tests of cache-memcache-pool",
        &["memcached"],
        || runs("memcached", &["-V"]),
    ),
    need(
        "etcd",
        "tests of cache-etcd3",
        &["etcd-server", "etcd-client"],
        || runs("etcd", &["--version"]) && runs("etcdctl", &["version"]),
    ),
    need(
        "redis-server",
        "the example of a backend over Redis",
        &["redis-server"],
        || runs("redis-server", &["--version"]),
    ),
    need(
        "protoc with its well-known types",
        "building cache-etcd3",
        &["protobuf-compiler", "libprotobuf-dev"],
        protoc_works,
    ),
    need(
        "openssl",
        "certificates and keys for tests of TLS and of tokens",
        &["openssl"],
        || runs("openssl", &["version"]),
    ),
    need("git", "tests of the release", &["git"], || {
        runs("git", &["--version"])
    }),
    need(
        "python3 with venv",
        "sharing a cache with Python",
        &["python3", "python3-venv"],
        || runs("python3", &["-c", "import venv, ensurepip"]),
    ),
];

/// The requirements of everything except interoperation.
pub(crate) const WITHOUT_PYTHON: &[Need] = ALL.split_at(ALL.len() - 1).0;
pub(crate) const EVERYTHING: &[Need] = ALL;

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether `protoc` finds the well-known types, which Debian packages separately.
fn protoc_works() -> bool {
    let folder = std::env::temp_dir().join(format!("protoc-probe-{}", std::process::id()));
    let probe = "syntax = \"proto3\";\nimport \"google/protobuf/descriptor.proto\";\n";
    let works = fs::create_dir_all(&folder).is_ok()
        && fs::write(folder.join("probe.proto"), probe).is_ok()
        && compiles(&folder);
    let _ = fs::remove_dir_all(&folder);
    works
}

fn compiles(folder: &Path) -> bool {
    let protoc = std::env::var_os("PROTOC").unwrap_or_else(|| "protoc".into());
    let mut command = Command::new(protoc);
    command.arg("-I").arg(folder);
    if let Some(include) = std::env::var_os("PROTOC_INCLUDE") {
        command.arg("-I").arg(include);
    }
    command
        .arg("--descriptor_set_out=/dev/null")
        .arg(folder.join("probe.proto"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Installs what is missing, and returns a short summary.
pub(crate) fn provide(needs: &[Need], show: impl Fn(&str)) -> Result<String> {
    let missing = || -> Vec<&Need> { needs.iter().filter(|need| !(need.is_there)()).collect() };
    let wanted = missing();
    if wanted.is_empty() {
        return Ok(format!("all {} found", needs.len()));
    }
    if wanted.iter().any(|need| need.packages.is_empty()) {
        bail!("rustfmt or clippy is missing: rustup component add rustfmt clippy");
    }
    let packages: Vec<&str> = wanted
        .iter()
        .flat_map(|need| need.packages)
        .copied()
        .collect();
    install(&packages, show).with_context(|| instructions(&wanted, &packages))?;
    let still = missing();
    if !still.is_empty() {
        bail!(
            "{}\nThey were just installed but still cannot be found; check PATH",
            instructions(&still, &packages)
        );
    }
    Ok(format!("installed {}", packages.join(" ")))
}

/// Tells how to install what is missing.
fn instructions(missing: &[&Need], packages: &[&str]) -> String {
    let line = |need: &&Need| format!("  {} ({})\n", need.name, need.purpose);
    let missing: String = missing.iter().map(line).collect();
    format!(
        "missing on this machine:\n{missing}On Debian or Ubuntu type:\n  \
         sudo apt-get update && sudo apt-get install --yes {}",
        packages.join(" ")
    )
}

/// Installs Debian packages, as root or through passwordless `sudo`.
fn install(packages: &[&str], show: impl Fn(&str)) -> Result<()> {
    let id = Command::new("id").arg("-u").output();
    let is_root = id.is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    let may_sudo = !is_root && runs("sudo", &["-n", "true"]);
    ensure!(is_root || may_sudo, "only root can install packages");
    ensure!(runs("apt-get", &["--version"]), "cannot run apt-get");
    eprintln!("installing Debian packages: {}", packages.join(" "));
    let apt = |arguments: &[&str]| {
        let mut command = process::command(if may_sudo { "sudo" } else { "env" });
        command.args(may_sudo.then_some("-n"));
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes"]);
        // A mirror may fail once, and a new machine may be installing its updates.
        command.args(["-oAcquire::Retries=3", "-oDPkg::Lock::Timeout=300"]);
        command.args(arguments);
        command
    };
    let update = process::capture(&mut apt(&["update"]), &show)?;
    let mut command = apt(&["install", "--no-install-recommends"]);
    let done = process::capture(command.args(packages), &show)?;
    // A failed update of the package lists is the usual cause, so show both outputs.
    ensure!(done.status.success(), "{}{}", update.output, done.output);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_the_exact_command() {
        let missing: Vec<&Need> = ALL.iter().skip(1).take(2).collect();
        let text = instructions(&missing, &["memcached", "etcd-server"]);
        assert!(text.contains("memcached (tests of"), "{text}");
        assert!(
            text.ends_with("sudo apt-get install --yes memcached etcd-server"),
            "{text}"
        );
    }

    #[test]
    fn detects_missing_programs() {
        assert!(runs("true", &[]));
        assert!(!runs("false", &[]));
        assert!(!runs("no-such-program-anywhere", &[]));
    }
}
