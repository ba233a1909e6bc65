//! What a release asks of git.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use semver::Version;

use crate::process;

pub(crate) struct Git {
    root: PathBuf,
}

impl Git {
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        process::output_of(
            process::command("git")
                .args(arguments)
                .current_dir(&self.root),
        )
    }

    /// Why nothing may be released from this tree as it is.
    pub(crate) fn refusals(&self, branch: &str) -> Result<Vec<String>> {
        let mut refusals = Vec::new();
        let status = self.run(&["status", "--porcelain"])?;
        if !status.is_empty() {
            let files: Vec<&str> = status.lines().collect();
            refusals.push(format!(
                "the tree is dirty; commit or remove:\n    {}",
                files.join("\n    ")
            ));
        }
        let current = self.run(&["rev-parse", "--abbrev-ref", "HEAD"])?;
        let current = current.trim();
        if current != branch {
            refusals.push(format!(
                "this is branch `{current}`; releases are made from `{branch}` (--branch)"
            ));
        }
        Ok(refusals)
    }

    /// The commit that the tree is at; `None` if something in it is not committed.
    pub(crate) fn commit(&self) -> Result<Option<String>> {
        let is_clean = self.run(&["status", "--porcelain"])?.is_empty();
        let commit = self.run(&["rev-parse", "HEAD"])?;
        Ok(is_clean.then(|| commit.trim().to_owned()))
    }

    /// The versions for which there is a tag `NAME-vX.Y.Z`.
    pub(crate) fn tagged_versions(&self, name: &str) -> Result<BTreeSet<Version>> {
        let prefix = format!("{name}-v");
        let tags = self.run(&["tag", "--list", &format!("{prefix}*")])?;
        Ok(tags
            .lines()
            .filter_map(|tag| Version::parse(tag.strip_prefix(&prefix)?).ok())
            .collect())
    }

    /// Files that differ between `tag` and now, from the root of the repository.
    pub(crate) fn changed_since(&self, tag: &str) -> Result<Vec<PathBuf>> {
        let top = self.run(&["rev-parse", "--show-toplevel"])?;
        let top = PathBuf::from(top.trim());
        let names = self.run(&["diff", "--name-only", "--no-renames", "-z", tag, "HEAD"])?;
        let names = names.split('\0').filter(|name| !name.is_empty());
        Ok(names.map(|name| top.join(name)).collect())
    }

    pub(crate) fn tag(&self, tag: &str, message: &str) -> Result<()> {
        self.run(&["tag", "--annotate", "--message", message, tag])?;
        Ok(())
    }
}
