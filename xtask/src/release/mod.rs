//! `cargo xtask release`: crates out of the door, in order, and again where it stopped.
//!
//! Nothing is published before everything has been checked. Without `--execute` it ends there and
//! says what it would do. `.github/RELEASING.md` is the page for those who release.

mod changelog;
mod checks;
mod git;
mod manifest;
mod package;
mod plan;
mod prepare;
mod publish;
mod registry;
mod released;
mod sbom;
mod semver_check;
pub(crate) mod tool;

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use self::git::{Git, Remote, State};
use self::package::{Checkout, Packaged};
use self::plan::{Plan, Sources};
use self::publish::Publisher;
use self::registry::Registry;
use self::released::Past;
use crate::steps::{self, Step, Times};
use crate::workspace::{self, Workspace};

/// The token comes from `cargo login` or `CARGO_REGISTRY_TOKEN`, as cargo has it. More is in
/// .github/RELEASING.md.
#[derive(Args)]
#[command(subcommand_precedence_over_arg = true)]
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
        /// Only these; without them, every crate that has something to release
        #[arg(value_name = "CRATE")]
        crates: Vec<String>,
        /// For programs; what is refused is in it as well, and the exit code tells
        #[arg(long)]
        json: bool,
    },
    /// Edits what new versions take: manifests, requirements, the changelogs' dates
    Prepare {
        #[arg(value_names = ["CRATE", "VERSION"], num_args = 2.., required = true)]
        pairs: Vec<String>,
    },
}

#[derive(Args)]
#[allow(clippy::struct_excessive_bools)] // As many as there are switches.
struct How {
    /// Acts; without it everything is checked and nothing is published or tagged
    #[arg(long, global = true)]
    execute: bool,
    /// Pushes the tags once everything is in the index
    #[arg(long, global = true, requires = "execute")]
    push: bool,
    /// Another registry than crates.io, by its name in cargo's configuration
    #[arg(long, global = true, value_name = "NAME")]
    registry: Option<String>,
    /// The branch that releases are made from
    #[arg(long, global = true, value_name = "NAME", default_value = "main")]
    branch: String,
    /// Takes a version that claims to be compatible and is not, or of which nobody can say
    #[arg(long, global = true, value_name = "CRATE")]
    allow_breaking: Vec<String>,
    /// Another workspace than this one
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = workspace::root())]
    root: PathBuf,
    /// Refused: a token on a command line is in the shell's history and in `ps`
    #[arg(long, global = true, hide = true)]
    token: Option<String>,
}

/// How far to go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Plan,
    Json,
    All,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let how = &options.how;
    if how.token.is_some() {
        bail!("no token on the command line: use `cargo login`");
    }
    if how.execute && options.job.is_some() {
        bail!("`plan` and `prepare` only tell and edit, `--execute` publishes: which?");
    }
    let workspace = Workspace::members_only(&how.root)?;
    match &options.job {
        Some(Job::Prepare { pairs }) => {
            let git = Git::at(workspace.workspace_root.as_std_path());
            prepare::run(&workspace, &git, pairs)
        }
        Some(Job::Plan { crates, json: true }) => make(&workspace, how, crates, Extent::Json),
        Some(Job::Plan { crates, .. }) => make(&workspace, how, crates, Extent::Plan),
        None => make(&workspace, how, &options.crates, Extent::All),
    }
}

/// Where the commit is kept that has passed every check.
fn tested(workspace: &Workspace) -> PathBuf {
    workspace.target_directory.join("xtask-tested").into()
}

/// Notes that the tree as it is has passed `cargo xtask test --all`, if it is one that could be
/// released.
pub(crate) fn note_tested(workspace: &Workspace) -> Result<()> {
    let git = Git::at(workspace.workspace_root.as_std_path());
    if git.is_clean().is_ok() {
        fs::write(tested(workspace), git.state()?.head)?;
    }
    Ok(())
}

