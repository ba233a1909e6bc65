//! `cargo xtask test`: everything that has to hold before a change is good.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::release::semver_check;
use crate::steps::{self, Live, Step};
use crate::workspace::{self, Workspace};
use crate::{api, checks, minimal, needs, process};

pub(crate) const HELP: &str = "\
  --keep-going         runs the later steps too when one has failed
  --only STEP          only the steps whose title contains this
  --list               the titles of the steps
  --semver             builds cargo-semver-checks for the step that takes it, if it is not there";

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let root = workspace::root();
    std::env::set_current_dir(&root).with_context(|| format!("cannot enter {}", root.display()))?;
    let workspace = Workspace::members_only(&root)?;
    let mut steps = steps(&workspace, options.semver);
    if options.list {
        for step in &steps {
            println!("{}", step.title);
        }
        return Ok(());
    }
    if let Some(word) = &options.only {
        steps.retain(|step| step.title.contains(word.as_str()));
        if steps.is_empty() {
            bail!("no step is named like `{word}`; --list shows them");
        }
    }
    let result = steps::run(steps, options.keep_going);
    if result.is_err() {
        process::end_children();
    }
    result
}

#[derive(Debug, Default)]
struct Options {
    keep_going: bool,
    list: bool,
    semver: bool,
    only: Option<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--keep-going" => options.keep_going = true,
                "--list" => options.list = true,
                "--semver" => options.semver = true,
                "--only" => {
                    let word = arguments.next().context("--only: which step?")?;
                    options.only = Some(word.clone());
                }
                other => bail!("`{other}` is no option of `cargo xtask test`"),
            }
        }
        Ok(options)
    }
}

fn steps(workspace: &Workspace, build_semver_checks: bool) -> Vec<Step<'_>> {
    let mut steps = checks_of_the_source(workspace);
    let features = all_features(workspace);
    // Everything is built once, this program included, with all that it can do; the steps below
    // only run what was built.
    let xtask = workspace.target_directory.join("debug/xtask");
    let run_xtask = |arguments: &[&str]| {
        let mut command = process::command(&xtask);
        command.args(arguments);
        command
    };
    let test = ["test", "--workspace", "--no-fail-fast", "--locked"];
    steps.push(Step::command(
        "build the tests",
        with_features(&test, &features, &["--no-run"]),
    ));
    steps.push(last_line_of(
        "one cache for Rust and Python",
        run_xtask(&["interop"]),
    ));
    steps.push(last_line_of(
        "a minute of faults",
        run_xtask(&["soak", "all", "--minutes", "1"]),
    ));
    let for_release = features.clone();
    steps.push(Step::quiet("a breaking release is refused", move |live| {
        let tool = if build_semver_checks {
            Some(semver_check::provide(workspace, live)?)
        } else {
            semver_check::find(workspace)
        };
        let Some(tool) = tool else {
            return Ok("NOT RUN: it takes cargo-semver-checks; --semver builds it".to_owned());
        };
        let release = ["--test", "release", "--", "--ignored"];
        let mut command = with_features(&test, &for_release, &release);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folder = tool.parent().map(Path::to_path_buf);
        let folders = folder.into_iter().chain(std::env::split_paths(&path));
        live.run(command.env("PATH", std::env::join_paths(folders)?))?;
        Ok(String::new())
    }));
    steps.push(Step::loud("tests", move || {
        process::stream(&mut with_features(&test, &features, &[]))
    }));
    steps.push(Step::quiet("nothing is left running", |_| {
        let left = process::running_children();
        if left.is_empty() {
            return Ok(String::new());
        }
        process::end_children();
        let lines: Vec<String> = left
            .iter()
            .map(|(id, line)| format!("{id} {line}"))
            .collect();
        bail!("the tests left processes behind:\n{}", lines.join("\n"))
    }));
    steps
}

/// What can be said without running any of it.
fn checks_of_the_source(workspace: &Workspace) -> Vec<Step<'_>> {
    let features = all_features(workspace);
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked"];
    let doc = ["doc", "--workspace", "--no-deps", "--locked"];
    let mut doc = with_features(&doc, &features, &[]);
    doc.env("RUSTDOCFLAGS", "-D warnings -D missing_docs");
    vec![
        Step::quiet("programs needed", |live| {
            needs::provide(|line| live.show(line))
        }),
        Step::command("format", cargo(&["fmt", "--all", "--check"])),
        Step::quiet("direct dependencies", |_| checks::dependencies(workspace)),
        Step::quiet("rust-version of dependencies", |_| {
            checks::rust_version(&Workspace::with_dependencies(&workspace.root)?)
        }),
        Step::command(
            "clippy, all targets and features",
            with_features(&clippy, &features, &["--", "-D", "warnings"]),
        ),
        Step::command("documentation", doc),
        Step::quiet("public API", |_| api::check(workspace)),
        Step::quiet("each feature alone", |live| {
            each_feature_alone(workspace, live)
        }),
        Step::quiet("minimal versions", |live| minimal::check(workspace, live)),
    ]
}

fn each_feature_alone(workspace: &Workspace, live: &Live) -> Result<String> {
    let mut count = 0;
    for package in workspace.published() {
        for feature in std::iter::once(None).chain(package.own_features().map(Some)) {
            let mut check = cargo(&["check", "--locked", "--package", &package.name]);
            check.arg("--no-default-features");
            check.args(feature.map(|name| ["--features", name]).iter().flatten());
            live.run(&mut check)?;
            count += 1;
        }
    }
    Ok(format!("{count} combinations"))
}

/// A command that ends by summing up what it did.
fn last_line_of(title: &str, mut command: Command) -> Step<'static> {
    Step::quiet(title, move |live| {
        let said = live.run(&mut command)?.stdout;
        Ok(said.lines().last().unwrap_or_default().to_owned())
    })
}

/// Every feature of the published crates, and those of `xtask` for which nothing else has to be
/// compiled. The peers that its benchmarks compare with are not among them.
fn all_features(workspace: &Workspace) -> String {
    let published = workspace.published().flat_map(|package| {
        let features = package.own_features();
        features.map(move |feature| format!("{}/{feature}", package.name))
    });
    let own =
        ["conformance", "interop", "service", "soak"].map(|feature| format!("xtask/{feature}"));
    let features: Vec<String> = published.chain(own).collect();
    features.join(",")
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = process::cargo();
    cargo.args(arguments);
    cargo
}

fn with_features(before: &[&str], features: &str, after: &[&str]) -> Command {
    let mut command = cargo(before);
    command.args(["--features", features]).args(after);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        Options::parse(&arguments)
    }

    #[test]
    fn options_may_come_together() {
        let options = parse(&["--keep-going", "--only", "clippy"]).unwrap();
        assert!(options.keep_going && !options.list);
        assert_eq!(options.only.as_deref(), Some("clippy"));
    }

    #[test]
    fn unknown_options_are_refused_by_name() {
        let error = parse(&["--fast"]).unwrap_err().to_string();
        assert!(error.contains("--fast"), "{error}");
        assert!(parse(&["--only"]).is_err());
    }
}
