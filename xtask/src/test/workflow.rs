//! Checks the workflow of GitHub Actions against its schema.

use anyhow::Result;

use super::pip;
use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

const CHECK_JSONSCHEMA: &str = "check-jsonschema==0.39.0";

pub(super) fn check(workspace: &Workspace, live: &Live) -> Result<String> {
    let python = pip::provide(workspace, live, CHECK_JSONSCHEMA)?;
    let mut linter = process::command(python);
    linter.args(["-m", "check_jsonschema", "--builtin-schema"]);
    linter.args(["vendor.github-workflows", ".github/workflows/ci.yml"]);
    live.run(&mut linter)?;
    Ok(String::new())
}
