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

use anyhow::{Context, Result, bail};

use self::git::Git;
use self::package::Packaged;
use self::plan::{Fate, Plan};
use self::registry::Registry;
use crate::steps::{self, Step};
use crate::workspace::{self, Workspace};

pub(crate) const ARGUMENTS: &str = "[plan|prepare] [--execute] [CRATE…]";

pub(crate) const HELP: &str = "\
  plan                 only tells which crates go out, at which versions, in which order, and why
  prepare CRATE X.Y.Z  edits what a new version takes: manifests, requirements, the changelog's date
  --execute            acts; without it everything is checked and nothing is published or tagged
  CRATE…               only these; without, every crate that has something to release
  --registry NAME      another registry than crates.io, by its name in cargo's configuration
  --branch NAME        the branch that releases are made from (main)
  --allow-breaking CRATE
                       takes a version that the semver check objects to, or cannot judge
  --root DIR           another workspace than this one
The token comes from `cargo login` or CARGO_REGISTRY_TOKEN, as cargo has it.";

/// What was asked for.
#[derive(Debug)]
struct Options {
    plan_only: bool,
    execute: bool,
    crates: Vec<String>,
    registry: Option<String>,
    branch: String,
    allow_breaking: Vec<String>,
    root: PathBuf,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            plan_only: false,
            execute: false,
            crates: Vec::new(),
            registry: None,
            branch: "main".to_owned(),
            allow_breaking: Vec::new(),
            root: workspace::root(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value
                    .cloned()
                    .with_context(|| format!("{argument}: a value is missing"))
            };
            match argument.as_str() {
                "plan" => options.plan_only = true,
                "--execute" => options.execute = true,
                "--registry" => options.registry = Some(value()?),
                "--branch" => options.branch = value()?,
                "--allow-breaking" => options.allow_breaking.push(value()?),
                "--root" => options.root = value()?.into(),
                // A token on a command line is in the shell's history and in `ps`.
                option if option.starts_with("--token") => {
                    bail!("no token on the command line: use `cargo login`")
                }
                option if option.starts_with('-') => {
                    bail!("`{option}` is no option of `cargo xtask release`\n{HELP}")
                }
                name => options.crates.push(name.to_owned()),
            }
        }
        if options.plan_only && options.execute {
            bail!("`plan` only tells, `--execute` acts: which?");
        }
        Ok(options)
    }
}

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let workspace = Workspace::members_only(&options.root)?;
    if let Some((command, rest)) = options.crates.split_first()
        && command == "prepare"
    {
        let (name, version) = prepare::arguments(rest)?;
        return prepare::run(&workspace, name, version);
    }
    let git = Git::at(&workspace.root);
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
    if options.plan_only {
        return Ok(());
    }
    act(&options, &workspace, &git, &registry, &plan)
}

fn act(
    options: &Options,
    workspace: &Workspace,
    git: &Git,
    registry: &Registry,
    plan: &Plan<'_>,
) -> Result<()> {
    let packaged: RefCell<Vec<Packaged>> = RefCell::default();
    let done: RefCell<Vec<String>> = RefCell::default();
    let mut steps = vec![Step::quiet("semver", |live| {
        semver_check::run(workspace, plan, &options.allow_breaking, live)
    })];
    steps.push(Step::quiet("package", |live| {
        *packaged.borrow_mut() = package::make(workspace, plan, registry, live)?;
        Ok(format!("{} crates", packaged.borrow().len()))
    }));
    steps.push(Step::loud("what the packages hold", || {
        packaged.borrow().iter().for_each(Packaged::show);
        package::check_contents(&packaged.borrow())
    }));
    steps.push(Step::quiet("compare with the registry", |_| {
        publish::compare(plan, &packaged.borrow())
    }));
    if plan.outgoing().next().is_some() {
        steps.push(Step::quiet("unpack, build, test, document", |live| {
            package::verify(workspace, &packaged.borrow(), live)
        }));
    }
    if options.execute {
        for entry in &plan.entries {
            let packaged = &packaged;
            let done = &done;
            if matches!(entry.fate, Fate::Publish { .. }) {
                let title = format!("publish {} {}", entry.name(), entry.version);
                steps.push(Step::quiet(title, move |live| {
                    let checksum = publish::checksum_of(&packaged.borrow(), entry)?;
                    let remark = publish::publish(workspace, registry, entry, &checksum, live)?;
                    done.borrow_mut()
                        .push(format!("published {} {}", entry.name(), entry.version));
                    Ok(remark)
                }));
            }
            if matches!(entry.fate, Fate::Publish { .. } | Fate::Tag { .. }) {
                let title = format!("tag {}", entry.tag);
                steps.push(Step::quiet(title, move |_| {
                    git.tag(&entry.tag, &format!("{} {}", entry.name(), entry.version))?;
                    done.borrow_mut().push(format!("tagged {}", entry.tag));
                    Ok(String::new())
                }));
            }
        }
    }
    let result = steps::run(steps, false);
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

fn finish(options: &Options, plan: &Plan<'_>) {
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
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        Options::parse(&arguments)
    }

    #[test]
    fn nothing_is_done_unless_asked_for() {
        let options = parse(&["cache-core"]).unwrap();
        assert!(!options.execute);
        assert_eq!(options.crates, ["cache-core"]);
        assert!(parse(&["--execute"]).unwrap().execute);
    }

    #[test]
    fn bad_arguments_are_named() {
        for (arguments, says) in [
            (vec!["--exceute"], "--exceute"),
            (vec!["--registry"], "a value is missing"),
            (vec!["--token", "x"], "cargo login"),
            (vec!["plan", "--execute"], "which?"),
        ] {
            let error = parse(&arguments).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
