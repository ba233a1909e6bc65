//! The virtual environment with the Python packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Returns the interpreter of a virtual environment in `folder` with the packages. Creates the
/// environment if it is missing or has different requirements.
///
/// # Errors
///
/// Fails if Python, its module `venv`, or one of the packages is unavailable.
pub fn provide(folder: impl AsRef<Path>) -> Result<PathBuf> {
    let folder = folder.as_ref();
    let python = folder.join("bin").join("python");
    let installed = folder.join("requirements.txt");
    let works = || run(Command::new(&python).arg("--version")).is_ok();
    if fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENTS) && works() {
        return Ok(python);
    }
    eprintln!("installing Python packages into {}", folder.display());
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(folder))
    .context("cannot create a virtual environment (on Debian, install the package python3-venv)")?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--quiet",
        "--requirement",
    ];
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/requirements.txt");
    run(Command::new(&python).args(pip).arg(requirements))
        .context("cannot install the Python packages from PyPI")?;
    // The file marks a complete installation.
    fs::write(&installed, REQUIREMENTS)?;
    Ok(python)
}

/// Runs a command and waits for it.
///
/// # Errors
///
/// Fails if the command cannot be started or exits with a failure, with its standard error.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} failed: {}\n{said}",
        output.status
    );
    Ok(())
}
