//! Publishes the last results to the crates' folders and READMEs.
//!
//! Publishing is a separate step, so that a run on a busy machine or of a single line does not end
//! up in the READMEs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use comparison::report::Report;
use comparison::{chart, readme};

use crate::{readme_part, workspace};

/// Each comparison and its crate's folder.
const COMPARISONS: [(&str, &str); 3] = [
    ("dict", "cache-dict"),
    ("memcache", "cache-memcache-pool"),
    ("etcd", "cache-etcd3"),
];

/// `cargo xtask bench publish NAME…`: copies target/bench/NAME.json to the crate's speed.json and
/// regenerates charts and READMEs. Writes nothing unless all reports are publishable.
pub(crate) fn publish(names: &[String]) -> Result<()> {
    let root = workspace::root();
    let mut found = Vec::new();
    for name in names {
        let (name, folder) = COMPARISONS
            .iter()
            .find(|(known, _)| known == name)
            .with_context(|| format!("unknown benchmark `{name}`; use dict, memcache or etcd"))?;
        let report = Report::read(&Report::measured(name))
            .with_context(|| format!("run `cargo xtask bench {name}` first"))?;
        if let Some(reason) = &report.unpublishable {
            bail!("{name} cannot be published: {reason}; measure all lines");
        }
        found.push((root.join(folder).join("speed.json"), report));
    }
    for (path, report) in found {
        write(&path, &report.json()?)?;
    }
    draw()
}

/// `cargo xtask bench draw`: regenerates charts and READMEs from each crate's speed.json.
pub(crate) fn draw() -> Result<()> {
    for (path, text) in drawn(&workspace::root())? {
        write(&path, &text)?;
    }
    Ok(())
}

/// Every file generated from the crates' speed.json, with its contents.
fn drawn(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    let mut family = Vec::new();
    for (name, folder) in COMPARISONS {
        let path = root.join(folder).join("speed.json");
        let report = Report::read(&path)
            .with_context(|| format!("`cargo xtask bench publish {name}` creates it"))?;
        files.push((path.with_extension("svg"), chart::draw(&report)));
        let path = root.join(folder).join("README.md");
        let text = with_part(&path, &readme::of_crate(&report))?;
        files.push((path, text));
        family.push((folder, report));
    }
    let path = root.join("README.md");
    let text = with_part(&path, &readme::of_family(&family))?;
    files.push((path, text));
    Ok(files)
}

fn with_part(path: &Path, part: &str) -> Result<String> {
    readme_part::replace(&read(path)?, "speed", "bench publish", part)
        .with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes the file if it differs, and prints its path.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_and_readmes_are_up_to_date() {
        for (path, text) in drawn(&workspace::root()).unwrap() {
            let there = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                there == text,
                "{} does not match the crate's speed.json; run `cargo xtask bench draw` to \
                 regenerate it",
                path.display()
            );
        }
    }

    #[test]
    fn rejects_unknown_names() {
        let error = publish(&["etcd3".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("unknown benchmark `etcd3`"), "{error}");
    }
}
