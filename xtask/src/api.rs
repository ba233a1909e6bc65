//! `cargo xtask api`: the public API of the published crates, one item a line.
//!
//! The lists are kept in `xtask/api`, so that no change of the API goes unseen. The crate
//! `public-api` makes them from rustdoc's JSON.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustdoc_types::{Crate, Id, ItemEnum, Visibility};

use crate::process;
use crate::workspace::{self, Workspace};

/// `cargo xtask test` fails if the API differs from the accepted lists, or an item has no example
#[derive(Args)]
pub(crate) struct Options {
    /// Writes the current lists to xtask/api/
    #[arg(long)]
    accept: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::members_only(&workspace::root())?;
    for (name, file) in document(&workspace, |_| true)? {
        let lines = items(&file)?;
        if options.accept {
            let kept = kept(&workspace, &name);
            fs::write(&kept, lines.join("\n") + "\n")
                .with_context(|| format!("cannot write {}", kept.display()))?;
            println!("{}: {} items", kept.display(), lines.len());
        } else {
            println!("# {name}\n{}\n", lines.join("\n"));
        }
    }
    Ok(())
}

/// The public API is the one that was accepted, and each item has an example. Returns a remark.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let mut problems = Vec::new();
    let mut count = 0;
    for (name, file) in document(workspace, |_| true)? {
        let now = items(&file)?;
        count += now.len();
        let kept = fs::read_to_string(kept(workspace, &name)).unwrap_or_default();
        problems.extend(difference(&name, &kept, &now));
        let missing = without_example(&file)?.into_iter();
        problems.extend(missing.map(|item| format!("without an example: {item}")));
    }
    ensure!(
        problems.is_empty(),
        "{}\nIf the API is to change like this: cargo xtask api --accept",
        problems.join("\n")
    );
    Ok(format!("{count} items"))
}

/// The public items of a crate. Blanket implementations come with std; of what the compiler finds
/// out, two traits matter to most.
fn items(file: &Path) -> Result<Vec<String>> {
    const NOISE: [&str; 4] = ["Freeze", "Unpin", "UnwindSafe", "StructuralPartialEq"];
    let api = public_api::Builder::from_rustdoc_json(file)
        .omit_blanket_impls(true)
        .build();
    let api = api.with_context(of_another_format)?;
    let lines = api.items().map(ToString::to_string);
    let is_noise = |line: &String| {
        let of_trait = line
            .strip_prefix("impl")
            .and_then(|line| line.split(" for ").next());
        of_trait.is_some_and(|of_trait| NOISE.iter().any(|noise| of_trait.ends_with(noise)))
    };
    Ok(lines.filter(|line| !is_noise(line)).collect())
}

fn of_another_format() -> String {
    format!(
        "rustdoc's JSON changes from one Rust to the next, and this program reads format {}: use a \
         Rust that writes it, or the `public-api` in xtask/Cargo.toml that fits yours",
        rustdoc_types::FORMAT_VERSION
    )
}

/// The public items of which neither the documentation nor that of what they belong to has an
/// example. What only names something needs none: modules, aliases, implementations.
fn without_example(file: &Path) -> Result<Vec<String>> {
    let krate: Crate = serde_json::from_slice(&fs::read(file)?).with_context(of_another_format)?;
    let parents = parents(&krate);
    let mut missing: Vec<String> = Vec::new();
    for (id, item) in &krate.index {
        let needs_one = matches!(
            item.inner,
            ItemEnum::Struct(_)
                | ItemEnum::Enum(_)
                | ItemEnum::Trait(_)
                | ItemEnum::Function(_)
                | ItemEnum::Macro(_)
                | ItemEnum::Constant { .. }
        );
        // What an implementation of a trait does is told where the trait is.
        let is_reachable = parents.contains_key(id) && item.visibility != Visibility::Crate;
        if item.crate_id != 0 || !needs_one || !is_reachable {
            continue;
        }
        let above = std::iter::successors(Some(id), |id| parents.get(*id).copied());
        // The crate's own page is not the documentation of everything in it.
        let mut docs = above
            .filter(|id| **id != krate.root)
            .filter_map(|id| krate.index.get(id)?.docs.as_deref());
        if !docs.any(|docs| docs.contains("```")) {
            let mut names: Vec<&str> =
                std::iter::successors(Some(id), |id| parents.get(*id).copied())
                    .filter_map(|id| krate.index.get(id)?.name.as_deref())
                    .collect();
            names.reverse();
            missing.push(names.join("::"));
        }
    }
    missing.sort();
    Ok(missing)
}

