//! Which crates go out, at which versions, in which order, and why; and why not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Dependency, DependencyKind, Package};
use semver::{Comparator, Op, Version, VersionReq};

use super::changelog;
use super::git::Git;
use super::registry::Registry;
use crate::process;
use crate::workspace::{Workspace, folder};

/// What is to be done with one crate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// To be published and tagged.
    Publish {
        /// Unknown to the registry in any version; those have a stricter rate limit.
        is_new: bool,
    },
    /// In the registry already, with this checksum; the tag is missing.
    Tag { checksum: String },
    /// Nothing.
    Stay,
}

pub(crate) struct Entry<'a> {
    pub(crate) package: &'a Package,
    pub(crate) version: Version,
    /// The latest version with a tag, other than `version`.
    pub(crate) last: Option<Version>,
    pub(crate) tag: String,
    pub(crate) fate: Fate,
    /// Released as it is, by its tag.
    is_out: bool,
    why: String,
}

impl Entry<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.package.name
    }

    fn goes_out(&self) -> bool {
        matches!(self.fate, Fate::Publish { .. })
    }
}

/// Every published crate, in the order of publication.
pub(crate) struct Plan<'a> {
    pub(crate) entries: Vec<Entry<'a>>,
    /// Mistakes; with any of them nothing is done.
    pub(crate) refusals: Vec<String>,
}

impl<'a> Plan<'a> {
    pub(crate) fn make(
        workspace: &'a Workspace,
        git: &Git,
        registry: &Registry,
        only: &[String],
    ) -> Result<Self> {
        let packages: Vec<&Package> = workspace.published().collect();
        for name in only {
            if !packages.iter().any(|package| package.name.as_str() == name) {
                bail!("`{name}` is not a published crate of this workspace");
            }
        }
        let (order, cycle) = in_order(&packages);
        let mut plan = Self {
            entries: Vec::new(),
            refusals: Vec::new(),
        };
        if !cycle.is_empty() {
            plan.refusals.push(format!(
                "{} depend on each other in a circle (dev-dependencies count as soon as they have \
                 a version; leave a path alone)",
                cycle.join(", ")
            ));
        }
        for package in order {
            let asked = only.is_empty() || only.iter().any(|name| package.name.as_str() == name);
            let entry = plan.judge(package, git, registry, asked)?;
            plan.entries.push(entry);
        }
        plan.check_requirements(registry)?;
        plan.check_manifests();
        Ok(plan)
    }

    /// The crates to publish, in order.
    pub(crate) fn outgoing(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries.iter().filter(|entry| entry.goes_out())
    }

    /// The crates that lack only their tag.
    pub(crate) fn to_tag(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries
            .iter()
            .filter(|entry| matches!(entry.fate, Fate::Tag { .. }))
    }

