//! Checks of what the published crates ask of their users: dependencies, and the Rust version.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail};

use crate::workspace::{Dependency, Package, Workspace};

/// What a published crate may depend on, besides its sisters.
const ALLOWED: &[&str] = &["serde", "thiserror", "tokio", "etcd-client", "memcache"];
/// What its tests may use beyond that.
const ALLOWED_IN_TESTS: &[&str] = &["proptest", "criterion"];
/// The crate whose business is testing.
const TEST_CRATE: &str = "cache-conformance";
/// Dependencies of tests that are tolerated in one crate: `(crate, dependency)`.
const TOLERATED_IN_TESTS: &[(&str, &str)] = &[("cache-core", "serde_json")];

/// Every direct dependency of a published crate is allowed, or optional and off by default.
pub(crate) fn dependencies(workspace: &Workspace) -> Result<String> {
    let sisters: BTreeSet<&str> = workspace.published().map(|p| p.name.as_str()).collect();
    let helpers: BTreeSet<&str> = workspace
        .members()
        .filter(|package| !package.is_published())
        .map(|package| package.name.as_str())
        .collect();
    let mut problems = Vec::new();
    let mut count = 0;
    for package in workspace.published() {
        for dependency in &package.dependencies {
            count += 1;
            if let Some(problem) = problem_with(package, dependency, &sisters, &helpers) {
                problems.push(problem);
            }
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(format!("{count} direct dependencies"))
}

fn problem_with(
    package: &Package,
    dependency: &Dependency,
    sisters: &BTreeSet<&str>,
    helpers: &BTreeSet<&str>,
) -> Option<String> {
    let name = dependency.name.as_str();
    let crossbeam = name == "crossbeam" || name.starts_with("crossbeam-");
    if ALLOWED.contains(&name) || crossbeam || sisters.contains(name) {
        return None;
    }
    let of = &package.name;
    match dependency.kind.as_deref() {
        None if of == TEST_CRATE && ALLOWED_IN_TESTS.contains(&name) => None,
        None if dependency.optional => {
            let key = dependency.rename.as_deref().unwrap_or(name);
            enabled_by_default(package, key)
                .then(|| format!("{of}: `{name}` is optional, but the default features turn it on"))
        }
        None => Some(format!(
            "{of}: `{name}` may not be a dependency; make it optional, behind a feature that is off by default"
        )),
        // Cargo leaves out of a package what has no version.
        Some("dev") if helpers.contains(name) => (dependency.req != "*")
            .then(|| format!("{of}: `{name}` is not published; name its path, and no version")),
        Some("dev") => {
            let tolerated = ALLOWED_IN_TESTS.contains(&name)
                || TOLERATED_IN_TESTS.contains(&(of.as_str(), name))
                // What an optional feature brings, its tests may use.
                || package.dependencies.iter().any(|d| d.optional && d.name == name);
            (!tolerated).then(|| format!("{of}: `{name}` may not be a dev-dependency"))
        }
        Some(kind) => Some(format!("{of}: `{name}` may not be a {kind}-dependency")),
    }
}

/// Whether the default features reach `dependency`.
fn enabled_by_default(package: &Package, dependency: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec!["default"];
    while let Some(feature) = open.pop() {
        if !seen.insert(feature) {
            continue;
        }
        for enabled in package.features.get(feature).into_iter().flatten() {
            let (head, weak) = match enabled.split_once('/') {
                Some((head, _)) => (head.trim_end_matches('?'), head.ends_with('?')),
                None => (enabled.as_str(), false),
            };
            if !weak && (head == dependency || head.strip_prefix("dep:") == Some(dependency)) {
                return true;
            }
            open.push(head);
        }
    }
    false
}

/// No dependency of a published crate asks for a newer Rust than the crate itself.
pub(crate) fn rust_version(workspace: &Workspace) -> Result<String> {
    let packages: HashMap<&str, &Package> = workspace
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package))
        .collect();
    let resolve = workspace.resolve.as_ref().context("no resolved graph")?;
    let nodes: HashMap<&str, _> = resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();

    let mut problems = BTreeSet::new();
    let mut highest = BTreeSet::new();
    for package in workspace.published() {
        let Some(ours) = package.rust_version.as_deref() else {
            bail!("{} states no rust-version", package.name);
        };
        highest.insert(ours);
        let ours = parse(ours)?;
        let mut seen = BTreeSet::new();
        let mut open = vec![package.id.as_str()];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let node = nodes.get(id).context("a node is missing in the graph")?;
            open.extend(node.deps.iter().filter_map(|dependency| {
                let ships = dependency
                    .dep_kinds
                    .iter()
                    .any(|kind| kind.kind.as_deref() != Some("dev"));
                ships.then_some(dependency.pkg.as_str())
            }));
            let found = packages.get(id).context("a package is missing")?;
            if let Some(theirs) = &found.rust_version
                && parse(theirs)? > ours
            {
                problems.insert(format!(
                    "{} {} asks for Rust {theirs}; {} promises {}",
                    found.name,
                    found.version,
                    package.name,
                    package.rust_version.as_deref().unwrap_or_default()
                ));
            }
        }
    }
    if !problems.is_empty() {
        let problems: Vec<String> = problems.into_iter().collect();
        bail!("{}", problems.join("\n"));
    }
    let highest: Vec<&str> = highest.into_iter().collect();
    Ok(format!("Rust {} will do", highest.join(", ")))
}

