//! The git operations of a release: on this tree, its tags and the remote.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use semver::Version;

use crate::process;

pub(crate) struct Git {
    root: PathBuf,
}

/// Object IDs by tag name.
type Tags = BTreeMap<String, String>;

/// A snapshot of the repository.
pub(crate) struct State {
    /// The commit to release.
    pub(crate) head: String,
    pub(crate) tags: Tags,
    /// Tags reachable from `head`, so that a maintenance branch ignores newer releases.
    reachable: BTreeSet<String>,
}

/// The remote of the branch and the tags.
pub(crate) struct Remote {
    pub(crate) name: String,
    /// Its web address, unless it is a local folder.
    pub(crate) address: Option<String>,
    refs: BTreeMap<String, String>,
}

impl Git {
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut git = process::command("git");
        git.args(arguments)
            .current_dir(&self.root)
            // Neither a prompt nor an unresponsive server may block a release.
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_HTTP_LOW_SPEED_LIMIT", "1")
            .env("GIT_HTTP_LOW_SPEED_TIME", "30");
        git
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        Ok(process::output_of(&mut self.command(arguments))?
            .trim_end()
            .to_owned())
    }

    /// Like [`run`](Self::run), but returns `None` if git fails.
    fn ask(&self, arguments: &[&str]) -> Option<String> {
        self.run(arguments).ok()
    }

    pub(crate) fn is_clean(&self) -> Result<()> {
        let status = self.run(&["status", "--porcelain"])?;
        anyhow::ensure!(
            status.is_empty(),
            "the tree is dirty; commit or remove:\n    {}",
            status.replace('\n', "\n    ")
        );
        Ok(())
    }

    /// The reasons why this tree cannot be released.
    pub(crate) fn refusals(&self, branch: &str) -> Result<Vec<String>> {
        let mut refusals = Vec::new();
        if let Err(error) = self.is_clean() {
            refusals.push(error.to_string());
        }
        match self.ask(&["symbolic-ref", "--short", "--quiet", "HEAD"]) {
            None => refusals.push(format!(
                "HEAD is detached, and a release is made from a branch: git switch {branch}"
            )),
            Some(current) if current != branch => refusals.push(format!(
                "this is branch `{current}`; releases are made from `{branch}` (--branch)"
            )),
            Some(_) => {}
        }
        if self.run(&["rev-parse", "--is-shallow-repository"])? == "true" {
            refusals.push(
                "this is a shallow clone, which lacks tags: git fetch --unshallow --tags"
                    .to_owned(),
            );
        }
        Ok(refusals)
    }

    pub(crate) fn state(&self) -> Result<State> {
        let format = "--format=%(refname:strip=2) %(objectname)";
        let all = self.run(&["for-each-ref", format, "refs/tags"])?;
        let reachable = self.run(&["tag", "--merged=HEAD"])?;
        Ok(State {
            head: self.run(&["rev-parse", "HEAD"])?,
            tags: pairs(&all).collect(),
            reachable: reachable.lines().map(str::to_owned).collect(),
        })
    }

    /// Queries the remote of `branch`.
    pub(crate) fn remote(&self, branch: &str) -> Result<Remote> {
        let setting = |key: String| self.ask(&["config", "--get", &key]);
        let name = setting(format!("branch.{branch}.remote")).unwrap_or("origin".to_owned());
        let url = setting(format!("remote.{name}.url")).with_context(|| {
            format!(
                "git knows no remote `{name}`, so users could not see what is released: git remote \
                 add {name} URL && git push {name} {branch}"
            )
        })?;
        let listed = self.run(&["ls-remote", &name])?;
        Ok(Remote {
            address: web_address(&url),
            refs: pairs(&listed)
                .map(|(object, name)| (name, object))
                .collect(),
            name,
        })
    }

    /// Whether some branch of `remote` contains `commit`.
    pub(crate) fn is_pushed(&self, remote: &Remote, commit: &str) -> bool {
        let mut heads = remote
            .refs
            .iter()
            .filter(|(name, _)| name.starts_with("refs/heads/"));
        heads.any(|(_, head)| {
            head == commit
                || self
                    .ask(&["merge-base", "--is-ancestor", commit, head])
                    .is_some()
        })
    }

    pub(crate) fn tag(&self, tag: &str, message: &str, commit: &str) -> Result<()> {
        self.run(&["tag", "--annotate", "--message", message, tag, commit])?;
        Ok(())
    }

    pub(crate) fn push(&self, remote: &Remote, tags: &[String]) -> Result<()> {
        let tags = tags.iter().map(|tag| format!("refs/tags/{tag}"));
        let mut git = self.command(&["push", "--quiet", "--atomic", &remote.name]);
        process::output_of(git.args(tags))?;
        Ok(())
    }

    /// Replaces `folder` with a clone at `commit`, and returns the workspace root inside it.
    pub(crate) fn cloned(&self, folder: &Path, commit: &str) -> Result<PathBuf> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        let top = self.run(&["rev-parse", "--show-toplevel"])?;
        let prefix = self.run(&["rev-parse", "--show-prefix"])?;
        let mut git = self.command(&["clone", "--quiet", "--shared", "--no-checkout", &top]);
        process::output_of(git.arg(folder))?;
        let clone = Self::at(folder);
        clone.run(&["checkout", "--quiet", "--detach", commit])?;
        Ok(folder.join(prefix))
    }

    /// The relative paths of files that differ between two folders.
    pub(crate) fn difference(&self, old: &Path, new: &Path) -> Result<Vec<String>> {
        let mut git = self.command(&["diff", "--no-index", "--no-renames", "--name-only"]);
        let output = git.args([old, new]).output().context("cannot start git")?;
        let text = String::from_utf8_lossy(&output.stdout);
        // 0: no difference, 1: differences.
        anyhow::ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "git diff failed: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let [old, new] = [old, new].map(|folder| format!("{}/", folder.display()));
        // git omits the leading slash of some paths.
        let absolute = |line: &str| format!("/{}", line.trim_start_matches('/'));
        let inside = |line| absolute(line).replace(&old, "").replace(&new, "");
        Ok(text.lines().map(inside).collect())
    }
}

