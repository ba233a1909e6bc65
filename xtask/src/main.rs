//! The workspace's own chores. `cargo xtask` alone lists them.

mod api;
mod bench;
mod checks;
mod feature;
mod minimal;
mod needs;
mod process;
mod release;
mod steps;
mod test;
mod workspace;

#[cfg(feature = "conformance")]
mod conformance;
#[cfg(not(feature = "conformance"))]
mod conformance {
    pub(crate) fn main(arguments: &[String]) -> anyhow::Result<()> {
        crate::feature::run_task_with_backends("conformance", &["--quiet"], arguments)
    }
}

#[cfg(feature = "interop")]
mod interop;
#[cfg(not(feature = "interop"))]
mod interop {
    pub(crate) fn main(arguments: &[String]) -> anyhow::Result<()> {
        crate::feature::run_task_with_backends("interop", &["--quiet"], arguments)
    }
}

#[cfg(feature = "soak")]
mod soak;
#[cfg(not(feature = "soak"))]
mod soak {
    pub(crate) fn main(arguments: &[String]) -> anyhow::Result<()> {
        crate::feature::run_task_with_backends("soak", &["--quiet", "--release"], arguments)
    }
}

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Result, bail};

/// One thing that `cargo xtask` can do.
struct Task {
    name: &'static str,
    arguments: &'static str,
    does: &'static str,
    /// What `--help` adds: the options, one a line.
    help: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "test",
        arguments: "[--keep-going] [--only STEP] [--list]",
        does: "installs or names what is missing, then runs every check and every test",
        help: test::HELP,
        run: test::main,
    },
    Task {
        name: "bench",
        arguments: "dict|memcache|etcd|publish NAME…|draw",
        does: "compares a backend with its peers: a table, JSON and a chart; puts them into READMEs",
        help: bench::HELP,
        run: bench::main,
    },
    Task {
        name: "conformance",
        arguments: "[dict|memcache|etcd|all] [--only RULE]",
        does: "every rule of the contract against our backends: a table, and JSON under target/",
        help: "  \
  dict|memcache|etcd   that backend; without, or with `all`, each of them
  --only RULE          only this rule or group, as in `multi` or `keys::case_is_kept`
  CACHE_CONFORMANCE_SEED=N repeats a run",
        run: conformance::main,
    },
    Task {
        name: "api",
        arguments: "[--accept|--check|--examples]",
        does: "the public API of the crates, one item a line; a change of it has to be accepted",
        help: api::HELP,
        run: api::main,
    },
    Task {
        name: "release",
        arguments: release::ARGUMENTS,
        does: "checks and publishes the crates, in order, resumably; dry unless told to act",
        help: release::HELP,
        run: release::main,
    },
    Task {
        name: "interop",
        arguments: "",
        does: "shares memcached and etcd with Python: a table of what the one reads of the other",
        help: "",
        run: interop::main,
    },
    Task {
        name: "soak",
        arguments: "[dict|memcache|etcd|all] [--minutes N] [--seed S]",
        does: "the load of a service and faults on its servers; a judge of all that comes back",
        help: "  \
  --minutes N          how long; 1 unless told
  --seed S             repeats the load and the faults of an earlier run
  --rate R             calls a second, in place of what suits the backend
  --folder PATH        where the JSON goes, in place of target/soak",
        run: soak::main,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = process::end_children_on_signals().and_then(|()| run(name, rest)) {
        process::be_silent_if_interrupted();
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(name: &str, arguments: &[String]) -> Result<()> {
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        bail!("there is no task `{name}`\n\n{}", usage());
    };
    if arguments.iter().any(|a| a == "--help" || a == "-h") {
        println!(
            "cargo xtask {} {}\n{}\n{}",
            task.name, task.arguments, task.does, task.help
        );
        return Ok(());
    }
    (task.run)(arguments)
}

fn usage() -> String {
    let calls: Vec<String> = TASKS
        .iter()
        .map(|task| format!("{} {}", task.name, task.arguments))
        .collect();
    let width = calls.iter().map(|call| call.chars().count()).max();
    let width = width.unwrap_or_default();
    let mut text = String::from("cargo xtask …\n");
    for (task, call) in TASKS.iter().zip(calls) {
        let _ = writeln!(text, "  {call:<width$}  {}", task.does);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_has_one_line() {
        let usage = usage();
        assert_eq!(usage.lines().count(), TASKS.len() + 1);
        for task in TASKS {
            assert!(usage.contains(task.does), "{usage}");
        }
    }

    #[test]
    fn an_unknown_task_is_told_what_there_is() {
        let error = run("tset", &[]).unwrap_err().to_string();
        assert!(error.contains("no task `tset`"), "{error}");
        assert!(error.contains("test"), "{error}");
    }
}