    fn judge(
        &mut self,
        package: &'a Package,
        git: &Git,
        registry: &Registry,
        asked: bool,
    ) -> Result<Entry<'a>> {
        let name = &package.name;
        let version = package.version.clone();
        let tag = format!("{name}-v{version}");
        let tagged = git.tagged_versions(name)?;
        let last = tagged.iter().rfind(|tagged| **tagged != version).cloned();
        let mut refuse = |text: String| {
            if asked {
                self.refusals.push(text);
            }
        };
        let (fate, why) = match (
            tagged.contains(&version),
            registry.checksum(name, &version)?,
        ) {
            (true, Some(_)) => {
                let changed = changed_files(package, git, &tag)?;
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
                    "the tag {tag} exists, but {} does not have {name} {version}: remove the tag, \
                     which says what is not so",
                    registry.shown()
                ));
                (Fate::Stay, format!("{tag} exists"))
            }
            (false, Some(checksum)) => {
                let why = format!(
                    "{} has it already; only the tag is missing",
                    registry.shown()
                );
                (Fate::Tag { checksum }, why)
            }
            (false, None) => {
                let is_new = last.is_none() && !registry.knows(name)?;
                let why = match &last {
                    Some(last) => format!("{last} → {version}"),
                    None => "first release".to_owned(),
                };
                if let Some(last) = last.as_ref().filter(|last| **last > version) {
                    refuse(format!("{name} goes back from {last} to {version}"));
                }
                (Fate::Publish { is_new }, why)
            }
        };
        let (fate, why) = if asked || fate == Fate::Stay {
            (fate, why)
        } else {
            (Fate::Stay, format!("not asked for ({why})"))
        };
        Ok(Entry {
            package,
            is_out: tagged.contains(&version),
            version,
            last,
            tag,
            fate,
            why,
        })
    }

    /// What the crates ask of each other has to be what they were built with.
    fn check_requirements(&mut self, registry: &Registry) -> Result<()> {
        let by_name: BTreeMap<&str, &Entry<'_>> = self
            .entries
            .iter()
            .map(|entry| (entry.name(), entry))
            .collect();
        let mut refusals = Vec::new();
        for entry in &self.entries {
            for dependency in versioned(entry.package) {
                let Some(sister) = by_name.get(dependency.name.as_str()) else {
                    continue;
                };
                let (name, version) = (entry.name(), &sister.version);
                if entry.goes_out() && !asks_for(&dependency.req, version) {
                    refusals.push(format!(
                        "{name} asks for {} {}; with this release it is {version}: raise the \
                         requirement",
                        sister.name(),
                        dependency.req
                    ));
                }
                if entry.goes_out()
                    && !sister.goes_out()
                    && registry.checksum(sister.name(), version)?.is_none()
                {
                    refusals.push(format!(
                        "{name} needs {} {version}, which {} does not have: release it as well",
                        sister.name(),
                        registry.shown()
                    ));
                }
                // What is out there asks for the version before.
                let breaks = sister
                    .last
                    .as_ref()
                    .is_some_and(|last| !is_compatible(last, version));
                if sister.goes_out()
                    && breaks
                    && entry.is_out
                    && dependency.kind != DependencyKind::Development
                {
                    refusals.push(format!(
                        "{} {version} breaks with what {name} {} asks for: raise the version of \
                         {name} and release it as well",
                        sister.name(),
                        entry.version
                    ));
                }
            }
        }
        self.refusals.extend(refusals);
        Ok(())
    }

    /// What a crate's page shows has to be there.
    fn check_manifests(&mut self) {
        let mut refusals = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.goes_out()) {
            let package = entry.package;
            let folder = folder(package);
            let is_file = |name: &str| {
                fs::read_to_string(folder.join(name)).is_ok_and(|text| !text.trim().is_empty())
            };
            let mut refuse = |text: &str| refusals.push(format!("{} {text}", package.name));
            if package
                .description
                .as_deref()
                .is_none_or(|text| text.trim().is_empty())
            {
                refuse("has no description");
            }
            if !package
                .readme
                .as_deref()
                .is_some_and(|name| is_file(name.as_str()))
            {
                refuse("has no README");
            }
            if package.license.is_none() && package.license_file.is_none() {
                refuse("names no license");
            }
            if !is_file("LICENSE") {
                refuse("has no file LICENSE");
            }
            let text = fs::read_to_string(folder.join("CHANGELOG.md"));
            match text.map(|text| changelog::problem(&text, &entry.version)) {
                Err(_) => refuse("has no CHANGELOG.md"),
                Ok(Some(problem)) => refuse(&format!("CHANGELOG.md {problem}")),
                Ok(None) => {}
            }
        }
        self.refusals.extend(refusals);
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.entries.iter().enumerate() {
            let what = match entry.fate {
                Fate::Publish { .. } => "publish",
                Fate::Tag { .. } => "tag",
                Fate::Stay => "–",
            };
            writeln!(
                f,
                "{:>3}. {:<22} {:<10} {what:<8} {}",
                index + 1,
                entry.name(),
                entry.version.to_string(),
                entry.why
            )?;
        }
        let new = self
            .entries
            .iter()
            .filter(|entry| entry.fate == Fate::Publish { is_new: true });
        if new.count() > 4 {
            writeln!(
                f,
                "crates.io takes five new crates at once and then one in ten minutes; where it \
                 says so, this waits"
            )?;
        }
        Ok(())
    }
}

