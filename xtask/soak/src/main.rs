//! `cargo xtask soak`: runs many clients for minutes or hours while real servers are killed, paused
//! and disconnected, and checks every result.
//!
//! The crates' own tests cover what does not need real processes, in simulated time.
//!
//! - `load.rs` runs the clients, which make random calls and check each result.
//! - `judge.rs` records calls and faults, and decides whether the backend kept its promises. The
//!   conformance suite's linearizability checker judges the histories of keys.
//! - `dict.rs`, `memcache.rs` and `etcd.rs` start the servers of each backend.
//! - `run.rs` runs one backend: it injects faults, checks for leaks and prints the report.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod dict;
mod etcd;
mod judge;
mod load;
mod memcache;
mod run;
mod target;

use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

/// Puts load on the backends while their servers fail, and checks every result
#[derive(Clone, Debug, Parser)]
#[command(bin_name = "cargo xtask soak")]
struct Options {
    /// The backends to test concurrently; default: all
    #[arg(value_enum)]
    backends: Vec<Backend>,
    /// The duration of the run in minutes
    #[arg(long, default_value = "1", value_parser = minutes)]
    minutes: Duration,
    /// Repeats the load and faults of an earlier run
    #[arg(long, default_value_t = fastrand::u64(..1_000_000_000))]
    seed: u64,
    /// Calls per second; default: depends on the backend
    #[arg(long)]
    rate: Option<f64>,
    /// Runs this many histories against simulated servers instead
    #[arg(long, value_name = "HISTORIES", num_args = 0..=1, default_missing_value = "10000")]
    simulated: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Backend {
    Dict,
    Memcache,
    Etcd,
    All,
}

impl Backend {
    /// The argument.
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

fn minutes(text: &str) -> Result<Duration> {
    let minutes: f64 = text.parse()?;
    Duration::try_from_secs_f64(minutes * 60.0).context("not a number of minutes")
}

fn main() -> ExitCode {
    let options = Options::parse();
    let backends = match options.backends.as_slice() {
        [] | [Backend::All] => &[Backend::Dict, Backend::Memcache, Backend::Etcd],
        backends => backends,
    };
    let result = match backends {
        _ if options.simulated.is_some() => simulate(&options, backends),
        [backend] => run::run(*backend, &options),
        _ => each_in_its_process(&options, backends),
    };
    if let Err(error) = result {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs each backend in a separate process, so that leaks can be attributed.
fn each_in_its_process(options: &Options, backends: &[Backend]) -> Result<()> {
    let start = |backend: &Backend| -> Result<Child> {
        let minutes = options.minutes.as_secs_f64() / 60.0;
        Command::new(std::env::current_exe()?)
            .arg(backend.name())
            .arg(format!("--seed={}", options.seed))
            .arg(format!("--minutes={minutes}"))
            .args(options.rate.map(|rate| format!("--rate={rate}")))
            .spawn()
            .context("cannot start the soak")
    };
    let children: Result<Vec<Child>> = backends.iter().map(start).collect();
    let mut failed = Vec::new();
    for (mut child, backend) in children?.into_iter().zip(backends) {
        if !child.wait()?.success() {
            failed.push(backend.name());
        }
    }
    if !failed.is_empty() {
        bail!("the soak of {} failed; see above", failed.join(", "));
    }
    let names: Vec<String> = backends.iter().map(|backend| backend.name()).collect();
    println!("no violations: {}", names.join(", "));
    Ok(())
}

/// Runs the crates' own tests against simulated servers, with more histories than usual.
fn simulate(options: &Options, backends: &[Backend]) -> Result<()> {
    let histories = options.simulated.unwrap_or_default().to_string();
    let seed = options.seed.to_string();
    for backend in backends {
        let test = match backend {
            Backend::Memcache => "cache-memcache-pool --test=simulation no_promise_is_broken",
            Backend::Etcd => "cache-etcd3 --lib simulation::histories_keep_all_promises",
            _ => continue,
        };
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .args(["test", "--release", "--package"])
            .args(test.split(' '))
            .env("SIMULATION_SEED", &seed)
            .env("SIMULATION_HISTORIES", &histories)
            .env("CACHE_ETCD3_SEED", &seed)
            .env("CACHE_ETCD3_HISTORIES", &histories)
            .status()?;
        if !status.success() {
            bail!("the simulation of {} failed; see above", backend.name());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_options() {
        let parse = |text: &str| Options::try_parse_from(text.split(' '));
        let options = parse("soak memcache --minutes 0.5 --seed 7 --rate 50").unwrap();
        assert_eq!(options.backends, [Backend::Memcache]);
        assert_eq!(options.minutes, Duration::from_secs(30));
        assert_eq!((options.seed, options.rate), (7, Some(50.0)));
        for nonsense in ["soak redis", "soak --minutes -1", "soak --rate x"] {
            assert!(parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
