//! `cargo xtask release`: crates out of the door, in order, and again where it stopped.
//!
//! Nothing is published before everything has been checked. Without `--execute` it ends there and
//! says what it would do.

mod changelog;
mod git;
mod package;
mod plan;
mod prepare;
mod publish;
mod registry;
pub(crate) mod semver_check;

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use semver::Version;

use self::git::Git;
use self::package::Packaged;
use self::plan::{Fate, Plan};
use self::registry::Registry;
use crate::steps::{self, Step, Times};
use crate::workspace::{self, Workspace};

/// The token comes from `cargo login` or `CARGO_REGISTRY_TOKEN`, as cargo has it.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    job: Option<Job>,
    /// Only these; without them, every crate that has something to release
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Subcommand)]
enum Job {
    /// Only tells which crates go out, at which versions, in which order, and why
    Plan {
        #[arg(value_name = "CRATE")]
        crates: Vec<String>,
    },
    /// Edits what a new version takes: manifests, requirements, the changelog's date
    Prepare {
        #[arg(value_name = "CRATE")]
        name: String,
        version: Version,
    },
}

#[derive(Args)]
struct How {
    /// Acts; without it everything is checked and nothing is published or tagged
    #[arg(long, global = true)]
    execute: bool,
    /// Another registry than crates.io, by its name in cargo's configuration
    #[arg(long, global = true, value_name = "NAME")]
    registry: Option<String>,
    /// The branch that releases are made from
    #[arg(long, global = true, value_name = "NAME", default_value = "main")]
    branch: String,
    /// Takes a version that the semver check objects to, or cannot judge
    #[arg(long, global = true, value_name = "CRATE")]
    allow_breaking: Vec<String>,
    /// Another workspace than this one
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = workspace::root())]
    root: PathBuf,
    /// Refused: a token on a command line is in the shell's history and in `ps`
    #[arg(long, hide = true)]
    token: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let how = &options.how;
    if how.token.is_some() {
        bail!("no token on the command line: use `cargo login`");
    }
    let workspace = Workspace::members_only(&how.root)?;
    match &options.job {
        Some(Job::Prepare { name, version }) => prepare::run(&workspace, name, version),
        Some(Job::Plan { .. }) if how.execute => {
            bail!("`plan` only tells, `--execute` acts: which?")
        }
        Some(Job::Plan { crates }) => make(&workspace, crates, how, true),
        None => make(&workspace, &options.crates, how, false),
    }
}

/// Where the commit is kept that has passed every check.
fn tested(workspace: &Workspace) -> PathBuf {
    workspace.target_directory.join("xtask-tested").into()
}

/// Notes that the tree as it is has passed `cargo xtask test --all`, if it is one that could be
/// released.
pub(crate) fn note_tested(workspace: &Workspace) -> Result<()> {
    if let Some(commit) = Git::at(workspace.workspace_root.as_std_path()).commit()? {
        fs::write(tested(workspace), commit)?;
    }
    Ok(())
}

fn is_tested(workspace: &Workspace, git: &Git) -> Result<bool> {
    let noted = fs::read_to_string(tested(workspace)).ok();
    Ok(noted.is_some() && noted == git.commit()?)
}

fn make(workspace: &Workspace, crates: &[String], how: &How, plan_only: bool) -> Result<()> {
    let git = Git::at(workspace.workspace_root.as_std_path());
    let registry = Registry::new(how.registry.as_deref(), workspace)?;
    let plan = Plan::make(workspace, &git, &registry, crates)?;
    print!("{plan}");
    let mut refusals = git.refusals(&how.branch)?;
    refusals.extend(plan.refusals.iter().cloned());
    if how.execute && how.registry.is_none() && !is_tested(workspace, &git)? {
        refusals.push("`cargo xtask test --all` has not passed at this commit: run it".to_owned());
    }
    if !refusals.is_empty() {
        bail!(
            "refused, before anything was published:\n- {}",
            refusals.join("\n- ")
        );
    }
    if plan.outgoing().next().is_none() && plan.to_tag().next().is_none() {
        println!("nothing to do");
        return Ok(());
    }
    if plan_only {
        return Ok(());
    }
    act(how, workspace, &git, &registry, &plan)
}