fn make(workspace: &Workspace, how: &How, crates: &[String], extent: Extent) -> Result<()> {
    let git = Git::at(workspace.workspace_root.as_std_path());
    let registry = Registry::new(how.registry.as_deref(), workspace);
    let state = git.state()?;
    let past = Past {
        git: &git,
        workspace,
    };
    let sources = Sources {
        workspace,
        past,
        state: &state,
        registry: &registry,
    };
    let mut plan = Plan::make(&sources, crates)?;
    plan.refusals.extend(git.refusals(&how.branch)?);
    plan.check_requirements(&sources)?;
    plan.check_public_sisters(&sources, &how.allow_breaking)?;
    plan.check_pages()?;
    let remote = git.remote(&how.branch);
    match &remote {
        Ok(remote) => plan.check_remote(remote, &git, &state),
        Err(error) => plan.hindrances.push(error.to_string()),
    }
    let root = workspace.workspace_root.as_std_path();
    plan.hindrances.extend(registry.lacks_token(root));
    let tested = fs::read_to_string(tested(workspace)).unwrap_or_default();
    if how.registry.is_none() && tested != state.head {
        let text = "`cargo xtask test --all` has not passed at this commit: run it";
        plan.hindrances.push(text.to_owned());
    }

    if extent == Extent::Json {
        println!("{}", plan.to_json(&registry)?);
    } else {
        print!("{plan}");
        for hindrance in plan.hindrances.iter().filter(|_| !how.execute) {
            println!("before --execute: {hindrance}");
        }
    }
    let hindrances = plan.hindrances.iter().filter(|_| how.execute);
    let refusals: Vec<&str> = plan
        .refusals
        .iter()
        .chain(hindrances)
        .map(String::as_str)
        .collect();
    if !refusals.is_empty() {
        bail!(
            "refused, before anything was published:\n- {}",
            refusals.join("\n- ")
        );
    }
    if extent == Extent::Json {
        return Ok(());
    }
    if plan.to_tag().next().is_none() {
        println!("nothing to do");
    } else if extent == Extent::All {
        Act {
            how,
            workspace,
            git: &git,
            state: &state,
            registry: &registry,
        }
        .run(&plan)?;
    }
    if how.execute {
        return push(how.push, &git, &remote?, &plan);
    }
    for entry in plan.to_tag() {
        let publish = entry
            .goes_out()
            .then(|| format!("publish {} {} and ", entry.name(), entry.version));
        println!("would {}tag {}", publish.unwrap_or_default(), entry.tag);
    }
    println!("nothing was published; --execute does it");
    Ok(())
}

/// The tags of this and of earlier runs that the remote does not have yet.
fn push(push: bool, git: &Git, remote: &Remote, plan: &Plan<'_>) -> Result<()> {
    let state = git.state()?;
    let tags: Vec<String> = plan
        .entries
        .iter()
        .flat_map(|entry| {
            state
                .released(entry.name())
                .into_iter()
                .map(|version| entry.tag_of(&version))
        })
        .filter(|tag| remote.tag(tag).is_none())
        .collect();
    if tags.is_empty() {
        return Ok(());
    }
    if push {
        git.push(remote, &tags)?;
        println!("pushed {}", tags.join(" "));
    } else {
        println!(
            "now push the tags: git push {} {}",
            remote.name,
            tags.join(" ")
        );
    }
    Ok(())
}

struct Act<'a> {
    how: &'a How,
    workspace: &'a Workspace,
    git: &'a Git,
    state: &'a State,
    registry: &'a Registry,
}

impl Act<'_> {
    fn run(&self, plan: &Plan<'_>) -> Result<()> {
        let (workspace, registry) = (self.workspace, self.registry);
        let checkout = Checkout::new(workspace, self.git, &self.state.head, registry)?;
        let made: OnceCell<Vec<Packaged>> = OnceCell::new();
        let packages = || made.get().map_or(&[][..], Vec::as_slice);
        let done = RefCell::default();
        let publisher = Publisher {
            registry,
            checkout: &checkout,
            git: self.git,
            head: &self.state.head,
            done: &done,
        };
        let mut steps = vec![
            Step::new("semver", |live| {
                semver_check::run(workspace, plan, &self.how.allow_breaking, live)
            }),
            Step::new("package", |live| {
                let all = package::make(&checkout, plan, live)?;
                Ok(format!("{} crates", made.get_or_init(|| all).len()))
            }),
            Step::new("what the packages hold", |live| {
                for package in packages() {
                    live.say(&package.shown());
                }
                package::check_contents(packages())?;
                Ok(String::new())
            }),
            Step::new("compare with the registry", |_| {
                publish::compare(plan, packages())
            }),
        ];
        if plan.outgoing().next().is_some() {
            steps.push(Step::new("unpack, build, test, document", |live| {
                package::verify(workspace, packages(), registry, live)
            }));
            steps.push(Step::new("list dependencies and licences", |live| {
                sbom::run(workspace, plan, live)
            }));
        }
        for entry in plan.to_tag().filter(|_| self.how.execute) {
            let publisher = &publisher;
            if entry.goes_out() {
                let title = format!("publish {} {}", entry.name(), entry.version);
                steps.push(Step::new(title, move |live| {
                    let checksum = package::checksum_of(packages(), entry.name())?;
                    publisher.publish(entry, checksum, live)
                }));
            }
            let title = format!("tag {}", entry.tag);
            steps.push(Step::new(title, move |_| publisher.tag(entry)));
        }
        let times = workspace.target_directory.join("release/times.json");
        let mut times = Times::kept_in(times.into());
        let result = steps::run(steps, false, &mut times).into_result();
        for line in done.borrow().iter() {
            println!("{line}");
        }
        if result.is_err() && !done.borrow().is_empty() {
            println!("the rest was not done; the same command goes on from here");
        } else if result.is_err() {
            println!("nothing was published");
        }
        result.with_context(|| "the release is not complete")
    }
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
            (vec!["--push"], "--execute"),
            (vec!["prepare", "cache-core"], "2 values"),
        ] {
            let error = parse(&arguments)
                .and_then(|options| run(&options))
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
