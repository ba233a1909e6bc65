//! `cargo xtask test`: all checks and tests for a change.
//!
//! Slow checks that rarely fail run only with `--all`, which a release requires.

mod dependencies;
mod minimal_versions;
mod pip;
mod prose;
mod run_tests;
mod workflow;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::run_tests::Tests;
use crate::bench::with_peers;
use crate::release::tool::{SBOM, SEMVER_CHECKS};
use crate::steps::{self, Live, Step, Times};
use crate::workspace::{self, Workspace, own_features};
use crate::{api, needs, process, release};

#[derive(Args)]
pub(crate) struct Options {
    /// Runs only test programs whose name contains a filter, such as `cache-dict` or
    /// `cache-etcd3/etcd`, and skips other checks
    filters: Vec<String>,
    /// Also runs slow checks that rarely fail; a release requires them
    #[arg(long)]
    all: bool,
    /// Runs the tests N times and reports how often each failed
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: usize,
    /// Keeps all processors busy while the tests run
    #[arg(long)]
    busy: bool,
    /// Continues after a failed step
    #[arg(long)]
    keep_going: bool,
    /// Runs only the steps whose title contains STEP
    #[arg(long, value_name = "STEP")]
    only: Option<String>,
}

/// Test programs that run only with `--all`, because they set up a registry and build packages.
const SLOW_PROGRAMS: &[&str] = &[
    "xtask/release_faults",
    "xtask/release_killed",
    "xtask/release_of_this_workspace",
];

pub(crate) fn run(options: &Options) -> Result<()> {
    let root = workspace::root();
    std::env::set_current_dir(&root).with_context(|| format!("cannot enter {}", root.display()))?;
    let workspace = Workspace::members_only(&root)?;
    let tests = Tests::new(&workspace, features(&workspace));
    let mut steps = if options.filters.is_empty() {
        checks(&workspace, options.all)
    } else {
        Vec::new()
    };
    steps.extend(run_the_tests(options, &workspace, &tests));
    if let Some(word) = &options.only {
        let titles: Vec<String> = steps.iter().map(|step| step.title.clone()).collect();
        steps.retain(|step| step.title.contains(word.as_str()));
        if steps.is_empty() {
            let titles = titles.join("\n  ");
            bail!("no step title contains `{word}`; the titles are:\n  {titles}");
        }
    }
    let started = Instant::now();
    let mut times = Times::kept_in(workspace.target_directory.join("xtask-times.json").into());
    let outcome = steps::run(steps, options.keep_going, &mut times);
    process::end_children();
    let (passed, failed) = tests.counts();
    let checks = outcome.passed + outcome.failed.len();
    eprintln!("{checks} steps in {}", steps::shown(started.elapsed()));
    // A failed test step counts as its failed tests.
    let failed = failed.max(outcome.failed.len());
    println!("{} passed, {failed} failed", passed + outcome.passed);
    outcome.into_result()?;
    if options.all && options.filters.is_empty() && options.only.is_none() {
        release::note_tested(&workspace)?;
    }
    Ok(())
}

/// All features of the published crates, so that everything is built only once.
fn features(workspace: &Workspace) -> String {
    let features = workspace.published().flat_map(|package| {
        own_features(package).map(|feature| format!("{}/{feature}", package.name))
    });
    features.collect::<Vec<_>>().join(",")
}

/// The static checks.
fn checks(workspace: &Workspace, all: bool) -> Vec<Step<'_>> {
    let features = features(workspace);
    let mut clippy = cargo("clippy --workspace --all-targets --locked --features");
    clippy.args([&features, "--", "-D", "warnings"]);
    let mut doc = cargo("doc --workspace --exclude redis-backend --no-deps --locked --features");
    doc.arg(&features)
        .env("RUSTDOCFLAGS", "-D warnings -D missing_docs");
    let needed = if all {
        needs::EVERYTHING
    } else {
        needs::WITHOUT_PYTHON
    };
    let mut steps = vec![
        Step::new("required programs", |live| {
            needs::provide(needed, |line| live.show(line))
        }),
        Step::command("format", cargo("fmt --all --check")),
        Step::new("dependencies", |_| {
            dependencies::check(&Workspace::with_dependencies(
                workspace.workspace_root.as_std_path(),
            )?)
        }),
        Step::command("clippy", clippy),
        Step::command("documentation", doc),
        Step::new("public API", |_| api::check(workspace)),
    ];
    if all {
        steps.push(Step::new("prose", |live| prose::check(workspace, live)));
        steps.push(Step::new("workflow", |live| {
            workflow::check(workspace, live)
        }));
        let benches = "clippy --package cache-dict --package cache-memcache-pool \
                       --package cache-etcd3 --bench peers --locked -- -D warnings";
        let benches = with_peers(cargo(benches));
        steps.push(Step::command("benchmarks with all peers", benches));
        steps.push(Step::new("each feature alone", |live| {
            each_feature_alone(workspace, live)
        }));
        steps.push(Step::new("minimal versions", |live| {
            minimal_versions::check(workspace, live)
        }));
    }
    steps
}

