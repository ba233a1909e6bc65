//! One crate into the registry: refused, delayed, or in.

use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::package::Packaged;
use super::plan::{Entry, Fate, Plan};
use super::registry::Registry;
use crate::process;
use crate::steps::Live;
use crate::workspace::Workspace;

/// How long the index may take to show what was published.
const INDEX_PATIENCE: Duration = Duration::from_secs(120);

/// What the registry has without a tag has to be what is here.
pub(crate) fn compare(plan: &Plan<'_>, packages: &[Packaged]) -> Result<String> {
    let mut same = 0;
    for entry in &plan.entries {
        let Fate::Tag { checksum } = &entry.fate else {
            continue;
        };
        if *checksum != checksum_of(packages, entry)? {
            bail!(different(entry));
        }
        same += 1;
    }
    Ok(format!("{same} already there, with the same checksum"))
}

fn different(entry: &Entry<'_>) -> String {
    format!(
        "{name} {version} is in the registry with another checksum than this tree's: either go \
         to the commit that it was published from (its .cargo_vcs_info.json tells) and tag it \
         {tag}, or raise the version",
        name = entry.name(),
        version = entry.version,
        tag = entry.tag
    )
}

pub(crate) fn checksum_of(packages: &[Packaged], entry: &Entry<'_>) -> Result<String> {
    let package = packages.iter().find(|package| package.name == entry.name());
    let package = package.with_context(|| format!("{} was not packaged", entry.name()))?;
    Ok(package.checksum.clone())
}

/// Publishes, waits where the registry says so, and ends once its index has this very file.
pub(crate) fn publish(
    workspace: &Workspace,
    registry: &Registry,
    entry: &Entry<'_>,
    checksum: &str,
    live: &Live,
) -> Result<String> {
    let is_new = entry.fate == Fate::Publish { is_new: true };
    loop {
        let mut cargo = process::cargo();
        cargo
            .args([
                "publish",
                "--no-verify",
                "--locked",
                "--package",
                entry.name(),
            ])
            .args(registry.arguments())
            .current_dir(&workspace.workspace_root);
        live.show(&process::shown(&cargo));
        let captured = process::capture(&mut cargo, |line| live.show(&without_tokens(line)))?;
        if captured.status.success() {
            break;
        }
        let said = without_tokens(&captured.output);
        if let Some(wait) = rate_limit(&said, is_new, SystemTime::now()) {
            wait_for(wait, entry, live);
        } else if registry.checksum(entry.name(), &entry.version)?.is_some() {
            // It arrived although the answer did not; what it is shows below.
            break;
        } else {
            bail!("$ {}\n{said}", process::shown(&cargo));
        }
    }
    let deadline = SystemTime::now() + INDEX_PATIENCE;
    loop {
        match registry.checksum(entry.name(), &entry.version)? {
            Some(found) if found == checksum => return Ok("in the index".to_owned()),
            Some(_) => bail!(different(entry)),
            None if SystemTime::now() > deadline => bail!(
                "{} {} was accepted, but does not show in the index after {} s; the same command \
                 goes on from here",
                entry.name(),
                entry.version,
                INDEX_PATIENCE.as_secs()
            ),
            None => thread::sleep(Duration::from_secs(2)),
        }
    }
}

fn wait_for(wait: Duration, entry: &Entry<'_>, live: &Live) {
    let started = SystemTime::now();
    eprintln!(
        "\nthe registry limits how fast crates may be published: waiting {} s for {}",
        wait.as_secs(),
        entry.name()
    );
    while let Some(left) = wait.checked_sub(started.elapsed().unwrap_or_default()) {
        live.show(&format!("{} s to wait for the registry", left.as_secs()));
        thread::sleep(left.min(Duration::from_secs(1)));
        if left.is_zero() {
            break;
        }
    }
}

/// How long to wait if `said` is about a rate limit.
fn rate_limit(said: &str, is_new: bool, now: SystemTime) -> Option<Duration> {
    // Not the bare number, which a port or a checksum may hold as well.
    let limited = said.contains("got 429") || said.contains("Too Many Requests");
    if !limited && !said.contains("published too many") {
        return None;
    }
    let told = said
        .split_once("try again after ")
        .and_then(|(_, rest)| http_date(rest))
        .map(|at| at.duration_since(now).unwrap_or_default() + Duration::from_secs(1));
    // What crates.io allows after the first few.
    let usual = if is_new { 600 } else { 60 };
    Some(told.unwrap_or(Duration::from_secs(usual)))
}

/// The date at the start of `text`: `Sun, 22 Nov 2026 17:00:00 GMT`.
fn http_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.get(..29)?).ok()
}

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
        let now = http_date("Sun, 22 Nov 2026 17:00:00 GMT").unwrap();
        let said = "You have published too many new crates in a short period of time. Please try \
                    again after Sun, 22 Nov 2026 17:09:59 GMT or ask for more.";
        assert_eq!(rate_limit(said, true, now), Some(Duration::from_secs(600)));
    }

    #[test]
    fn waits_the_usual_time_if_the_registry_says_none() {
        let said = "failed to get a 200 OK response, got 429";
        let now = SystemTime::now();
        assert_eq!(rate_limit(said, true, now), Some(Duration::from_secs(600)));
        assert_eq!(rate_limit(said, false, now), Some(Duration::from_secs(60)));
        assert_eq!(rate_limit("got 500", true, now), None);
        let said = "127.0.0.1:42911 failed to get a 200 OK response, got 403";
        assert_eq!(rate_limit(said, true, now), None);
    }
}