/// Parses lines of two words.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    let words = text
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace));
    words.map(|(first, second)| (first.to_owned(), second.to_owned()))
}

impl State {
    /// The released versions of `name` that are reachable from HEAD, with their tags.
    pub(crate) fn released(&self, name: &str) -> BTreeMap<Version, String> {
        let version = |tag: &str| tag.strip_prefix(name)?.strip_prefix("-v")?.parse().ok();
        let tags = self.reachable.iter();
        tags.filter_map(|tag| Some((version(tag)?, tag.clone())))
            .collect()
    }
}

impl Remote {
    /// The object that `tag` refers to on the remote.
    pub(crate) fn tag(&self, tag: &str) -> Option<&str> {
        self.refs
            .get(&format!("refs/tags/{tag}"))
            .map(String::as_str)
    }
}

/// Converts any form of git URL to `https://host/path`; `None` for local paths.
pub(crate) fn web_address(url: &str) -> Option<String> {
    let url = url.trim_end_matches('/').trim_end_matches(".git");
    let (host, path) = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split_once('/')?,
        None => url
            .split_once(':')
            .filter(|(host, _)| !host.contains('/'))?,
    };
    let host = host.rsplit('@').next()?;
    let host = host.split(':').next()?.to_lowercase();
    Some(format!("https://{host}/{}", path.trim_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_urls_become_web_addresses() {
        for url in [
            "https://example.org/a/b",
            "https://example.org/a/b.git",
            "https://user:secret@Example.org/a/b/",
            "git@example.org:a/b.git",
            "ssh://git@example.org:22/a/b.git",
        ] {
            let address = web_address(url);
            assert_eq!(address.as_deref(), Some("https://example.org/a/b"), "{url}");
        }
        for folder in ["/srv/git/b.git", "../b", "file:///srv/b", "./a:b"] {
            assert_eq!(web_address(folder), None, "{folder}");
        }
    }
}
