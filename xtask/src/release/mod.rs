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
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    job: Option<Job>,
    #[command(flatten)]
    release: Release,
}

#[derive(Subcommand)]
enum Job {
    /// Only tells which crates go out, at which versions, in which order, and why
    Plan(Release),
    /// Edits what a new version takes: manifests, requirements, the changelog's date
    Prepare {
        #[arg(value_name = "CRATE")]
        name: String,
        version: Version,
        /// Another workspace than this one
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Release {
    /// Only these; without them, every crate that has something to release
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
    /// Acts; without it everything is checked and nothing is published or tagged
    #[arg(long)]
    execute: bool,
    /// Another registry than crates.io, by its name in cargo's configuration
    #[arg(long, value_name = "NAME")]
    registry: Option<String>,
    /// The branch that releases are made from
    #[arg(long, value_name = "NAME", default_value = "main")]
    branch: String,
    /// Takes a version that the semver check objects to, or cannot judge
    #[arg(long, value_name = "CRATE")]
    allow_breaking: Vec<String>,
    /// Another workspace than this one
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Refused: a token on a command line is in the shell's history and in `ps`
    #[arg(long, hide = true, num_args = 0..)]
    token: Option<Vec<String>>,
}

fn load(root: Option<PathBuf>) -> Result<Workspace> {
    Workspace::members_only(&root.unwrap_or_else(workspace::root))
}

pub(crate) fn run(options: Options) -> Result<()> {
    match options.job {
        Some(Job::Prepare {
            name,
            version,
            root,
        }) => prepare::run(&load(root)?, &name, &version),
        Some(Job::Plan(release)) if release.execute => {
            bail!("`plan` only tells, `--execute` acts: which?")
        }
        Some(Job::Plan(release)) => make(&release, true),
        None => make(&options.release, false),
    }
}

fn make(options: &Release, plan_only: bool) -> Result<()> {
    if options.token.is_some() {
        bail!("no token on the command line: use `cargo login`");
    }
    let workspace = load(options.root.clone())?;
    let git = Git::at(workspace.workspace_root.as_std_path());
    let registry = Registry::new(options.registry.as_deref(), &workspace)?;
    let plan = Plan::make(&workspace, &git, &registry, &options.crates)?;
    print!("{plan}");
    let mut refusals = git.refusals(&options.branch)?;
    refusals.extend(plan.refusals.iter().cloned());
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
    act(options, &workspace, &git, &registry, &plan)
}

fn act(
    options: &Release,
    workspace: &Workspace,
    git: &Git,
    registry: &Registry,
    plan: &Plan<'_>,
) -> Result<()> {
    let packaged: RefCell<Vec<Packaged>> = RefCell::default();
    let done: RefCell<Vec<String>> = RefCell::default();
    let mut steps = vec![Step::new("semver", |live| {
        semver_check::run(workspace, plan, &options.allow_breaking, live)
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
    if options.execute {
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
        } else if options.execute {
            println!("nothing was published");
        }
        return Err(error);
    }
    finish(options, plan);
    Ok(())
}

fn finish(options: &Release, plan: &Plan<'_>) {
    if options.execute {
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
        assert!(options.job.is_none() && !options.release.execute);
        assert_eq!(options.release.crates, ["cache-core"]);
        assert!(parse(&["--execute"]).unwrap().release.execute);
    }

    #[test]
    fn bad_arguments_are_named() {
        for (arguments, says) in [
            (vec!["--exceute"], "--exceute"),
            (vec!["--registry"], "a value is required"),
            (vec!["--token", "x"], "cargo login"),
            (vec!["plan", "--execute"], "which?"),
        ] {
            let error = parse(&arguments).and_then(run).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
