//! The virtual environment with the Python packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process;

const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The interpreter of a virtual environment in `folder` that has the packages. It is made where
/// it is missing or has others.
pub(crate) fn provide(folder: &Path) -> Result<PathBuf> {
    let python = folder.join("bin").join("python");
    let installed = folder.join("requirements.txt");
    let works = || process::output_of(process::command(&python).arg("--version")).is_ok();
    if fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENTS) && works() {
        return Ok(python);
    }
    eprintln!("installing Python packages into {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let mut venv = process::command("python3");
    process::output_of(venv.args(["-m", "venv"]).arg(folder)).context(
        "cannot make a virtual environment (on Debian it takes the package python3-venv)",
    )?;
    let wanted = folder.join("wanted.txt");
    fs::write(&wanted, REQUIREMENTS)?;
    let mut pip = process::command(&python);
    pip.args(["-m", "pip", "install", "--disable-pip-version-check"])
        .args(["--quiet", "--requirement"])
        .arg(&wanted);
    process::output_of(&mut pip).context("cannot install the Python packages from PyPI")?;
    // Its presence says that the installation was completed.
    fs::rename(&wanted, &installed)?;
    Ok(python)
}
