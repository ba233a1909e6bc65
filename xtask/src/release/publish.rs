//! The crates into the registry: refused, delayed, or in; and tagged once they are.

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};

use super::git::Git;
use super::package::{Checkout, Packaged, checksum_of};
use super::plan::{Entry, Fate, Plan};
use super::registry::{PATIENCE_WITH_PACKAGES, Registry};
use crate::process;
use crate::steps::Live;

/// How long the index may take to show what was published.
const INDEX_PATIENCE: Duration = Duration::from_secs(180);

/// What the registry has without a tag has to be what is here.
pub(crate) fn compare(plan: &Plan<'_>, packages: &[Packaged]) -> Result<String> {
    let mut same = 0;
    for entry in &plan.entries {
        let Fate::Tag { checksum } = &entry.fate else {
            continue;
        };
        if checksum != checksum_of(packages, entry.name())? {
            bail!(
                "{name} {version} is in the registry with another checksum than this tree's: either \
                 go to the commit that it was published from (its .cargo_vcs_info.json tells) and \
                 tag it {tag}, or raise the version",
                name = entry.name(),
                version = entry.version,
                tag = entry.tag
            );
        }
        same += 1;
    }
    Ok(format!("{same} already there, with the same checksum"))
}

/// Everything that publishing takes.
pub(crate) struct Publisher<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) checkout: &'a Checkout<'a>,
    pub(crate) git: &'a Git,
    /// The commit to tag.
    pub(crate) head: &'a str,
    /// What was done, to be told whatever comes next.
    pub(crate) done: &'a RefCell<Vec<String>>,
}

impl Publisher<'_> {
    fn did(&self, what: String) {
        self.done.borrow_mut().push(what);
    }

    /// Publishes, waits where the registry says so, and ends once its index has this very file.
    ///
    /// One crate at a time, not `cargo publish --workspace`: so cargo's exit code tells whether the
    /// registry took this one, and a slow index does not end the run.
    pub(crate) fn publish(&self, entry: &Entry<'_>, checksum: &str, live: &Live) -> Result<String> {
        let (name, version, shown) = (entry.name(), &entry.version, self.registry.shown());
        loop {
            let mut cargo = self.checkout.cargo("publish");
            cargo.args(["--package", name]);
            live.say(&format!(
                "uploading {name} {version}; {shown} has {PATIENCE_WITH_PACKAGES} s to answer"
            ));
            let captured = process::capture(&mut cargo, |line| live.show(&without_tokens(line)))?;
            // Where it failed, it may have arrived although the answer did not.
            if captured.status.success() || self.registry.checksum(name, version)?.is_some() {
                self.did(format!("published {name} {version}"));
                break;
            }
            let said = without_tokens(&captured.output);
            match rate_limit(&said, SystemTime::now()) {
                Some(wait) => wait_for(wait, name, &said, live),
                None => bail!("{shown} did not take {name} {version}:\n{said}"),
            }
        }
        let deadline = SystemTime::now() + INDEX_PATIENCE;
        loop {
            match self.registry.checksum(name, version)? {
                Some(found) if found == checksum => return Ok("in the index".to_owned()),
                Some(found) => bail!(
                    "{shown} took {name} {version} and has it with the checksum {found}, where this \
                     tree's is {checksum}: somebody else published it, or the registry changed it; \
                     do not tag it, raise the version"
                ),
                None if SystemTime::now() > deadline => bail!(
                    "{shown} took {name} {version}, but its index does not show it after {} s; the \
                     same command goes on from here",
                    INDEX_PATIENCE.as_secs()
                ),
                None => thread::sleep(Duration::from_secs(1)),
            }
        }
    }

    pub(crate) fn tag(&self, entry: &Entry<'_>) -> Result<String> {
        let message = format!("{} {}", entry.name(), entry.version);
        self.git.tag(&entry.tag, &message, self.head)?;
        self.did(format!("tagged {}", entry.tag));
        Ok(String::new())
    }
}

fn wait_for(wait: Duration, name: &str, said: &str, live: &Live) {
    let started = SystemTime::now();
    eprintln!(
        "\n{said}the registry limits how fast crates may be published: waiting {} s for {name}",
        wait.as_secs(),
    );
    while let Some(left) = wait.checked_sub(started.elapsed().unwrap_or_default()) {
        live.show(&format!("{} s to wait for the registry", left.as_secs()));
        thread::sleep(left.min(Duration::from_secs(1)));
        if left.is_zero() {
            break;
        }
    }
}

/// How long to wait if `said` has the status 429, with or without a date.
fn rate_limit(said: &str, now: SystemTime) -> Option<Duration> {
    // The number alone, not where an address or a checksum has it.
    let mut words = said.split(|c: char| c.is_whitespace() || "()\",;".contains(c));
    if !words.any(|word| word.trim_end_matches([':', '.']) == "429") {
        return None;
    }
    let dates = said.match_indices("GMT").filter_map(|(at, zone)| {
        let end = at + zone.len();
        let date = said.get(end.checked_sub(HTTP_DATE)?..end)?;
        let date = httpdate::parse_http_date(date).ok()?;
        Some(date.duration_since(now).unwrap_or_default())
    });
    let told = dates.max().map(|wait| wait + Duration::from_secs(1));
    Some(told.unwrap_or(UNTOLD_WAIT))
}

/// The length of `Sun, 22 Nov 2026 17:00:00 GMT`.
const HTTP_DATE: usize = 29;

/// What crates.io allows after the first few: a version a minute.
const UNTOLD_WAIT: Duration = Duration::from_secs(60);

/// `text` without any token that cargo may have been given in the environment.
fn without_tokens(text: &str) -> String {
    let tokens = std::env::vars().filter(|(name, token)| {
        name.starts_with("CARGO_REGISTR") && name.ends_with("_TOKEN") && !token.is_empty()
    });
    tokens.fold(text.to_owned(), |text, (_, token)| {
        text.replace(&token, "***")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_as_long_as_the_registry_says() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 17:00:00 GMT").unwrap();
        let said = "got 429: You have published too many new crates in a short period of time. \
                    Please try again after Sun, 22 Nov 2026 17:09:59 GMT or ask for more.";
        assert_eq!(rate_limit(said, now), Some(Duration::from_secs(600)));
    }

    #[test]
    fn waits_the_usual_time_if_the_registry_says_none() {
        let now = SystemTime::now();
        assert_eq!(
            rate_limit("a 200 OK response, got 429", now),
            Some(UNTOLD_WAIT)
        );
        for said in [
            "got 500",
            "127.0.0.1:429 got 403",
            "cksum 42900429",
            "v0.429.0 got 403",
        ] {
            assert_eq!(rate_limit(said, now), None, "{said}");
        }
    }
}
