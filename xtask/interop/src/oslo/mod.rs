//! `cargo xtask interop oslo`: runs the test suites of dogpile.cache and oslo.cache on our
//! backends, through a Python module built from `xtask/bridge`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use interop::venv;
use test_servers::{Etcd, Memcached};

/// Runs the suites or, with `--measure`, measures the speedup for a Python service. Both write
/// their part of the page, and may take ten minutes.
pub(crate) fn run(target: &Path, arguments: &[String]) -> Result<()> {
    let script = match arguments {
        [] => "suites.py",
        [option] if option == "--measure" => "gain.py",
        _ => bail!("`cargo xtask interop oslo` takes no option but --measure"),
    };
    let python = venv::provide(target.join("interop"))?;
    install_bridge(&python, target)?;
    let (memcached, etcd) = (Memcached::start()?, Etcd::start()?);
    let memcached_port = memcached.port().context("memcached has no port")?;
    let endpoint = etcd.endpoint();
    let (_, etcd_port) = endpoint.rsplit_once(':').context("etcd has no port")?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/oslo");
    let status = Command::new("timeout")
        .args(["--kill-after=5", "600"])
        .arg(&python)
        .arg(scripts.join(script))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OSLO_CACHE_TEST_MEMCACHED_PORT", memcached_port.to_string())
        .env("OSLO_CACHE_TEST_ETCD_PORT", etcd_port)
        .status()?;
    ensure!(status.success(), "{script} failed: {status}");
    Ok(())
}

/// Builds the module and installs it into the virtual environment, whose maturin pip runs.
fn install_bridge(python: &Path, target: &Path) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bin = python.parent().map(Path::to_path_buf);
    let path = std::env::join_paths(bin.into_iter().chain(std::env::split_paths(&path)))?;
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--quiet",
    ])
    .args(["--force-reinstall", "--no-deps", "--no-build-isolation"])
    .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../bridge"))
    .env("PATH", path)
    .env("MATURIN_PEP517_ARGS", "--locked")
    .env("CARGO_TARGET_DIR", target.join("interop-bridge"));
    venv::run(&mut pip).context("cannot build xtask/bridge")
}
