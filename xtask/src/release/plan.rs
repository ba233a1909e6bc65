//! Decides which crates to publish, at which versions, in which order, and why.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail};
use cargo_metadata::{Dependency, DependencyKind, Package};
use semver::{Version, VersionReq};
use serde::Serialize;

use super::git::{Git, State};
use super::manifest::is_compatible;
use super::registry::Registry;
use crate::workspace::Workspace;

/// What to do with a crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// Publish and tag it.
    Publish,
    /// Only tag it, since the registry already has it.
    Tag,
    None,
}

#[derive(Serialize)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: Version,
    /// The latest release reachable from HEAD, other than `version`.
    pub(crate) last: Option<Version>,
    pub(crate) tag: String,
    pub(crate) action: Action,
    why: String,
    #[serde(skip)]
    pub(crate) package: &'a Package,
    /// The checksum of `version` in the registry.
    #[serde(skip)]
    pub(crate) in_registry: Option<String>,
    /// Whether `version` was released, judging by its tag.
    #[serde(skip)]
    pub(crate) is_out: bool,
}

impl Entry<'_> {
    pub(crate) fn will_publish(&self) -> bool {
        self.action == Action::Publish
    }

    pub(crate) fn last_tag(&self) -> Option<String> {
        Some(format!("{}-v{}", self.name, self.last.as_ref()?))
    }
}

/// All publishable crates, in publication order. Serializes to the output of `plan --json`.
#[derive(Serialize)]
pub(crate) struct Plan<'a> {
    registry: &'a str,
    #[serde(rename = "crates")]
    pub(crate) entries: Vec<Entry<'a>>,
    /// Errors, which prevent any action.
    pub(crate) refusals: Vec<String>,
    /// Problems to solve before `--execute` can act.
    #[serde(rename = "before_execute")]
    pub(crate) hindrances: Vec<String>,
}

/// The inputs of a plan.
pub(crate) struct Sources<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) git: &'a Git,
    pub(crate) state: &'a State,
    pub(crate) registry: &'a Registry,
}

impl<'a> Plan<'a> {
    pub(crate) fn make(sources: &Sources<'a>, only: &[String]) -> Result<Self> {
        let packages: Vec<&Package> = sources.workspace.published().collect();
        for name in only {
            if !packages.iter().any(|package| package.name.as_str() == name) {
                bail!("`{name}` is not a published crate of this workspace");
            }
        }
        let (order, cycle) = in_order(&packages);
        let mut plan = Self {
            registry: sources.registry.shown(),
            entries: Vec::new(),
            refusals: Vec::new(),
            hindrances: Vec::new(),
        };
        if !cycle.is_empty() {
            plan.refusals.push(format!(
                "{} depend on each other in a circle (dev-dependencies count as soon as they have \
                 a version; leave a path alone)",
                cycle.join(", ")
            ));
        }
        let names: Vec<&str> = packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        for package in order {
            let asked = only.is_empty() || only.iter().any(|name| package.name.as_str() == name);
            let entry = plan.judge(package, sources, &names, asked)?;
            plan.entries.push(entry);
        }
        Ok(plan)
    }

    /// The crates to publish, in order.
    pub(crate) fn outgoing(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries.iter().filter(|entry| entry.will_publish())
    }

    /// The crates that get a tag, in order.
    pub(crate) fn to_tag(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries
            .iter()
            .filter(|entry| entry.action != Action::None)
    }

    /// The crates to publish whose versions claim to be compatible with their last releases: each
    /// with that release and its tag. Omits those in `allowed`, which may break.
    pub(crate) fn compatible(
        &self,
        allowed: &[String],
    ) -> impl Iterator<Item = (&Entry<'a>, &Version, String)> {
        let may_break = |entry: &Entry| allowed.iter().any(|name| name == entry.name);
        self.outgoing().filter_map(move |entry| {
            let (last, tag) = (entry.last.as_ref()?, entry.last_tag()?);
            let claims_to_be = is_compatible(last, &entry.version) && !may_break(entry);
            claims_to_be.then_some((entry, last, tag))
        })
    }

