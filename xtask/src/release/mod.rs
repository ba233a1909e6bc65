//! `cargo xtask release`: publishes and tags the crates in order, and resumes after a failure.
//!
//! All checks run before anything is published. Without `--execute`, only the checks run.
//! `.github/RELEASING.md` is the guide for maintainers.

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

use std::cell::{Cell, OnceCell};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use self::git::{Git, Remote};
use self::package::{Checkout, Packaged};
use self::plan::{Plan, Sources};
use self::publish::Publisher;
use self::registry::Registry;
use crate::steps::{self, Step, Times};
use crate::workspace::{self, Workspace};

/// Requires `cargo login` or `CARGO_REGISTRY_TOKEN`. See .github/RELEASING.md
#[derive(Args)]
#[command(subcommand_precedence_over_arg = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    job: Option<Job>,
    /// The crates to release; default: all with unreleased changes
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Subcommand)]
enum Job {
    /// Shows which crates would be released, in which order and why
    Plan {
        /// The crates to release; default: all with unreleased changes
        #[arg(value_name = "CRATE")]
        crates: Vec<String>,
        /// Prints JSON, including problems; exits with 1 if there are any
        #[arg(long)]
        json: bool,
    },
    /// Updates manifests, requirements and changelogs for new versions
    Prepare {
        /// Pairs of a crate and its new version
        #[arg(value_names = ["CRATE", "VERSION"], num_args = 2.., required = true)]
        pairs: Vec<String>,
    },
}

#[derive(Args)]
struct How {
    /// Publishes and tags; without this, only checks
    #[arg(long, global = true)]
    execute: bool,
    /// Pushes the tags once all crates are in the index
    #[arg(long, global = true, requires = "execute")]
    push: bool,
    /// The registry from cargo's configuration to publish to; default: crates.io
    #[arg(long, global = true, value_name = "NAME")]
    registry: Option<String>,
    /// The branch to release from
    #[arg(long, global = true, value_name = "NAME", default_value = "main")]
    branch: String,
    /// Accepts a detected breaking change in a compatible version of CRATE
    #[arg(long, global = true, value_name = "CRATE")]
    allow_breaking: Vec<String>,
    /// The workspace to release
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = workspace::root())]
    root: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let how = &options.how;
    if how.execute && options.job.is_some() {
        bail!("`plan` and `prepare` publish nothing: leave out `--execute`, or the subcommand");
    }
    let workspace = &Workspace::members_only(&how.root)?;
    let git = &Git::at(workspace.workspace_root.as_std_path());
    let (crates, json) = match &options.job {
        Some(Job::Prepare { pairs }) => return prepare::run(workspace, git, pairs),
        Some(Job::Plan { crates, json }) => (crates, *json),
        None => (&options.crates, false),
    };
    let registry = &Registry::new(how.registry.as_deref(), workspace);
    let state = &git.state()?;
    let remote = git.remote(&how.branch);
    let sources = Sources {
        workspace,
        git,
        state,
        registry,
    };
    let plan = plan(&sources, how, crates, remote.as_ref())?;
    if json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
    } else {
        print!("{plan}");
        for hindrance in plan.hindrances.iter().filter(|_| !how.execute) {
            println!("before --execute: {hindrance}");
        }
    }
    let mut refusals = plan.refusals.clone();
    refusals.extend(plan.hindrances.iter().filter(|_| how.execute).cloned());
    if !refusals.is_empty() {
        let refusals = refusals.join("\n- ");
        bail!("refused, before anything was published:\n- {refusals}");
    }
    if json {
        return Ok(());
    }
    let has_work = plan.to_tag().next().is_some();
    if !has_work {
        println!("nothing to do");
    } else if options.job.is_none() {
        act(&sources, how, &plan)?;
    }
    if how.execute {
        return push(how.push, git, &remote?, &plan);
    }
    if has_work {
        println!("nothing was published; --execute does it");
    }
    Ok(())
}

