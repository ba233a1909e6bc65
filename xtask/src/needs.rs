//! Programs that the tests require, other than those that come with Rust.

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
    /// A command for the shell that succeeds if the program works.
    check: &'static str,
}

const ALL: &[Need] = &[
    Need {
        name: "rustfmt and clippy",
        purpose: "checks of the source",
        packages: &[],
        check: "cargo fmt --version && cargo clippy --version",
    },
    Need {
        name: "memcached",
        purpose: "tests of cache-memcache-pool",
        packages: &["memcached"],
        check: "memcached -V",
    },
    Need {
        name: "etcd",
        purpose: "tests of cache-etcd3",
        packages: &["etcd-server", "etcd-client"],
        check: "etcd --version && etcdctl version",
    },
    Need {
        name: "redis-server",
        purpose: "the example of a backend over Redis",
        packages: &["redis-server"],
        check: "redis-server --version",
    },
    Need {
        name: "protoc with its well-known types",
        purpose: "building cache-etcd3",
        packages: &["protobuf-compiler", "libprotobuf-dev"],
        // Debian packages the well-known types separately.
        check: r#""${PROTOC:-protoc}" ${PROTOC_INCLUDE:+"-I$PROTOC_INCLUDE"} \
            --descriptor_set_out=/dev/null google/protobuf/descriptor.proto"#,
    },
    Need {
        name: "openssl",
        purpose: "certificates and keys for tests of TLS and of tokens",
        packages: &["openssl"],
        check: "openssl version",
    },
    Need {
        name: "git",
        purpose: "tests of the release",
        packages: &["git"],
        check: "git --version",
    },
    Need {
        name: "python3 with venv",
        purpose: "sharing a cache with Python",
        packages: &["python3", "python3-venv"],
        check: "python3 -c 'import venv, ensurepip'",
    },
];

/// The requirements of everything except interoperation.
pub(crate) const WITHOUT_PYTHON: &[Need] = ALL.split_at(ALL.len() - 1).0;
pub(crate) const EVERYTHING: &[Need] = ALL;

/// Whether a command of the shell succeeds.
fn succeeds(command: &str) -> bool {
    Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Installs what is missing, and returns a short summary.
pub(crate) fn provide(needs: &[Need], show: impl Fn(&str)) -> Result<String> {
    let missing = || -> Vec<&Need> { needs.iter().filter(|need| !succeeds(need.check)).collect() };
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
    let is_root = succeeds("test $(id -u) = 0");
    let may_sudo = !is_root && succeeds("sudo -n true");
    ensure!(is_root || may_sudo, "only root can install packages");
    ensure!(succeeds("apt-get --version"), "cannot run apt-get");
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
        assert!(succeeds("true"));
        assert!(!succeeds("true && false"));
        assert!(!succeeds("no-such-program-anywhere"));
    }
}