fn act(
    how: &How,
    workspace: &Workspace,
    git: &Git,
    registry: &Registry,
    plan: &Plan<'_>,
) -> Result<()> {
    let packaged: RefCell<Vec<Packaged>> = RefCell::default();
    let done: RefCell<Vec<String>> = RefCell::default();
    let mut steps = vec![Step::new("semver", |live| {
        semver_check::run(workspace, plan, &how.allow_breaking, live)
    })];
    steps.push(Step::new("package", |live| {
        *packaged.borrow_mut() = package::make(workspace, plan, registry, live)?;
        Ok(format!("{} crates", packaged.borrow().len()))
    }));
    steps.push(Step::new("what the packages hold", |live| {
        packaged
            .borrow()
            .iter()
            .for_each(|package| live.say(&package.shown()));
        package::check_contents(&packaged.borrow())?;
        Ok(String::new())
    }));
    steps.push(Step::new("compare with the registry", |_| {
        publish::compare(plan, &packaged.borrow())
    }));
    if plan.outgoing().next().is_some() {
        steps.push(Step::new("unpack, build, test, document", |live| {
            package::verify(workspace, &packaged.borrow(), live)
        }));
    }
    if how.execute {
        for entry in &plan.entries {
            let packaged = &packaged;
            let done = &done;
            if matches!(entry.fate, Fate::Publish { .. }) {
                let title = format!("publish {} {}", entry.name(), entry.version);
                steps.push(Step::new(title, move |live| {
                    let checksum = publish::checksum_of(&packaged.borrow(), entry)?;
                    let remark = publish::publish(workspace, registry, entry, &checksum, live)?;
                    done.borrow_mut()
                        .push(format!("published {} {}", entry.name(), entry.version));
                    Ok(remark)
                }));
            }
            if matches!(entry.fate, Fate::Publish { .. } | Fate::Tag { .. }) {
                let title = format!("tag {}", entry.tag);
                steps.push(Step::new(title, move |_| {
                    git.tag(&entry.tag, &format!("{} {}", entry.name(), entry.version))?;
                    done.borrow_mut().push(format!("tagged {}", entry.tag));
                    Ok(String::new())
                }));
            }
        }
    }
    let times = workspace.target_directory.join("release/times.json");
    let mut times = Times::kept_in(times.into());
    let result = steps::run(steps, false, &mut times).into_result();
    for line in done.borrow().iter() {
        println!("{line}");
    }
    if let Err(error) = result {
        if !done.borrow().is_empty() {
            println!("the rest was not done; the same command goes on from here");
        } else if how.execute {
            println!("nothing was published");
        }
        return Err(error);
    }
    finish(how, plan);
    Ok(())
}

fn finish(how: &How, plan: &Plan<'_>) {
    if how.execute {
        let tags: Vec<&str> = plan
            .outgoing()
            .chain(plan.to_tag())
            .map(|entry| entry.tag.as_str())
            .collect();
        println!("now push the tags: git push origin {}", tags.join(" "));
        return;
    }
    for entry in plan.outgoing() {
        println!(
            "would publish {} {} and tag {}",
            entry.name(),
            entry.version,
            entry.tag
        );
    }
    for entry in plan.to_tag() {
        println!("would tag {}", entry.tag);
    }
    println!("nothing was published; --execute does it");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Result<Options> {
        let arguments = [&["release"], arguments].concat();
        Ok(Command::try_parse_from(arguments)?.options)
    }

    #[test]
    fn nothing_is_done_unless_asked_for() {
        let options = parse(&["cache-core"]).unwrap();
        assert!(options.job.is_none() && !options.how.execute);
        assert_eq!(options.crates, ["cache-core"]);
        assert!(parse(&["--execute"]).unwrap().how.execute);
    }

    #[test]
    fn bad_arguments_are_named() {
        for (arguments, says) in [
            (vec!["--exceute"], "--exceute"),
            (vec!["--registry"], "a value is required"),
            (vec!["--token", "x"], "cargo login"),
            (vec!["plan", "--execute"], "which?"),
        ] {
            let error = parse(&arguments)
                .and_then(|options| run(&options))
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
