//! Checks the dependencies and Rust version that the published crates require.
//!
//! cargo-deny checks licenses and advisories (`deny.toml`), but cannot express these rules: which
//! crates a published crate may depend on directly, in which role, and that none of its
//! dependencies requires a newer Rust.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{Dependency, DependencyKind, Package};

use crate::workspace::Workspace;

/// The allowed dependencies of published crates, in addition to each other and `crossbeam`.
const ALLOWED: &[&str] = &["serde", "thiserror", "tokio", "etcd-client"];
/// Additional dependencies allowed in tests.
const ALLOWED_IN_TESTS: &[&str] = &["proptest", "criterion"];
/// Dependencies of the benchmarks beside peers, in the table [`PEERS`] and nowhere else.
const ALLOWED_BESIDE_PEERS: &[&str] = &[
    "anyhow",
    "async-memcached",
    "clap",
    "dashmap",
    "fastrand",
    "memcache",
    "moka",
    "papaya",
    "quick_cache",
    "scc",
];
/// The target of the dev-dependencies that only `cargo xtask bench` compiles.
const PEERS: &str = "cfg(peers)";
/// The crate that supports tests, and may depend on what is allowed in tests.
const TEST_CRATE: &str = "cache-conformance";
/// Dev-dependencies tolerated in a single crate: `(crate, dependency)`.
const TOLERATED_IN_TESTS: &[(&str, &str)] = &[("cache-core", "serde_json")];

/// Checks that every direct dependency of a published crate is allowed, or optional and off by
/// default, and that no transitive dependency requires a newer Rust than the crate itself.
pub(super) fn check(workspace: &Workspace) -> Result<String> {
    let sisters: BTreeSet<&str> = workspace.published().map(|p| p.name.as_str()).collect();
    let helpers: BTreeSet<&str> = workspace.unpublished().map(|p| p.name.as_str()).collect();
    let mut problems = Vec::new();
    let mut count = 0;
    for package in workspace.published() {
        count += package.dependencies.len();
        let wrong = |dependency| problem_with(package, dependency, &sisters, &helpers);
        problems.extend(package.dependencies.iter().filter_map(wrong));
        problems.extend(asking_for_newer_rust(package, workspace)?);
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
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
    if ALLOWED_BESIDE_PEERS.contains(&name) {
        let target = dependency.target.as_ref().map(ToString::to_string);
        let is_right =
            dependency.kind == DependencyKind::Development && target.as_deref() == Some(PEERS);
        return (!is_right).then(|| {
            format!("{of}: `{name}` belongs into [target.'{PEERS}'.dev-dependencies], for benches")
        });
    }
    match dependency.kind {
        DependencyKind::Normal if of.as_str() == TEST_CRATE && ALLOWED_IN_TESTS.contains(&name) => {
            None
        }
        DependencyKind::Normal if dependency.optional => {
            let key = dependency.rename.as_deref().unwrap_or(name);
            enabled_by_default(package, key)
                .then(|| format!("{of}: `{name}` is optional, but the default features turn it on"))
        }
        DependencyKind::Normal => Some(format!(
            "{of}: `{name}` may not be a dependency; make it optional, behind a feature that is off by default"
        )),
        // Cargo drops dev-dependencies without a version from packages.
        DependencyKind::Development if helpers.contains(name) => (dependency.req.to_string()
            != "*")
            .then(|| format!("{of}: `{name}` is not published; give its path without a version")),
        DependencyKind::Development => {
            let tolerated = ALLOWED_IN_TESTS.contains(&name)
                || TOLERATED_IN_TESTS.contains(&(of.as_str(), name))
                // Tests may use optional dependencies.
                || package.dependencies.iter().any(|d| d.optional && d.name == name);
            (!tolerated).then(|| format!("{of}: `{name}` may not be a dev-dependency"))
        }
        kind => Some(format!("{of}: `{name}` may not be a {kind}-dependency")),
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

/// The transitive dependencies of `package`, except dev-dependencies, with a newer `rust-version`.
fn asking_for_newer_rust(package: &Package, workspace: &Workspace) -> Result<Vec<String>> {
    let name = &package.name;
    let Some(ours) = &package.rust_version else {
        bail!("{name} has no rust-version");
    };
    let resolve = workspace.resolve.as_ref().context("no resolved graph")?;
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![&package.id];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let found = workspace.packages.iter().find(|package| package.id == *id);
        let found = found.context("a package is missing in the graph")?;
        if let Some(theirs) = found.rust_version.as_ref().filter(|theirs| *theirs > ours) {
            let (of, version) = (&found.name, &found.version);
            problems.push(format!(
                "{of} {version} requires Rust {theirs}, but {name} promises {ours}"
            ));
        }
        let node = resolve.nodes.iter().find(|node| node.id == *id);
        let shipped = node
            .into_iter()
            .flat_map(|node| &node.deps)
            .filter(|dependency| {
                let mut kinds = dependency.dep_kinds.iter();
                kinds.any(|kind| kind.kind != DependencyKind::Development)
            });
        open.extend(shipped.map(|dependency| &dependency.pkg));
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(dependencies: &str, features: &str) -> Package {
        serde_json::from_str(&format!(
            r#"{{"id":"x","name":"cache-x","version":"1.0.0","targets":[],"manifest_path":"/x/Cargo.toml","dependencies":[{dependencies}],"features":{{{features}}}}}"#
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
            r#"{{"name":"{name}","kind":{kind},"req":"*","optional":{optional},"uses_default_features":true,"features":[]}}"#
        )
    }

    #[test]
    fn accepts_allowed_crates_and_sisters() {
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
    fn peers_are_for_benchmarks_alone() {
        let moka = |kind: &str, optional: bool, target: &str| {
            let moka = dependency("moka", kind, optional);
            let moka = moka.replace(r#""req""#, &format!(r#""target":{target},"req""#));
            problems(&moka, r#""peers":["dep:moka"]"#).len()
        };
        assert_eq!(moka(r#""dev""#, false, r#""cfg(peers)""#), 0);
        assert_eq!(moka(r#""dev""#, false, "null"), 1);
        assert_eq!(moka(r#""dev""#, false, r#""cfg(unix)""#), 1);
        assert_eq!(moka("null", true, "null"), 1);
        assert_eq!(moka("null", false, r#""cfg(peers)""#), 1);
        let other = dependency("rand", r#""dev""#, false);
        let other = other.replace(r#""req""#, r#""target":"cfg(peers)","req""#);
        assert_eq!(problems(&other, "").len(), 1);
    }

    #[test]
    fn rejects_other_crates() {
        let found = problems(&dependency("rand", "null", false), "");
        assert!(found.first().unwrap().contains("`rand`"), "{found:?}");
        assert_eq!(problems(&dependency("rand", "\"dev\"", false), "").len(), 1);
        assert_eq!(problems(&dependency("cc", "\"build\"", false), "").len(), 1);
        assert_eq!(
            problems(&dependency("proptest", "null", false), "").len(),
            1
        );
        // Not a `crossbeam-` crate, despite the prefix.
        assert_eq!(
            problems(&dependency("crossbeamer", "null", false), "").len(),
            1
        );
    }

    #[test]
    fn optional_dependencies_must_be_off_by_default() {
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
}
