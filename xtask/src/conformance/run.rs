//! Runs the suites and reports.

use std::fs;

use anyhow::{Context, Result, bail};
use cache_conformance::{Report, Suite};

use super::{harnesses, table};
use crate::workspace;

const BACKENDS: [&str; 3] = ["dict", "memcache", "etcd"];

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let mut chosen = Vec::new();
    let mut only = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "all" => chosen.extend(BACKENDS),
            "--only" => only.push(arguments.next().context("--only: which rule?")?.clone()),
            name => match BACKENDS.iter().find(|backend| **backend == name) {
                Some(backend) => chosen.push(backend),
                None => bail!("there is no backend `{name}`; there are dict, memcache and etcd"),
            },
        }
    }
    if chosen.is_empty() {
        chosen.extend(BACKENDS);
    }

    let mut reports: Vec<Report> = Vec::new();
    for backend in &chosen {
        for suite in harnesses::suites(backend)? {
            let suite = only.iter().fold(suite, Suite::only);
            eprintln!("{backend} …");
            reports.push(suite.run());
        }
    }
    print!("{}", table::of(&reports));

    let folder = workspace::root().join("target/conformance");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{}.json", chosen.join("-")));
    fs::write(&file, serde_json::to_string_pretty(&reports)? + "\n")?;
    println!("{}", file.display());
    let failed: Vec<&str> = reports
        .iter()
        .filter(|report| !report.is_ok())
        .map(|report| report.name.as_str())
        .collect();
    if !failed.is_empty() {
        bail!("rules are broken by: {}", failed.join(", "));
    }
    Ok(())
}
