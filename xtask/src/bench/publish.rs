//! What was measured last, into the crates' folders and the READMEs.
//!
//! Measuring and publishing are two steps: a run on a busy machine, or of a single line, need not
//! become what everybody reads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::report::Report;
use super::speed::Speed;
use super::{chart, readme};
use crate::workspace;

/// The comparisons, and the folder of the crate that each is about.
const COMPARISONS: [(&str, &str); 3] = [
    ("dict", "cache-dict"),
    ("memcache", "cache-memcache-pool"),
    ("etcd", "cache-etcd3"),
];

/// Of fewer rounds a median says nothing.
const ROUNDS: usize = 3;

/// `cargo xtask bench publish NAME…`: target/bench/NAME.json becomes speed.json of the crate, and
/// all is drawn anew. Either all of the names are good enough for that, or nothing is written.
pub(crate) fn publish(names: &[String]) -> Result<()> {
    let root = workspace::root();
    let mut found = Vec::new();
    for name in names {
        let (name, folder) = COMPARISONS
            .iter()
            .find(|(known, _)| known == name)
            .with_context(|| format!("there is no benchmark `{name}`"))?;
        let report = Report::load(name)
            .and_then(|report| publishable(&report).map(|()| report))
            .with_context(|| format!("measure first: `cargo xtask bench {name}`"))?;
        found.push((root.join(folder).join("speed.json"), Speed::of(&report)));
    }
    for (path, speed) in found {
        write(&path, &speed.json()?)?;
    }
    draw()
}

/// `cargo xtask bench draw`: charts and READMEs from each crate's speed.json.
pub(crate) fn draw() -> Result<()> {
    for (path, text) in drawn(&workspace::root())? {
        write(&path, &text)?;
    }
    Ok(())
}

/// Whether a comparison is one that all may read.
fn publishable(report: &Report) -> Result<()> {
    let missing = report.headlines.iter().find(|headline| {
        let mut lines = report.lines.iter();
        !lines.any(|line| line.name == **headline)
    });
    if let Some(headline) = missing {
        bail!("`{headline}` was not measured");
    }
    ensure!(
        report.complete,
        "only a part was measured, by choice or since the run was interrupted"
    );
    ensure!(
        report.rounds >= ROUNDS,
        "of {} rounds; publish {ROUNDS} or more",
        report.rounds
    );
    Ok(())
}

/// Every file that is made from the crates' speed.json, and what it has to hold.
fn drawn(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    let mut family = Vec::new();
    for (name, folder) in COMPARISONS {
        let path = root.join(folder).join("speed.json");
        let speed = read(&path)
            .and_then(|json| Speed::read(&json))
            .with_context(|| {
                format!(
                    "{}: `cargo xtask bench {name}`, then `cargo xtask bench publish {name}`",
                    path.display()
                )
            })?;
        files.push((path.with_extension("svg"), chart::draw(&speed)));
        let path = root.join(folder).join("README.md");
        let text = with_part(&path, &readme::of_crate(&speed))?;
        files.push((path, text));
        family.push((folder, speed));
    }
    let path = root.join("README.md");
    let text = with_part(&path, &readme::of_family(&family))?;
    files.push((path, text));
    Ok(files)
}

fn with_part(path: &Path, part: &str) -> Result<String> {
    readme::with_part(&read(path)?, part).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Says what has changed.
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
    use std::collections::BTreeMap;

    use super::super::report::Line;
    use super::*;

    #[test]
    fn charts_and_readmes_show_what_was_measured() {
        for (path, text) in drawn(&workspace::root()).unwrap() {
            let there = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                there == text,
                "{} differs from what the crate's speed.json says; `cargo xtask bench draw` \
                 writes it anew",
                path.display()
            );
        }
    }

    #[test]
    fn a_part_is_not_published() {
        let mut report = Report::new("dict", BTreeMap::new(), BTreeMap::new());
        report.rounds = ROUNDS;
        report.complete = true;
        report.headlines = vec!["get".to_owned()];
        let refused = |report: &Report| publishable(report).unwrap_err().to_string();
        assert!(refused(&report).contains("`get` was not measured"));
        report.lines.push(Line::new("get"));
        publishable(&report).unwrap();
        report.rounds = ROUNDS - 1;
        assert!(refused(&report).contains("of 2 rounds"));
        report.rounds = ROUNDS;
        report.complete = false;
        assert!(refused(&report).contains("only a part"));
    }

    #[test]
    fn names_are_checked() {
        let error = publish(&["etcd3".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no benchmark `etcd3`"), "{error}");
    }
}
