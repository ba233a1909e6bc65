//! Checks the dependencies and Rust version that the published crates require.
//!
//! cargo-deny checks licenses and advisories (`deny.toml`), but cannot express these rules: which
//! crates a published crate may depend on directly, in which role, and that nothing in the lock
//! file requires a newer Rust.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
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

/// Checks that every direct dependency of a published crate is allowed, or optional, that no
/// feature is on by default, and that no package requires a newer Rust than the published crates.
pub(super) fn check(workspace: &Workspace) -> Result<String> {
    let sisters: BTreeSet<&str> = workspace.published().map(|p| p.name.as_str()).collect();
    let helpers: BTreeSet<&str> = workspace.unpublished().map(|p| p.name.as_str()).collect();
    let mut problems = Vec::new();
    let mut count = 0;
    for package in workspace.published() {
        count += package.dependencies.len();
        let wrong = |dependency| problem_with(package, dependency, &sisters, &helpers);
        problems.extend(package.dependencies.iter().filter_map(wrong));
        problems.extend(default_features(package));
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
            format!("{of}: `{name}` belongs in [target.'{PEERS}'.dev-dependencies], for benches")
        });
    }
    match dependency.kind {
        DependencyKind::Normal if of.as_str() == TEST_CRATE && ALLOWED_IN_TESTS.contains(&name) => {
            None
        }
        DependencyKind::Normal if dependency.optional => None,
        DependencyKind::Normal => Some(format!(
            "{of}: `{name}` may not be a dependency; make it optional, behind a feature that is off by default"
        )),
        DependencyKind::Development => {
            let tolerated = ALLOWED_IN_TESTS.contains(&name)
                || helpers.contains(name)
                || TOLERATED_IN_TESTS.contains(&(of.as_str(), name))
                // Tests may use optional dependencies.
                || package.dependencies.iter().any(|d| d.optional && d.name == name);
            (!tolerated).then(|| format!("{of}: `{name}` may not be a dev-dependency"))
        }
        kind => Some(format!("{of}: `{name}` may not be a {kind}-dependency")),
    }
}

/// Every feature of a published crate is off by default.
fn default_features(package: &Package) -> Option<String> {
    let default = package.features.get("default")?;
    let (of, default) = (&package.name, default.join(", "));
    (!default.is_empty()).then(|| format!("{of}: on by default, but should be off: {default}"))
}

/// The packages of the whole graph with a newer `rust-version` than `package`.
fn asking_for_newer_rust(package: &Package, workspace: &Workspace) -> Result<Vec<String>> {
    let name = &package.name;
    let ours = package.rust_version.as_ref();
    let ours = ours.with_context(|| format!("{name} has no rust-version"))?;
    let newer = workspace.packages.iter().filter_map(|found| {
        let theirs = found
            .rust_version
            .as_ref()
            .filter(|theirs| *theirs > ours)?;
        let (of, version) = (&found.name, &found.version);
        Some(format!(
            "{of} {version} requires Rust {theirs}, but {name} promises {ours}"
        ))
    });
    Ok(newer.collect())
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
    fn features_must_be_off_by_default() {
        let tls = dependency("rustls", "null", true);
        assert!(problems(&tls, "").is_empty());
        let is_refused = |features| default_features(&package(&tls, features)).is_some();
        assert!(!is_refused(r#""tls":["dep:rustls"]"#));
        assert!(!is_refused(r#""default":[],"tls":["dep:rustls"]"#));
        assert!(is_refused(r#""default":["tls"],"tls":["dep:rustls"]"#));
    }

    #[test]
    fn packages_must_not_ask_for_newer_rust() {
        let workspace = Workspace::with_dependencies(&crate::workspace::root()).unwrap();
        let with = |version: &str| {
            let mut package = package("", "");
            package.rust_version = Some(version.parse().unwrap());
            asking_for_newer_rust(&package, &workspace).unwrap()
        };
        assert!(with("1.0.0").iter().any(|text| text.contains("cache-core")));
        assert!(with("9.0.0").is_empty());
    }
}