fn parse(version: &str) -> Result<(u32, u32, u32)> {
    let mut parts = version.split('.').map(str::parse::<u32>);
    let mut next = || -> Result<u32> {
        let part = parts.next().unwrap_or(Ok(0));
        part.with_context(|| format!("`{version}` is no Rust version"))
    };
    Ok((next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(dependencies: &str, features: &str) -> Package {
        serde_json::from_str(&format!(
            r#"{{"id":"x","name":"cache-x","version":"1.0.0","rust_version":null,"publish":null,"description":null,"readme":null,"license":null,"license_file":null,
                "manifest_path":"/x/Cargo.toml","dependencies":[{dependencies}],"features":{{{features}}}}}"#
        ))
        .unwrap()
    }

    fn problems(dependencies: &str, features: &str) -> Vec<String> {
        let package = package(dependencies, features);
        let sisters = BTreeSet::from(["cache-core"]);
        let helpers = BTreeSet::from(["test-servers"]);
        package
            .dependencies
            .iter()
            .filter_map(|dependency| problem_with(&package, dependency, &sisters, &helpers))
            .collect()
    }

    fn dependency(name: &str, kind: &str, optional: bool) -> String {
        format!(
            r#"{{"name":"{name}","kind":{kind},"req":"*","rename":null,"optional":{optional}}}"#
        )
    }

    #[test]
    fn allowed_ones_and_sisters_pass() {
        for name in ["serde", "crossbeam-utils", "cache-core"] {
            assert!(
                problems(&dependency(name, "null", false), "").is_empty(),
                "{name}"
            );
        }
        assert!(problems(&dependency("proptest", "\"dev\"", false), "").is_empty());
        assert!(problems(&dependency("test-servers", "\"dev\"", false), "").is_empty());
    }

    #[test]
    fn others_are_named() {
        let found = problems(&dependency("rand", "null", false), "");
        assert!(found.first().unwrap().contains("`rand`"), "{found:?}");
        assert_eq!(problems(&dependency("rand", "\"dev\"", false), "").len(), 1);
        assert_eq!(problems(&dependency("cc", "\"build\"", false), "").len(), 1);
        assert_eq!(
            problems(&dependency("proptest", "null", false), "").len(),
            1
        );
        // The same prefix is not the same family.
        assert_eq!(
            problems(&dependency("crossbeamer", "null", false), "").len(),
            1
        );
    }

    #[test]
    fn an_optional_one_has_to_be_off_by_default() {
        let tls = dependency("rustls", "null", true);
        assert!(problems(&tls, r#""default":[],"tls":["dep:rustls"]"#).is_empty());
        assert_eq!(
            problems(&tls, r#""default":["tls"],"tls":["dep:rustls"]"#).len(),
            1
        );
        assert_eq!(
            problems(&tls, r#""default":["rustls/ring"],"tls":["dep:rustls"]"#).len(),
            1
        );
        assert!(problems(&tls, r#""default":["rustls?/ring"],"tls":["dep:rustls"]"#).is_empty());
    }

    #[test]
    fn rust_versions_compare_as_numbers() {
        assert!(parse("1.88").unwrap() > parse("1.9.1").unwrap());
        assert_eq!(parse("1.88").unwrap(), parse("1.88.0").unwrap());
        assert!(parse("one").is_err());
    }
}
