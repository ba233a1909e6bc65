//! Checks before publication, other than of versions: the crates' requirements on each other, the
//! changelog and repository that a crate's page shows, and that the source is public.

use std::fs;

use anyhow::Result;
use cargo_metadata::{DependencyKind, Package};

use super::changelog;
use super::git::{Git, Remote, State, web_address};
use super::manifest::{is_compatible, lowest};
use super::plan::{Plan, Sources, versioned};
use crate::workspace::folder;
use crate::{api, process};

impl Plan<'_> {
    /// Checks that the crates require of each other the versions they were built with, and that
    /// these versions are or will be published.
    pub(crate) fn check_requirements(&mut self, sources: &Sources<'_>) -> Result<()> {
        let mut refusals = Vec::new();
        for entry in &self.entries {
            let name = entry.name;
            for dependency in versioned(entry.package) {
                let sister = self
                    .entries
                    .iter()
                    .find(|sister| sister.name == dependency.name);
                let Some(sister) = sister else {
                    // An unpublished member, or a folder outside of the workspace.
                    if entry.will_publish() && dependency.path.is_some() {
                        refusals.push(format!(
                            "{name} depends on the folder of {}, which is not published from \
                             here: publish it, or name a version that is",
                            dependency.name
                        ));
                    }
                    continue;
                };
                let version = &sister.version;
                if entry.will_publish() && lowest(&dependency.req).as_ref() != Some(version) {
                    refusals.push(format!(
                        "{name} asks for {} {}; with this release it is {version}: raise the \
                         requirement",
                        sister.name, dependency.req
                    ));
                }
                let registry = sources.registry;
                if entry.will_publish()
                    && !sister.will_publish()
                    && registry.checksum(sister.name, version)?.is_none()
                {
                    refusals.push(format!(
                        "{name} needs {} {version}, which {} does not have: release it as well",
                        sister.name,
                        registry.shown()
                    ));
                }
                // The published version of `name` still requires the old version.
                let last = sister.last.as_ref();
                if sister.will_publish()
                    && last.is_some_and(|last| !is_compatible(last, version))
                    && entry.is_out
                    && dependency.kind != DependencyKind::Development
                {
                    refusals.push(format!(
                        "{} {version} breaks with what {name} {} asks for: raise the version of \
                         {name} and release it as well",
                        sister.name, entry.version
                    ));
                }
            }
        }
        self.refusals.extend(refusals);
        Ok(())
    }

    /// Checks crates that expose another crate's types: a breaking change to that crate also breaks
    /// them, because users who depend on both would end up with two incompatible versions of it.
    pub(crate) fn check_public_sisters(
        &mut self,
        sources: &Sources<'_>,
        allowed: &[String],
    ) -> Result<()> {
        let mut refusals = Vec::new();
        for (entry, last, tag) in self.compatible(allowed) {
            let past = sources.at(&tag)?;
            let before = past
                .published()
                .find(|package| package.name == entry.package.name);
            for dependency in asked_of_users(entry.package) {
                let is_sister = |name: &str| self.entries.iter().any(|entry| entry.name == name);
                let asked = before.and_then(|before| {
                    asked_of_users(before).find(|asked| asked.name == dependency.name)
                });
                let Some(asked) = asked.filter(|asked| is_sister(&asked.name)) else {
                    continue;
                };
                let (Some(from), Some(to)) = (lowest(&asked.req), lowest(&dependency.req)) else {
                    continue;
                };
                let (workspace, name) = (sources.workspace, entry.name);
                if !is_compatible(&from, &to) && api::names(workspace, name, &asked.name)? {
                    refusals.push(format!(
                        "{name} {} claims to be compatible with {last}, but {}, which its public \
                         API shows, goes from {from} to {to}: raise the version of {name} so that \
                         it does not",
                        entry.version, asked.name
                    ));
                }
            }
        }
        self.refusals.extend(refusals);
        Ok(())
    }

    /// Checks that the changelogs describe the new versions. `clippy::cargo_common_metadata` checks
    /// description, license, README and keywords.
    pub(crate) fn check_changelogs(&mut self) -> Result<()> {
        // The latest current date in any time zone.
        let today = process::output_of(process::command("date").arg("+%F").env("TZ", "UTC-14"))?;
        let mut refusals = Vec::new();
        for entry in self.outgoing() {
            let text = fs::read_to_string(folder(entry.package).join("CHANGELOG.md"));
            let problem = match &text {
                Ok(text) => changelog::problem(text, &entry.version, today.trim()),
                Err(error) => Some(format!("cannot be read: {error}")),
            };
            refusals
                .extend(problem.map(|problem| format!("{}/CHANGELOG.md {problem}", entry.name)));
        }
        self.refusals.extend(refusals);
        Ok(())
    }

    /// Checks that the remote, which the crates' pages link to, contains this commit and has no
    /// conflicting tags.
    pub(crate) fn check_remote(&mut self, remote: &Remote, git: &Git, state: &State) {
        let (mut refusals, mut hindrances) = (Vec::new(), Vec::new());
        let name = &remote.name;
        if !git.is_pushed(remote, &state.head) {
            hindrances.push(format!(
                "HEAD is on no branch of {name}, so users could not see what is released: git \
                 push {name} HEAD"
            ));
        }
        for entry in &self.entries {
            let (tag, there) = (&entry.tag, remote.tag(&entry.tag));
            if there.is_some() && there != state.tags.get(tag).map(String::as_str) {
                hindrances.push(format!(
                    "{name} has a tag {tag} that is not the one here: git fetch {name} --tags, \
                     and look which is right"
                ));
            }
            let Some(address) = remote.address.as_deref().filter(|_| entry.will_publish()) else {
                continue;
            };
            let claimed = entry.package.repository.as_deref();
            if claimed.and_then(web_address).as_deref() != Some(address) {
                refusals.push(format!(
                    "{} names {} as its repository, but {name} is another: put this line into its \
                     Cargo.toml, or the workspace's:\n    repository = \"{address}\"",
                    entry.name,
                    claimed.unwrap_or("nothing"),
                ));
            }
        }
        self.refusals.extend(refusals);
        self.hindrances.extend(hindrances);
    }
}

/// The dependencies that users of a package also build.
fn asked_of_users(package: &Package) -> impl Iterator<Item = &cargo_metadata::Dependency> {
    versioned(package).filter(|dependency| dependency.kind == DependencyKind::Normal)
}
