//! Linters from `PyPI`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

/// The Python interpreter of a virtual environment below target/ with this package installed, such
/// as `proselint==0.16.0`.
pub(super) fn provide(workspace: &Workspace, live: &Live, package: &str) -> Result<PathBuf> {
    let (name, _) = package.split_once("==").context("no version")?;
    let folder: PathBuf = workspace.target_directory.join(name).into();
    let (python, installed) = (folder.join("bin/python"), folder.join("installed"));
    if fs::read_to_string(&installed).is_ok_and(|there| there == package) {
        return Ok(python);
    }
    let context = || format!("cannot install {package} from PyPI");
    let environment = ["-m", "venv", "--clear"];
    live.run(process::command("python3").args(environment).arg(&folder))
        .with_context(context)?;
    let install = ["-m", "pip", "install", "--quiet", package];
    live.run(process::command(&python).args(install))
        .with_context(context)?;
    fs::write(&installed, package)?;
    Ok(python)
}
