//! Publishes the crates, and tags each once it is in the index.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::package::{Checkout, Packaged, checksum_of};
use super::plan::{Entry, Plan, Sources};
use super::registry::PATIENCE_WITH_PACKAGES;
use crate::process;
use crate::steps::Live;

/// How long to wait for the index to show a published version.
const INDEX_PATIENCE: Duration = Duration::from_secs(180);

/// Checks that published versions without a tag match this tree.
pub(crate) fn compare(plan: &Plan<'_>, packages: &[Packaged]) -> Result<String> {
    let mut same = 0;
    for entry in plan.to_tag() {
        let Some(checksum) = &entry.in_registry else {
            continue;
        };
        if checksum != checksum_of(packages, entry.name)? {
            bail!(
                "{name} {version} is in the registry with another checksum than this tree's: either \
                 go to the commit that it was published from (its .cargo_vcs_info.json tells) and \
                 tag it {tag}, or raise the version",
                name = entry.name,
                version = entry.version,
                tag = entry.tag
            );
        }
        same += 1;
    }
    Ok(format!("{same} already there, with the same checksum"))
}

/// Publishes and tags crates.
pub(crate) struct Publisher<'a> {
    pub(crate) sources: &'a Sources<'a>,
    pub(crate) checkout: &'a Checkout<'a>,
    /// Set once anything was published or tagged.
    pub(crate) has_acted: &'a Cell<bool>,
}

impl Publisher<'_> {
    fn did(&self, what: &str, live: &Live) {
        self.has_acted.set(true);
        live.say(what);
    }

    /// Publishes a crate, and returns once the index has it with this checksum.
    ///
    /// Publishes one crate at a time instead of using `cargo publish --workspace`, so that cargo's
    /// exit code tells whether the registry accepted this crate, and a slow index does not end the
    /// run. Rate limiting (429) does end it: the response says when to retry, and the same command
    /// resumes.
    pub(crate) fn publish(&self, entry: &Entry<'_>, checksum: &str, live: &Live) -> Result<String> {
        let (name, version, registry) = (entry.name, &entry.version, self.sources.registry);
        let shown = registry.shown();
        let mut cargo = self.checkout.cargo("publish");
        cargo.args(["--package", name]);
        live.say(&format!(
            "uploading {name} {version}; {shown} has {PATIENCE_WITH_PACKAGES} s to answer"
        ));
        let captured = process::capture(&mut cargo, |line| live.show(&without_tokens(line)))?;
        // Even if cargo failed, the registry may have received the package.
        if !captured.status.success() && registry.checksum(name, version)?.is_none() {
            bail!(
                "{shown} did not take {name} {version}:\n{}\nOnce it does, run the same command \
                 again: it resumes here",
                without_tokens(&captured.output)
            );
        }
        self.did(&format!("published {name} {version}"), live);
        let published = Instant::now();
        loop {
            match registry.checksum(name, version)? {
                Some(found) if found == checksum => return Ok("in the index".to_owned()),
                Some(found) => bail!(
                    "{shown} took {name} {version} and has it with the checksum {found}, where this \
                     tree's is {checksum}: somebody else published it, or the registry changed it; \
                     do not tag it, raise the version"
                ),
                None if published.elapsed() > INDEX_PATIENCE => bail!(
                    "{shown} took {name} {version}, but its index does not show it after {} s: run \
                     the same command again, it resumes here",
                    INDEX_PATIENCE.as_secs()
                ),
                None => thread::sleep(Duration::from_secs(1)),
            }
        }
    }

    pub(crate) fn tag(&self, entry: &Entry<'_>, live: &Live) -> Result<String> {
        let message = format!("{} {}", entry.name, entry.version);
        let Sources { git, state, .. } = self.sources;
        git.tag(&entry.tag, &message, &state.head)?;
        self.did(&format!("tagged {}", entry.tag), live);
        Ok(String::new())
    }
}

/// Masks the registry tokens from the environment in `text`.
fn without_tokens(text: &str) -> String {
    let tokens = std::env::vars().filter(|(name, token)| {
        name.starts_with("CARGO_REGISTR") && name.ends_with("_TOKEN") && !token.is_empty()
    });
    tokens.fold(text.to_owned(), |text, (_, token)| {
        text.replace(&token, "***")
    })
}
