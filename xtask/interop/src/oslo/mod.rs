//! `cargo xtask interop oslo`: runs the test suites of dogpile.cache and oslo.cache on our
//! backends, through a Python module built from `xtask/bridge`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use interop::venv;
use test_servers::{Etcd, Memcached};

/// The servers for the suites, and a Python interpreter with the bridge installed.
struct Stage {
    python: PathBuf,
    memcached: Memcached,
    etcd: Etcd,
}

impl Stage {
    fn set_up(target: &Path) -> Result<Self> {
        let folder = target.join("interop");
        let python = venv::provide(&folder)?;
        install_bridge(&folder, target)?;
        Ok(Self {
            python,
            memcached: Memcached::start()?,
            etcd: Etcd::start()?,
        })
    }

    /// Creates the command for one of the scripts in this folder, with a timeout of ten minutes.
    fn script(&self, name: &str) -> Result<Command> {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", "600"])
            .arg(&self.python)
            .arg(source().join(name))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("OSLO_CACHE_TEST_MEMCACHED_PORT", self.memcached_port()?)
            .env("OSLO_CACHE_TEST_ETCD_PORT", self.etcd_port()?);
        Ok(command)
    }

    fn memcached_port(&self) -> Result<String> {
        let port = self.memcached.port().context("memcached has no port")?;
        Ok(port.to_string())
    }

    fn etcd_port(&self) -> Result<String> {
        let endpoint = self.etcd.endpoint();
        let (_, port) = endpoint.rsplit_once(':').context("etcd has no port")?;
        Ok(port.to_owned())
    }
}

/// Runs the suites or, with `--measure`, measures the speedup for a Python service. Both write
/// their part of the page.
pub(crate) fn run(target: &Path, arguments: &[String]) -> Result<()> {
    let script = match arguments {
        [] => "suites.py",
        [option] if option == "--measure" => "gain.py",
        _ => bail!("`cargo xtask interop oslo` takes no option but --measure"),
    };
    let status = Stage::set_up(target)?.script(script)?.status()?;
    ensure!(status.success(), "{script} failed: {status}");
    Ok(())
}

/// Builds the module with maturin and installs it into the virtual environment.
fn install_bridge(venv: &Path, target: &Path) -> Result<()> {
    let wheels = target.join("interop-wheels");
    // Remove wheels of earlier builds, so that only the new one is found.
    if wheels.exists() {
        std::fs::remove_dir_all(&wheels)?;
    }
    let bin = venv.join("bin");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bridge/Cargo.toml");
    let mut build = Command::new(bin.join("maturin"));
    build
        .args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "--manifest-path",
        ])
        .arg(&manifest)
        .arg("--out")
        .arg(&wheels)
        .arg("--interpreter")
        .arg(bin.join("python"))
        .env("CARGO_TARGET_DIR", target.join("interop-bridge"));
    venv::run(&mut build).context("cannot build xtask/bridge")?;
    let wheel = std::fs::read_dir(&wheels)?.next();
    let wheel = wheel.context("maturin made no wheel")??.path();
    let mut install = Command::new(bin.join("python"));
    install
        .args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--quiet",
        ])
        .args(["--force-reinstall", "--no-deps"])
        .arg(wheel);
    venv::run(&mut install).context("cannot install the bridge")
}

/// The folder of the scripts.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/oslo")
}