/// What each item that a user can name belongs to: a module, or a type that was exported.
fn parents(krate: &Crate) -> HashMap<&Id, &Id> {
    let mut parents = HashMap::new();
    let mut open = vec![&krate.root];
    while let Some(id) = open.pop() {
        let Some(item) = krate.index.get(id) else {
            continue;
        };
        let children: Vec<&Id> = match &item.inner {
            ItemEnum::Module(module) => module.items.iter().collect(),
            ItemEnum::Struct(of) => own_items(krate, &of.impls),
            ItemEnum::Enum(of) => own_items(krate, &of.impls),
            ItemEnum::Trait(of) => of.items.iter().collect(),
            ItemEnum::Use(of) => of.id.iter().collect(),
            _ => Vec::new(),
        };
        // A re-export is transparent: its item belongs to the module above.
        let parent = match &item.inner {
            ItemEnum::Use(_) => parents.get(id).copied().unwrap_or(&krate.root),
            _ => id,
        };
        for child in children {
            if !parents.contains_key(child) {
                parents.insert(child, parent);
                open.push(child);
            }
        }
    }
    parents
}

/// The items of a type's inherent implementations.
fn own_items<'a>(krate: &'a Crate, implementations: &'a [Id]) -> Vec<&'a Id> {
    let implementations =
        implementations
            .iter()
            .filter_map(|id| match &krate.index.get(id)?.inner {
                ItemEnum::Impl(found) if found.trait_.is_none() => Some(&found.items),
                _ => None,
            });
    implementations.flatten().collect()
}

/// Whether the public API of `name` names something of the crate `other`.
pub(crate) fn names(workspace: &Workspace, name: &str, other: &str) -> Result<bool> {
    let other = other.replace('-', "_");
    for (_, file) in document(workspace, |found| found == name)? {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut items = items(&file)?.into_iter();
        if items.any(|item| item.split(|c| !is_word(c)).any(|word| word == other)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Packages with all their features, and the JSON that rustdoc wrote of each.
fn document(
    workspace: &Workspace,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = process::cargo();
    cargo.args(["doc", "--all-features", "--no-deps", "--lib", "--locked"]);
    let packages: Vec<_> = workspace
        .published()
        .filter(|package| is_wanted(&package.name))
        .collect();
    for package in &packages {
        cargo.args(["--package", &package.name]);
    }
    // Allowed to rustdoc alone: allowed to all, every dependency would be compiled anew.
    cargo.env("RUSTDOC", unstable_rustdoc(workspace)?);
    cargo.env(
        "RUSTDOCFLAGS",
        "-Zunstable-options --output-format=json --cap-lints=allow",
    );
    process::output_of(cargo.current_dir(&workspace.workspace_root))?;
    let named = packages.iter().map(|package| {
        let file = format!("doc/{}.json", package.name.replace('-', "_"));
        (
            package.name.to_string(),
            workspace.target_directory.join(file).into(),
        )
    });
    Ok(named.collect())
}

/// A program that runs rustdoc with leave to write JSON, which a stable one has not.
fn unstable_rustdoc(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target_directory.join("api");
    fs::create_dir_all(&folder)?;
    let file = folder.join("rustdoc");
    let rustdoc = std::env::var("RUSTDOC").unwrap_or_else(|_| "rustdoc".to_owned());
    fs::write(
        &file,
        format!("#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec '{rustdoc}' \"$@\"\n"),
    )?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file.into())
}

/// Where the list of a crate is kept.
fn kept(workspace: &Workspace, name: &str) -> PathBuf {
    workspace
        .workspace_root
        .join(format!("xtask/api/{name}.txt"))
        .into()
}

/// What came and what went, a line each.
fn difference(name: &str, kept: &str, now: &[String]) -> Vec<String> {
    let kept: BTreeSet<&str> = kept.lines().collect();
    let now: BTreeSet<&str> = now.iter().map(String::as_str).collect();
    let gone = kept.difference(&now).map(|line| format!("{name} - {line}"));
    let new = now.difference(&kept).map(|line| format!("{name} + {line}"));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_line_by_line() {
        let now = ["fn a()".to_owned(), "fn c()".to_owned()];
        assert_eq!(
            difference("x", "fn a()\nfn b()\n", &now),
            ["x - fn b()", "x + fn c()"]
        );
        assert!(difference("x", "fn a()\nfn c()\n", &now).is_empty());
    }

    #[test]
    fn what_has_no_example_is_named() {
        let source = "
            /// None.
            pub struct Plain;
            impl Plain { /// Method.
                pub fn act(&self) {} }
            impl Clone for Plain { fn clone(&self) -> Self { Plain } }
            mod hidden { /// Kinds.
                ///
                /// ```
                /// ```
                pub enum Kind { /// One.
                    One }
                impl Kind { /// Covered by the example of the type.
                    pub fn new() -> Self { Self::One } } }
            pub use hidden::Kind;
            fn private() {}
        ";
        let folder = std::env::temp_dir().join(format!("api-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("probe.rs"), source).unwrap();
        let mut rustdoc = process::command("rustdoc");
        rustdoc.env("RUSTC_BOOTSTRAP", "1").current_dir(&folder);
        rustdoc.args([
            "-Zunstable-options",
            "--output-format=json",
            "--out-dir=.",
            "probe.rs",
        ]);
        process::output_of(&mut rustdoc).unwrap();
        let missing = without_example(&folder.join("probe.json")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(missing, ["probe::Plain", "probe::Plain::act"]);
    }
}
