//! `cargo xtask test`: everything that has to hold before a change is good.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::{self, Step};
use crate::workspace::{self, Workspace};
use crate::{checks, needs, process};

pub(crate) const HELP: &str = "\
  --keep-going         runs the later steps too when one has failed
  --only STEP          only the steps whose title contains this
  --list               the titles of the steps";

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let root = workspace::root();
    std::env::set_current_dir(&root).with_context(|| format!("cannot enter {}", root.display()))?;
    let workspace = Workspace::members_only(&root)?;
    let mut steps = steps(&workspace);
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

fn steps(workspace: &Workspace) -> Vec<Step<'_>> {
    let features = all_features(workspace);
    let with_interop = format!("{features},xtask/interop");
    let mut steps = vec![
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
            with_features(
                &["clippy", "--workspace", "--all-targets", "--locked"],
                &with_interop,
                &["--", "-D", "warnings"],
            ),
        ),
    ];
    let mut doc = with_features(
        &[
            "doc",
            "--workspace",
            "--exclude",
            "xtask",
            "--no-deps",
            "--locked",
        ],
        &features,
        &[],
    );
    doc.env("RUSTDOCFLAGS", "-D warnings -D missing_docs");
    steps.push(Step::command("documentation", doc));
    steps.push(Step::quiet("each feature alone", |live| {
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
    }));
    steps.push(Step::loud("tests", move || {
        process::stream(&mut with_features(
            &["test", "--workspace", "--no-fail-fast", "--locked"],
            &with_interop,
            &[],
        ))
    }));
    steps.push(Step::quiet("one cache for Rust and Python", |live| {
        let mut interop = cargo(&["run", "--quiet", "--locked", "--package", "xtask"]);
        interop.args(["--features", "interop", "--", "interop"]);
        let table = live.run(&mut interop)?.stdout;
        Ok(table.lines().last().unwrap_or_default().to_owned())
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

/// Every feature of the published crates. The peers that a benchmark of `xtask` compares with are
/// not among them: nobody who runs the tests has to compile those.
fn all_features(workspace: &Workspace) -> String {
    let features: Vec<String> = workspace
        .published()
        .flat_map(|package| {
            package
                .own_features()
                .map(move |feature| format!("{}/{feature}", package.name))
        })
        .collect();
    features.join(",")
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = process::cargo();
    cargo.args(arguments);
    cargo
}

fn with_features(before: &[&str], features: &str, after: &[&str]) -> Command {
    let mut command = cargo(before);
    if !features.is_empty() {
        command.args(["--features", features]);
    }
    command.args(after);
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
    fn options() {
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