    fn judge(
        &mut self,
        package: &'a Package,
        sources: &Sources<'a>,
        names: &[&str],
        asked: bool,
    ) -> Result<Entry<'a>> {
        let (state, registry) = (sources.state, sources.registry);
        let name = package.name.as_str();
        let version = package.version.clone();
        let tag = format!("{name}-v{version}");
        let released = state.released(name);
        let is_out = released.contains_key(&version);
        let last = released.into_keys().rfind(|released| *released != version);
        let mut refuse = |text: String| {
            if asked {
                self.refusals.push(text);
            }
        };
        let shown = registry.shown();
        let in_registry = registry.checksum(name, &version)?;
        let (action, why) = match (is_out, &in_registry) {
            (false, _) if state.tags.contains_key(&tag) => {
                refuse(format!(
                    "the tag {tag} is on a commit that HEAD does not contain: somebody released \
                     that as {version}; raise the version, or remove the tag if it is wrong (git \
                     tag --delete {tag})"
                ));
                (Action::None, format!("{tag} is not reachable from HEAD"))
            }
            (true, Some(_)) => {
                let changed = sources.changed(package, &tag, names)?;
                if !changed.is_empty() {
                    refuse(format!(
                        "{name} has changed since {tag} and still is {version}: raise its version \
                         ({})",
                        some_of(&changed)
                    ));
                }
                (Action::None, format!("unchanged since {tag}"))
            }
            (true, None) => {
                refuse(format!(
                    "the tag {tag} exists, but {shown} does not have {name} {version}, or it was \
                     yanked: raise the version, or remove the tag if that was never published \
                     (git tag --delete {tag})"
                ));
                (Action::None, format!("{tag} exists"))
            }
            (false, Some(_)) => {
                let why = format!("{shown} has it already; only the tag is missing");
                (Action::Tag, why)
            }
            (false, None) => {
                if let Some(last) = last.as_ref().filter(|last| **last > version) {
                    refuse(format!("{name} goes back from {last} to {version}"));
                }
                let why = last.as_ref().map(|last| format!("{last} → {version}"));
                (Action::Publish, why.unwrap_or("first release".to_owned()))
            }
        };
        let (action, why) = if asked || action == Action::None {
            (action, why)
        } else {
            (Action::None, format!("not selected ({why})"))
        };
        Ok(Entry {
            name,
            version,
            last,
            tag,
            action,
            why,
            package,
            in_registry,
            is_out,
        })
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.entries.iter().enumerate() {
            let number = index + 1;
            let action = format!("{:?}", entry.action).to_lowercase();
            let (name, version) = (entry.name, entry.version.to_string());
            let why = &entry.why;
            writeln!(f, "{number:>3}. {action:<8} {name:<22} {version:<10} {why}")?;
        }
        Ok(())
    }
}

/// The dependencies that the registry sees: packaging drops path-only dev-dependencies.
pub(crate) fn versioned(package: &Package) -> impl Iterator<Item = &Dependency> {
    let dependencies = package.dependencies.iter();
    dependencies.filter(|dependency| {
        dependency.kind != DependencyKind::Development || dependency.req != VersionReq::STAR
    })
}

/// Sorts packages after their dependencies; also returns the names of packages in a cycle.
fn in_order<'a>(packages: &[&'a Package]) -> (Vec<&'a Package>, Vec<&'a str>) {
    let mut left: Vec<&Package> = packages.to_vec();
    left.sort_by(|a, b| a.name.cmp(&b.name));
    let mut order = Vec::new();
    while !left.is_empty() {
        let waiting: BTreeSet<&str> = left.iter().map(|package| package.name.as_str()).collect();
        let ready = left
            .iter()
            .position(|package| versioned(package).all(|d| !waiting.contains(d.name.as_str())));
        let Some(index) = ready else {
            let cycle = left.iter().map(|package| package.name.as_str()).collect();
            order.append(&mut left);
            return (order, cycle);
        };
        order.push(left.remove(index));
    }
    (order, Vec::new())
}

fn some_of(names: &[String]) -> String {
    let mut text: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    if names.len() > text.len() {
        text.push("…");
    }
    text.join(", ")
}