/// Makes the plan and collects all problems.
fn plan<'a>(
    sources: &Sources<'a>,
    how: &How,
    crates: &[String],
    remote: Result<&Remote, &anyhow::Error>,
) -> Result<Plan<'a>> {
    let Sources {
        workspace,
        registry,
        state,
        git,
    } = sources;
    let mut plan = Plan::make(sources, crates)?;
    plan.refusals.extend(git.refusals(&how.branch)?);
    plan.check_requirements(sources)?;
    plan.check_public_sisters(sources, &how.allow_breaking)?;
    plan.check_changelogs()?;
    match remote {
        Ok(remote) => plan.check_remote(remote, git, state),
        Err(error) => plan.hindrances.push(error.to_string()),
    }
    plan.hindrances.extend(registry.lacks_token(workspace)?);
    let tested = fs::read_to_string(tested(workspace)).unwrap_or_default();
    if how.registry.is_none() && tested != state.head {
        let text = "`cargo xtask test --all` has not passed at this commit: run it";
        plan.hindrances.push(text.to_owned());
    }
    Ok(plan)
}

/// The file that records the last commit to pass all checks.
fn tested(workspace: &Workspace) -> PathBuf {
    workspace.target_directory.join("xtask-tested").into()
}

/// Records that HEAD has passed `cargo xtask test --all`, if the tree is clean.
pub(crate) fn note_tested(workspace: &Workspace) -> Result<()> {
    let git = Git::at(workspace.workspace_root.as_std_path());
    if git.is_clean().is_ok() {
        fs::write(tested(workspace), git.state()?.head)?;
    }
    Ok(())
}

/// Pushes or lists the tags, of this and earlier runs, that the remote lacks.
fn push(push: bool, git: &Git, remote: &Remote, plan: &Plan<'_>) -> Result<()> {
    let state = git.state()?;
    let tags: Vec<String> = plan
        .entries
        .iter()
        .flat_map(|entry| state.released(entry.name).into_values())
        .filter(|tag| remote.tag(tag).is_none())
        .collect();
    let (name, shown) = (&remote.name, tags.join(" "));
    if tags.is_empty() {
        return Ok(());
    }
    if push {
        git.push(remote, &tags)?;
        println!("pushed {shown}");
    } else {
        println!("now push the tags: git push {name} {shown}");
    }
    Ok(())
}

/// Checks everything and, with `--execute`, publishes and tags.
fn act(sources: &Sources<'_>, how: &How, plan: &Plan<'_>) -> Result<()> {
    let (workspace, registry) = (sources.workspace, sources.registry);
    let checkout = &Checkout::new(sources)?;
    let made: OnceCell<Vec<Packaged>> = OnceCell::new();
    let packages = || made.get().map_or(&[][..], Vec::as_slice);
    let has_acted = &Cell::new(false);
    let publisher = Publisher {
        sources,
        checkout,
        has_acted,
    };
    let mut steps = vec![
        Step::new("semver", |live| {
            semver_check::run(workspace, plan, &how.allow_breaking, live)
        }),
        Step::new("package", |live| {
            let all = package::make(checkout, plan, live)?;
            Ok(format!("{} crates", made.get_or_init(|| all).len()))
        }),
        Step::new("compare with the registry", |_| {
            publish::compare(plan, packages())
        }),
    ];
    if plan.outgoing().next().is_some() {
        steps.push(Step::new("unpack, build, test, document", |live| {
            package::verify(workspace, packages(), registry, live)
        }));
        steps.push(Step::new("list dependencies and licenses", |live| {
            sbom::run(workspace, plan, live)
        }));
    }
    for entry in plan.to_tag().filter(|_| how.execute) {
        let publisher = &publisher;
        if entry.will_publish() {
            let title = format!("publish {} {}", entry.name, entry.version);
            steps.push(Step::new(title, move |live| {
                let checksum = package::checksum_of(packages(), entry.name)?;
                publisher.publish(entry, checksum, live)
            }));
        }
        let title = format!("tag {}", entry.tag);
        steps.push(Step::new(title, move |live| publisher.tag(entry, live)));
    }
    let times = workspace.target_directory.join("release/times.json");
    let mut times = Times::kept_in(times.into());
    let result = steps::run(steps, false, &mut times).into_result();
    result.with_context(|| {
        if has_acted.get() {
            "the release is not complete; run the same command again to resume it"
        } else {
            "nothing was published"
        }
    })
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
    fn default_is_a_dry_run() {
        let options = parse(&["cache-core"]).unwrap();
        assert!(options.job.is_none() && !options.how.execute);
        assert_eq!(options.crates, ["cache-core"]);
        assert!(parse(&["--execute"]).unwrap().how.execute);
    }

    #[test]
    fn errors_name_bad_arguments() {
        for (arguments, says) in [
            (vec!["--exceute"], "--exceute"),
            (vec!["--registry"], "a value is required"),
            (vec!["plan", "--execute"], "publish nothing"),
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
