//! `cargo xtask soak`: the load of a service on real servers, while faults are done to them, and
//! a judge of all that comes back.
//!
//! What takes no real process is tested in simulated time, in the crates themselves. This is for
//! the rest: minutes or hours with servers that are killed, stopped and emptied.
//!
//! - `load.rs` runs many clients, and each `client.rs` makes calls; `book.rs` takes down what came
//!   of them, and `judge.rs` decides whether the history of a key is one that `store.rs` allows.
//! - `dict.rs`, `memcache.rs` and `etcd.rs` start the servers and know their faults, `nemesis.rs`
//!   brings them about, and `faults.rs` remembers them.
//! - `run.rs` is one backend's run, `report.rs` what is printed of it.

mod book;
mod client;
mod dict;
mod etcd;
mod faults;
mod judge;
mod load;
mod memcache;
mod nemesis;
mod payload;
#[cfg(test)]
mod planted;
mod report;
mod run;
mod store;
mod time;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

/// The load of a service and faults on its servers; a judge of all that comes back.
#[derive(Clone, Debug, Parser)]
#[command(bin_name = "cargo xtask soak")]
struct Options {
    /// Each of them at the same time; without any, all
    #[arg(value_enum)]
    backends: Vec<Backend>,
    /// How long
    #[arg(long, default_value = "1", value_parser = minutes)]
    minutes: Duration,
    /// Repeats the load and the faults of an earlier run
    #[arg(long, default_value_t = fastrand::u64(..1_000_000_000))]
    seed: u64,
    /// Calls a second, in place of what suits the backend
    #[arg(long)]
    rate: Option<f64>,
    /// Where the JSON goes, in place of target/soak
    #[arg(long)]
    folder: Option<PathBuf>,
    /// So many histories on simulated servers, in simulated time, in place of minutes on real ones
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
    const EACH: [Self; 3] = [Self::Dict, Self::Memcache, Self::Etcd];

    fn name(self) -> &'static str {
        match self {
            Self::Dict => "dict",
            Self::Memcache => "memcache",
            Self::Etcd => "etcd",
            Self::All => "all",
        }
    }
}

fn minutes(text: &str) -> Result<Duration> {
    let minutes: f64 = text.parse()?;
    Duration::try_from_secs_f64(minutes * 60.0).context("not a time")
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match options.backends.as_slice() {
        backends if options.simulated.is_some() => simulate(&options, backends),
        [Backend::All] | [] => several(&options, &Backend::EACH),
        [backend] => run::main(*backend, &options),
        backends => several(&options, backends),
    };
    if let Err(error) = result {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// A process for each backend, so that what one of them leaves open can be told.
fn several(options: &Options, backends: &[Backend]) -> Result<()> {
    let start = |backend: &Backend| -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(backend.name());
        command.args(["--seed", &options.seed.to_string()]);
        let minutes = options.minutes.as_secs_f64() / 60.0;
        command.args(["--minutes", &minutes.to_string()]);
        command.args(options.rate.map(|rate| format!("--rate={rate}")));
        let folder = options.folder.iter();
        command.args(folder.map(|folder| format!("--folder={}", folder.display())));
        command.spawn().context("cannot start the soak")
    };
    let children: Result<Vec<Child>> = backends.iter().map(start).collect();
    let mut failed = Vec::new();
    for (mut child, backend) in children?.into_iter().zip(backends) {
        if !child.wait()?.success() {
            failed.push(backend.name());
        }
    }
    if !failed.is_empty() {
        bail!("the soak of {} failed", failed.join(", "));
    }
    let names: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
    println!("nothing wrong with {}", names.join(", "));
    Ok(())
}

/// The crates' own tests on simulated servers, with more histories than usual.
fn simulate(options: &Options, backends: &[Backend]) -> Result<()> {
    let chosen = match backends {
        [] | [Backend::All] => &[Backend::Memcache, Backend::Etcd],
        chosen => chosen,
    };
    let histories = options.simulated.unwrap_or_default().to_string();
    let seed = options.seed.to_string();
    for backend in chosen {
        let test = match backend {
            Backend::Memcache => [
                "cache-memcache-pool",
                "--test=simulation",
                "no_promise_is_broken",
            ],
            Backend::Etcd => [
                "cache-etcd3",
                "--lib",
                "simulation::histories_keep_all_promises",
            ],
            _ => bail!("{} has no servers that could be simulated", backend.name()),
        };
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .args(["test", "--release", "--package"])
            .args(test)
            .env("SIMULATION_SEED", &seed)
            .env("SIMULATION_HISTORIES", &histories)
            .env("CACHE_ETCD3_SEED", &seed)
            .env("CACHE_ETCD3_HISTORIES", &histories)
            .status()?;
        if !status.success() {
            bail!(
                "the simulation of {} found something; its seed is above",
                backend.name()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
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