fn run_the_tests<'a>(
    options: &'a Options,
    workspace: &'a Workspace,
    tests: &'a Tests<'a>,
) -> Vec<Step<'a>> {
    let with_slow = options.all || !options.filters.is_empty();
    let filter = move |name: &str| {
        let is_asked_for = options
            .filters
            .iter()
            .any(|filter| name.contains(filter.as_str()));
        (options.filters.is_empty() || is_asked_for)
            && (with_slow || !SLOW_PROGRAMS.contains(&name))
    };
    let mut steps = vec![
        Step::new("build the tests", |live| tests.build(live)),
        Step::new("tests", move |live| {
            tests.run(filter, options.repeat, options.busy, live)
        }),
        Step::new("no processes left", |_| nothing_is_left_running()),
    ];
    if options.all && options.filters.is_empty() {
        // Use the same features as the tests, so that no dependency is built twice.
        let mut build = cargo("build --workspace --bins --locked --features");
        build.arg(features(workspace));
        steps.push(Step::command("build the programs", build));
        let program_of = |program: &str| {
            process::command(workspace.target_directory.join("debug").join(program))
        };
        let mut soak = program_of("soak");
        soak.args(["all", "--minutes", "1"]);
        steps.push(last_line_of(
            "interoperation with Python",
            program_of("interop"),
        ));
        steps.push(last_line_of("a minute of soak testing", soak));
        steps.push(Step::new("releases with external tools", |live| {
            releases_with_tools(workspace, live)
        }));
    }
    steps
}

/// Runs the release tests that need third-party tools.
fn releases_with_tools(workspace: &Workspace, live: &Live) -> Result<String> {
    let tools = [&SEMVER_CHECKS, &SBOM].map(|tool| tool.provide(workspace, live));
    let mut command = cargo("test --workspace --locked --features");
    command
        .arg(features(workspace))
        .args(["--test", "release_tools", "--", "--ignored"]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = tools.into_iter().collect::<Result<Vec<_>>>()?;
    let folders = tools
        .iter()
        .filter_map(|tool| Some(tool.parent()?.to_path_buf()));
    let folders = folders.chain(std::env::split_paths(&path));
    live.run(command.env("PATH", std::env::join_paths(folders)?))?;
    Ok(String::new())
}

/// Does the same as cargo-hack, which takes longer to compile than this takes to run.
fn each_feature_alone(workspace: &Workspace, live: &Live) -> Result<String> {
    let mut count = 0;
    for package in workspace.published() {
        for feature in std::iter::once(None).chain(own_features(package).map(Some)) {
            let mut check = cargo("check --locked --no-default-features --package");
            check.arg(package.name.as_str());
            check.args(feature.map(|name| ["--features", name]).iter().flatten());
            live.run(&mut check)?;
            count += 1;
        }
    }
    Ok(format!("{count} combinations"))
}

/// How long the watchdogs of the tests' servers may take to remove the servers' data.
const LEFT_WITHIN: Duration = Duration::from_secs(60);

fn nothing_is_left_running() -> Result<String> {
    let begin = Instant::now();
    let mut left = process::running_children();
    while !left.is_empty() && begin.elapsed() < LEFT_WITHIN {
        thread::sleep(Duration::from_millis(50));
        left = process::running_children();
    }
    if left.is_empty() {
        return Ok(String::new());
    }
    process::end_children();
    let lines: Vec<String> = left
        .iter()
        .map(|(id, line)| format!("{id} {line}"))
        .collect();
    bail!("the tests left processes behind:\n{}", lines.join("\n"))
}

/// A step whose remark is the last line of the command's output.
fn last_line_of(title: &str, mut command: Command) -> Step<'static> {
    Step::new(title, move |live| {
        let said = live.run(&mut command)?;
        Ok(said.lines().last().unwrap_or_default().to_owned())
    })
}

/// `cargo` with whitespace-separated arguments.
fn cargo(arguments: &str) -> Command {
    let mut cargo = process::cargo();
    cargo.args(arguments.split_whitespace());
    cargo
}
