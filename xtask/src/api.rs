//! `cargo xtask api`: lists the public API of the published crates, one item per line.
//!
//! The lists in `xtask/api` make every API change visible in review. The crate `public-api`
//! generates them from rustdoc's JSON.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use public_api::PublicApi;
use rustdoc_types::{Crate, Id, Item, ItemEnum};

use crate::process;
use crate::workspace::{self, Workspace};

/// `cargo xtask test` fails if the API differs from the accepted lists or an item lacks an example
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

/// Checks that the public API matches the accepted lists and that each item has an example.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let mut problems = Vec::new();
    let mut count = 0;
    for (name, file) in document(workspace, |_| true)? {
        let now = items(&file)?;
        count += now.len();
        let kept = fs::read_to_string(kept(workspace, &name)).unwrap_or_default();
        problems.extend(difference(&name, &kept, &now));
        let missing = without_example(&file)?.into_iter();
        problems.extend(missing.map(|item| format!("missing example: {item}")));
    }
    ensure!(
        problems.is_empty(),
        "{}\nTo accept these API changes, run: cargo xtask api --accept",
        problems.join("\n")
    );
    Ok(format!("{count} items"))
}

/// The public items of a crate, without blanket implementations.
fn public_api(file: &Path) -> Result<PublicApi> {
    let api = public_api::Builder::from_rustdoc_json(file).omit_blanket_impls(true);
    api.build().with_context(of_another_format)
}

/// Lists the public items of a crate. Of the traits that the compiler implements, omits all but
/// `Send` and `Sync`.
fn items(file: &Path) -> Result<Vec<String>> {
    const NOISE: [&str; 4] = ["Freeze", "Unpin", "UnwindSafe", "StructuralPartialEq"];
    let api = public_api(file)?;
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
        "the format of rustdoc's JSON depends on the Rust version, and this program reads format \
         {}: use a Rust that writes it, or change `public-api` in xtask/Cargo.toml to match yours",
        rustdoc_types::FORMAT_VERSION
    )
}

/// The public items without an example in their own documentation or in that of an enclosing item.
/// Modules, aliases and implementations do not need one.
fn without_example(file: &Path) -> Result<Vec<String>> {
    let krate: Crate = serde_json::from_slice(&fs::read(file)?).with_context(of_another_format)?;
    let api = public_api(file)?;
    let parents: HashMap<Id, Option<Id>> = api
        .items()
        .map(|item| (item.id(), item.parent_id()))
        .collect();
    let mut missing = Vec::new();
    for public in api.items() {
        // A trait's implementations list its methods again, with the same IDs.
        let enclosing = iter::successors(public.parent_id(), |id| *parents.get(id)?);
        // An example in the crate's documentation does not cover its items.
        let chain: Vec<&Item> = iter::once(public.id())
            .chain(enclosing)
            .filter(|id| *id != krate.root)
            .filter_map(|id| krate.index.get(&id))
            .collect();
        let needs_one = chain.first().is_some_and(|item| {
            matches!(
                item.inner,
                ItemEnum::Struct(_)
                    | ItemEnum::Enum(_)
                    | ItemEnum::Trait(_)
                    | ItemEnum::Function(_)
                    | ItemEnum::Macro(_)
                    | ItemEnum::Constant { .. }
            )
        });
        // The trait documents what its implementations consist of.
        let is_of_trait =
            |item: &Item| matches!(&item.inner, ItemEnum::Impl(of) if of.trait_.is_some());
        let has_example = |item: &Item| {
            item.docs
                .as_deref()
                .is_some_and(|docs| docs.contains("```"))
        };
        if needs_one
            && !chain
                .iter()
                .any(|item| is_of_trait(item) || has_example(item))
        {
            missing.push(public.to_string());
        }
    }
    Ok(missing)
}

/// Whether the public API of `name` mentions an item of the crate `other`.
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

/// Documents packages with all features, and returns each name with the path of rustdoc's JSON.
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
    // The script sets `RUSTC_BOOTSTRAP` only for rustdoc; otherwise all dependencies would be
    // rebuilt.
    cargo.env("RUSTDOC", workspace::root().join("xtask/api/rustdoc"));
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

/// The path of a crate's accepted list.
fn kept(workspace: &Workspace, name: &str) -> PathBuf {
    workspace
        .workspace_root
        .join(format!("xtask/api/{name}.txt"))
        .into()
}

/// The removed and added items, one per line.
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
    fn difference_has_a_line_per_item() {
        let now = ["fn a()".to_owned(), "fn c()".to_owned()];
        assert_eq!(
            difference("x", "fn a()\nfn b()\n", &now),
            ["x - fn b()", "x + fn c()"]
        );
        assert!(difference("x", "fn a()\nfn c()\n", &now).is_empty());
    }

    #[test]
    fn reports_items_without_example() {
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
        assert_eq!(
            missing,
            ["pub struct probe::Plain", "pub fn probe::Plain::act(&self)"]
        );
    }
}
