//! Dependencies in a Cargo.toml.

use std::collections::BTreeMap;

use anyhow::Result;
use semver::{Op, Version, VersionReq};
use toml_edit::{DocumentMut, Item, TableLike, value};

/// Calls `change` with the package name and the table of every dependency written as a table: of
/// the workspace, and of every kind and target.
pub(crate) fn each_dependency(
    table: &mut dyn TableLike,
    change: &mut dyn FnMut(&str, &mut dyn TableLike),
) {
    for (key, item) in table.iter_mut() {
        let Some(inner) = item.as_table_like_mut() else {
            continue;
        };
        if !key.get().ends_with("dependencies") {
            each_dependency(inner, change);
            continue;
        }
        for (name, dependency) in inner.iter_mut() {
            if let Some(dependency) = dependency.as_table_like_mut() {
                let package = dependency.get("package").and_then(Item::as_str);
                let package = package.unwrap_or(name.get()).to_owned();
                change(&package, dependency);
            }
        }
    }
}

/// Whether the difference between two normalized manifests matters to users.
///
/// A higher requirement on one of `sisters` alone does not, as long as the old requirement also
/// matches the new version.
pub(crate) fn differs(old: &str, new: &str, sisters: &[&str]) -> Result<bool> {
    let (mut old, mut new): (DocumentMut, DocumentMut) = (old.parse()?, new.parse()?);
    let mut asked: BTreeMap<String, VersionReq> = BTreeMap::new();
    each_dependency(old.as_table_mut(), &mut |name, dependency| {
        if let Some(requirement) = requirement(dependency).filter(|_| sisters.contains(&name)) {
            asked.insert(name.to_owned(), requirement);
            dependency.insert("version", value(""));
        }
    });
    each_dependency(new.as_table_mut(), &mut |name, dependency| {
        let now = requirement(dependency).and_then(|requirement| lowest(&requirement));
        if let (Some(asked), Some(now)) = (asked.get(name), now)
            && asked.matches(&now)
        {
            dependency.insert("version", value(""));
        }
    });
    Ok(old.to_string() != new.to_string())
}

fn requirement(dependency: &dyn TableLike) -> Option<VersionReq> {
    VersionReq::parse(dependency.get("version")?.as_str()?).ok()
}

/// The lowest version that `requirement` accepts, if it has a lower bound.
pub(crate) fn lowest(requirement: &VersionReq) -> Option<Version> {
    let comparator = requirement.comparators.iter().find(|comparator| {
        let op = comparator.op;
        matches!(op, Op::Exact | Op::GreaterEq | Op::Tilde | Op::Caret)
    })?;
    Some(Version {
        pre: comparator.pre.clone(),
        ..Version::new(
            comparator.major,
            comparator.minor.unwrap_or(0),
            comparator.patch.unwrap_or(0),
        )
    })
}

/// Whether a requirement on `from` also accepts `to`.
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
    fn lowest_version_of_requirement() {
        for (requirement, version) in [
            ("^0.1.2", "0.1.2"),
            ("~0.1.2", "0.1.2"),
            ("1", "1.0.0"),
            (">=1.2, <1.9", "1.2.0"),
            ("=1.0.0-rc.1", "1.0.0-rc.1"),
        ] {
            let requirement = VersionReq::parse(requirement).unwrap();
            assert_eq!(lowest(&requirement), Some(v(version)));
        }
        assert_eq!(lowest(&VersionReq::STAR), None);
    }

    #[test]
    fn compatibility_matches_cargo() {
        assert!(is_compatible(&v("0.1.0"), &v("0.1.9")));
        assert!(!is_compatible(&v("0.1.0"), &v("0.2.0")));
        assert!(is_compatible(&v("1.1.0"), &v("1.2.0")));
        assert!(!is_compatible(&v("1.1.0"), &v("2.0.0")));
    }

    #[test]
    fn only_compatible_raises_of_sisters_are_ignored() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies.sister]\nversion = \"0.1.0\"\n\n\
                        [dependencies.other]\nversion = \"1.0.0\"\n";
        let differs = |from, to| differs(manifest, &manifest.replace(from, to), &["sister"]);
        assert!(!differs("0.1.0", "0.1.0").unwrap());
        assert!(!differs("0.1.0", "0.1.7").unwrap());
        assert!(differs("0.1.0", "0.2.0").unwrap());
        assert!(differs("1.0.0", "1.0.1").unwrap());
        assert!(differs("\"x\"", "\"x\"\nrust-version = \"1.90\"").unwrap());
    }
}
