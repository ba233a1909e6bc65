//! Python's clients, in a process of their own: oslo.cache's pool, the original of ours, and
//! pymemcache.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::work::{ROUND, What, Work};
use crate::bench::harness::Sample;
use crate::process;

pub(super) const CLIENTS: [&str; 2] = ["oslo.cache memcache_pool", "pymemcache"];

const PACKAGES: [&str; 3] = ["oslo.cache", "python-memcached", "pymemcache"];

const SCRIPT: &str = include_str!("clients.py");

/// The most threads that are started in place of tasks.
const THREADS: usize = 64;

pub(super) struct Python {
    interpreter: PathBuf,
    /// What `pip freeze` says of the packages.
    listed: String,
}

impl Python {
    /// Puts the packages into an environment under `target/`, unless they are there.
    pub(super) fn install() -> Result<Self> {
        let target = std::env::current_dir()?.join("target/bench/python");
        let interpreter = target.join("bin/python");
        if !interpreter.exists() {
            let make = process::command("python3")
                .args(["-m", "venv"])
                .arg(&target)
                .status();
            anyhow::ensure!(
                make.context("python3 is not installed")?.success(),
                "no Python environment; install python3-venv, or leave it out by --without-python"
            );
        }
        let pip = |arguments: &[&str]| -> Result<String> {
            let mut command = Command::new(&interpreter);
            command.args(["-m", "pip", "--disable-pip-version-check", "--quiet"]);
            process::output_of(command.args(arguments))
        };
        pip(&[&["install"], &PACKAGES[..]].concat())?;
        let listed = pip(&["freeze"])?;
        Ok(Self {
            interpreter,
            listed,
        })
    }

    /// Names and versions of the packages.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&str, &str)> {
        let listed = self.listed.lines();
        let versions = listed.filter_map(|line| line.split_once("=="));
        versions.filter(|(name, _)| PACKAGES.contains(name))
    }

    pub(super) fn run(&self, client: &str, urls: &[String], work: &Work) -> Result<Sample> {
        let what = match work.what {
            What::Mixed => "mixed",
            What::GetMulti => "get_multi",
            What::SetMulti => "set_multi",
        };
        let threads = work.tasks.min(THREADS).to_string();
        let seconds = ROUND.as_secs_f64().to_string();
        let mut command = Command::new(&self.interpreter);
        command.args(["-c", SCRIPT, client, &urls.join(","), what]);
        command.args([&threads, &work.size.to_string(), &seconds]);
        let printed = process::output_of(&mut command)?;
        let mut numbers = printed.split_whitespace();
        let mut next = || numbers.next().context("three numbers");
        let (operations, elapsed, cpu): (u64, f64, f64) =
            (next()?.parse()?, next()?.parse()?, next()?.parse()?);
        let sample = Sample::operations(operations, Duration::from_secs_f64(elapsed));
        #[allow(clippy::cast_precision_loss)]
        Ok(sample.with("client µs", cpu * 1e6 / operations.max(1) as f64))
    }
}