/// Dependencies that the registry gets to see: a path alone is left out of a package.
fn versioned(package: &Package) -> impl Iterator<Item = &Dependency> {
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

/// Files of the package that are not what they were at `tag`.
fn changed_files(package: &Package, git: &Git, tag: &str) -> Result<Vec<String>> {
    let folder = folder(package);
    let mut list = process::cargo();
    list.args([
        "package",
        "--list",
        "--allow-dirty",
        "--package",
        &package.name,
    ])
    .current_dir(folder);
    let list = process::output_of(&mut list)?;
    // A licence may be a link to the one at the root: what counts is where it leads.
    let packaged: BTreeSet<PathBuf> = list
        .lines()
        .filter_map(|name| folder.join(name).canonicalize().ok())
        .collect();
    let source = folder.join("src");
    let root = folder.canonicalize().context("the folder of a package")?;
    let changed = git.changed_since(tag)?;
    Ok(changed
        .iter()
        .filter(|file| match file.canonicalize() {
            Ok(file) => packaged.contains(&file),
            Err(_) => file.starts_with(&source) || file.starts_with(root.join("src")),
        })
        .map(|file| {
            file.strip_prefix(&root)
                .unwrap_or(file)
                .display()
                .to_string()
        })
        .collect())
}

fn some_of(names: &[String]) -> String {
    let mut text: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    if names.len() > text.len() {
        text.push("…");
    }
    text.join(", ")
}

/// Whether the lowest version that `requirement` takes is `version`.
fn asks_for(requirement: &VersionReq, version: &Version) -> bool {
    let is_lowest = |comparator: &Comparator| {
        matches!(
            comparator.op,
            Op::Exact | Op::GreaterEq | Op::Tilde | Op::Caret
        ) && comparator.major == version.major
            && comparator.minor.unwrap_or(0) == version.minor
            && comparator.patch.unwrap_or(0) == version.patch
    };
    requirement.matches(version) && requirement.comparators.iter().any(is_lowest)
}

/// Whether who asks for `from` also takes `to`.
pub(crate) fn is_compatible(from: &Version, to: &Version) -> bool {
    VersionReq::parse(&from.to_string()).is_ok_and(|requirement| requirement.matches(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn a_requirement_asks_for_its_lowest_version() {
        assert!(asks_for(&VersionReq::parse("^0.1.2").unwrap(), &v("0.1.2")));
        assert!(asks_for(&VersionReq::parse("~0.1.2").unwrap(), &v("0.1.2")));
        assert!(asks_for(&VersionReq::parse("^1").unwrap(), &v("1.0.0")));
        assert!(
            !asks_for(&VersionReq::parse("^0.1.1").unwrap(), &v("0.1.2")),
            "built with a newer one than it asks for"
        );
        assert!(!asks_for(
            &VersionReq::parse("^0.1.2").unwrap(),
            &v("0.2.0")
        ));
        assert!(!asks_for(&VersionReq::parse("*").unwrap(), &v("0.2.0")));
    }

    #[test]
    fn compatible_is_what_cargo_takes_it_for() {
        assert!(is_compatible(&v("0.1.0"), &v("0.1.9")));
        assert!(!is_compatible(&v("0.1.0"), &v("0.2.0")));
        assert!(is_compatible(&v("1.1.0"), &v("1.2.0")));
        assert!(!is_compatible(&v("1.1.0"), &v("2.0.0")));
    }
}
