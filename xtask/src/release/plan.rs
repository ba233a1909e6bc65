//! Which crates go out, at which versions, in which order, and why; and why not.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail};
use cargo_metadata::{Dependency, DependencyKind, Package};
use semver::{Version, VersionReq};
use serde::Serialize;

use super::git::State;
use super::registry::Registry;
use super::released::Past;
use crate::workspace::Workspace;

/// What is to be done with one crate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// To be published and tagged.
    Publish,
    /// In the registry already, with this checksum; the tag is missing.
    Tag { checksum: String },
    /// Nothing.
    Stay,
}

pub(crate) struct Entry<'a> {
    pub(crate) package: &'a Package,
    pub(crate) version: Version,
    /// The latest version released on the way to HEAD, other than `version`.
    pub(crate) last: Option<Version>,
    pub(crate) tag: String,
    pub(crate) fate: Fate,
    /// Released as it is, by its tag.
    pub(crate) is_out: bool,
    why: String,
}

impl Entry<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.package.name
    }

    pub(crate) fn goes_out(&self) -> bool {
        self.fate == Fate::Publish
    }

    pub(crate) fn last_tag(&self) -> Option<String> {
        self.last.as_ref().map(|last| self.tag_of(last))
    }

    pub(crate) fn tag_of(&self, version: &Version) -> String {
        format!("{}-v{version}", self.name())
    }
}

/// Every published crate, in the order of publication.
pub(crate) struct Plan<'a> {
    pub(crate) entries: Vec<Entry<'a>>,
    /// Mistakes; with any of them nothing is done.
    pub(crate) refusals: Vec<String>,
    /// What lacks before `--execute` may act.
    pub(crate) hindrances: Vec<String>,
}

/// What a plan is made from.
pub(crate) struct Sources<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) past: Past<'a>,
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
        self.entries.iter().filter(|entry| entry.goes_out())
    }

    /// The crates that get a tag.
    pub(crate) fn to_tag(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries.iter().filter(|entry| entry.fate != Fate::Stay)
    }

    fn judge(
        &mut self,
        package: &'a Package,
        sources: &Sources<'a>,
        names: &[&str],
        asked: bool,
    ) -> Result<Entry<'a>> {
        let (state, registry) = (sources.state, sources.registry);
        let name = &package.name;
        let version = package.version.clone();
        let tag = format!("{name}-v{version}");
        let released = state.released(name);
        let is_out = released.contains(&version);
        let last = released.into_iter().rfind(|released| *released != version);
        let mut refuse = |text: String| {
            if asked {
                self.refusals.push(text);
            }
        };
        let shown = registry.shown();
        let checksum = registry.checksum(name, &version)?;
        let (fate, why) = match (is_out, checksum) {
            (false, _) if state.tags.contains_key(&tag) => {
                refuse(format!(
                    "the tag {tag} is on a commit that HEAD does not contain: somebody released \
                     that as {version}; raise the version, or remove the tag if it says what is \
                     not so (git tag --delete {tag})"
                ));
                (Fate::Stay, format!("{tag} is elsewhere"))
            }
            (true, Some(_)) => {
                let changed = sources.past.changed(package, &tag, names)?;
                if !changed.is_empty() {
                    refuse(format!(
                        "{name} has changed since {tag} and still is {version}: raise its version \
                         ({})",
                        some_of(&changed)
                    ));
                }
                (Fate::Stay, format!("unchanged since {tag}"))
            }
            (true, None) => {
                refuse(format!(
                    "the tag {tag} exists, but {shown} does not have {name} {version}, or it was \
                     yanked: raise the version, or remove the tag if that was never published \
                     (git tag --delete {tag})"
                ));
                (Fate::Stay, format!("{tag} exists"))
            }
            (false, Some(checksum)) => {
                let why = format!("{shown} has it already; only the tag is missing");
                (Fate::Tag { checksum }, why)
            }
            (false, None) => {
                if let Some(last) = last.as_ref().filter(|last| **last > version) {
                    refuse(format!("{name} goes back from {last} to {version}"));
                }
                let why = last.as_ref().map(|last| format!("{last} → {version}"));
                (Fate::Publish, why.unwrap_or("first release".to_owned()))
            }
        };
        let (fate, why) = if asked || fate == Fate::Stay {
            (fate, why)
        } else {
            (Fate::Stay, format!("not asked for ({why})"))
        };
        Ok(Entry {
            package,
            version,
            last,
            tag,
            fate,
            is_out,
            why,
        })
    }

    /// For programs: CI, above all.
    pub(crate) fn to_json(&self, registry: &Registry) -> Result<String> {
        #[derive(Serialize)]
        struct Shown<'a> {
            registry: &'a str,
            crates: Vec<Crate<'a>>,
            refusals: &'a [String],
            before_execute: &'a [String],
        }
        #[derive(Serialize)]
        struct Crate<'a> {
            name: &'a str,
            version: &'a Version,
            last: Option<&'a Version>,
            tag: &'a str,
            action: &'a str,
            why: &'a str,
        }
        let crates = self.entries.iter().map(|entry| Crate {
            name: entry.name(),
            version: &entry.version,
            last: entry.last.as_ref(),
            tag: &entry.tag,
            action: entry.fate.shown(),
            why: &entry.why,
        });
        Ok(serde_json::to_string_pretty(&Shown {
            registry: registry.shown(),
            crates: crates.collect(),
            refusals: &self.refusals,
            before_execute: &self.hindrances,
        })?)
    }
}

impl Fate {
    fn shown(&self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Tag { .. } => "tag",
            Self::Stay => "none",
        }
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.entries.iter().enumerate() {
            writeln!(
                f,
                "{:>3}. {:<22} {:<10} {:<8} {}",
                index + 1,
                entry.name(),
                entry.version.to_string(),
                entry.fate.shown(),
                entry.why
            )?;
        }
        Ok(())
    }
}

/// Dependencies that the registry gets to see: a path alone is left out of a package.
pub(crate) fn versioned(package: &Package) -> impl Iterator<Item = &Dependency> {
    let dependencies = package.dependencies.iter();
    dependencies.filter(|dependency| {
        dependency.kind != DependencyKind::Development || dependency.req != VersionReq::STAR
    })
}

/// Dependencies first; and those that depend on each other in a circle.
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
