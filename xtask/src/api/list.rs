//! The public API of a crate, one item a line.

use std::collections::HashSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::render::{Render, each};
use super::rustdoc::Crate;

/// A public item, and where it stands.
pub(super) struct Public<'a> {
    /// Its path below the crate.
    pub(super) path: String,
    /// Its kind and its line in the list.
    pub(super) line: String,
    /// Its own documentation and that of what it stands in, innermost first.
    pub(super) docs: Vec<&'a str>,
}

/// The lines, in an order that does not depend on where things stand in the sources.
pub(super) fn lines(krate: &Crate) -> Result<Vec<String>> {
    let mut items = items(krate)?;
    items.sort_by(|a, b| (&a.path, &a.line).cmp(&(&b.path, &b.line)));
    // An implementation is found twice: at its type and at its trait.
    let mut seen = HashSet::new();
    let lines = items.into_iter().map(|item| item.line);
    Ok(lines.filter(|line| seen.insert(line.clone())).collect())
}

/// Every public item of `krate`.
pub(super) fn items(krate: &Crate) -> Result<Vec<Public<'_>>> {
    let root = krate.root().context("the crate has no root module")?;
    let mut walk = Walk {
        krate,
        render: Render(krate),
        found: Vec::new(),
    };
    walk.module(root, "", None);
    Ok(walk.found)
}

struct Walk<'a> {
    krate: &'a Crate,
    render: Render<'a>,
    found: Vec<Public<'a>>,
}

/// The kind of an item and what belongs to it.
fn inner(item: &Value) -> (&str, &Value) {
    let inner = item["inner"]
        .as_object()
        .and_then(|inner| inner.iter().next());
    inner.map_or(("", &Value::Null), |(kind, inner)| (kind.as_str(), inner))
}

fn name(item: &Value) -> &str {
    item["name"].as_str().unwrap_or_default()
}

fn docs(item: &Value) -> &str {
    item["docs"].as_str().unwrap_or_default()
}

/// What an item is marked with, as far as it is a promise.
fn marks(item: &Value) -> &'static str {
    if each(&item["attrs"]).any(|mark| mark == "non_exhaustive") {
        " (non-exhaustive)"
    } else {
        ""
    }
}

impl<'a> Walk<'a> {
    fn add(&mut self, path: String, line: String, docs: Vec<&'a str>) {
        self.found.push(Public { path, line, docs });
    }

    /// `of`: the documentation of a module that is not the crate itself.
    fn module(&mut self, module: &'a Value, above: &str, of: Option<&'a str>) {
        for item in self.krate.items(&inner(module).1["items"]) {
            self.item(item, name(item), above, of);
        }
    }

    fn item(&mut self, item: &'a Value, name: &str, above: &str, of: Option<&'a str>) {
        let (kind, body) = inner(item);
        let path = format!("{above}{name}");
        let own = docs(item);
        let docs = std::iter::once(own).chain(of).collect();
        let generics = self.render.parameters(&body["generics"]);
        let conditions = self.render.conditions(&body["generics"]);
        match kind {
            "module" => {
                self.add(path.clone(), format!("mod {path}"), docs);
                self.module(item, &format!("{path}::"), Some(own));
            }
            "use" => {
                if let Some(item) = self.krate.item(&body["id"]) {
                    let name = body["name"].as_str().unwrap_or_default();
                    self.item(item, name, above, of);
                } else {
                    let source = body["source"].as_str().unwrap_or_default();
                    self.add(path, format!("use {source}"), Vec::new());
                }
            }
            "struct" => {
                let shape = shape(body);
                let line = format!("struct {path}{generics}{conditions}{shape}{}", marks(item));
                self.add(path.clone(), line, docs);
                let fields = &body["kind"]["plain"]["fields"];
                self.fields(fields, &path, item);
                self.fields(&body["kind"]["tuple"], &path, item);
                self.implementations(body, &path, item);
            }
            "enum" => {
                let line = format!("enum {path}{generics}{conditions}{}", marks(item));
                self.add(path.clone(), line, docs);
                for variant in self.krate.items(&body["variants"]) {
                    self.variant(variant, &path, item);
                }
                self.implementations(body, &path, item);
            }
            "trait" => {
                let name = self
                    .render
                    .bounded(&format!("{path}{generics}"), &body["bounds"]);
                self.add(path.clone(), format!("trait {name}{conditions}"), docs);
                for item_of_trait in self.krate.items(&body["items"]) {
                    self.associated(item_of_trait, &path, item, true);
                }
                for of in self.krate.items(&body["implementations"]) {
                    self.implementation(of, &path, item);
                }
            }
            "function" => {
                let line = self.render.signature(&path, body);
                self.add(path, line, docs);
            }
            "type_alias" => {
                let to = self.render.ty(&body["type"]);
                self.add(
                    path.clone(),
                    format!("type {path}{generics}{conditions} = {to}"),
                    docs,
                );
            }
            "constant" => {
                let value = match &body["const"]["value"] {
                    Value::String(value) => format!(" = {value}"),
                    _ => String::new(),
                };
                let line = format!("const {path}: {}{value}", self.render.ty(&body["type"]));
                self.add(path, line, docs);
            }
            "macro" | "proc_macro" => self.add(path.clone(), format!("macro {path}!"), docs),
            _ => self.add(path.clone(), format!("{kind} {path}"), docs),
        }
    }

    fn fields(&mut self, fields: &'a Value, above: &str, of: &'a Value) {
        for field in self.krate.items(fields) {
            let path = format!("{above}::{}", name(field));
            let line = format!("field {path}: {}", self.render.ty(inner(field).1));
            self.add(path, line, vec![docs(field), docs(of)]);
        }
    }

    fn variant(&mut self, variant: &'a Value, above: &str, of: &'a Value) {
        let path = format!("{above}::{}", name(variant));
        let kind = &inner(variant).1["kind"];
        let line = format!("variant {path}{}", marks(variant));
        self.add(path.clone(), line, vec![docs(variant), docs(of)]);
        self.fields(&kind["struct"]["fields"], &path, of);
        self.fields(&kind["tuple"], &path, of);
    }

    fn implementations(&mut self, body: &'a Value, above: &str, of: &'a Value) {
        for implementation in self.krate.items(&body["impls"]) {
            self.implementation(implementation, above, of);
        }
    }

    fn implementation(&mut self, item: &'a Value, above: &str, of: &'a Value) {
        let body = inner(item).1;
        if body["trait"].is_null() {
            for associated in self.krate.items(&body["items"]) {
                self.associated(associated, above, of, false);
            }
            return;
        }
        let of_trait = self.render.path(&body["trait"]);
        // Blanket ones come with std; of what the compiler finds out, two matter to most.
        let is_noise = !body["blanket_impl"].is_null()
            || of_trait == "StructuralPartialEq"
            || (body["is_synthetic"] == true && of_trait != "Send" && of_trait != "Sync");
        if is_noise {
            return;
        }
        let generics = &body["generics"];
        let not = if body["is_negative"] == true { "!" } else { "" };
        let line = format!(
            "impl{} {not}{of_trait} for {}{}",
            self.render.parameters(generics),
            self.render.ty(&body["for"]),
            self.render.conditions(generics)
        );
        // What an implementation does is told where the trait is.
        self.add(format!("{above} {of_trait}"), line, Vec::new());
    }

    fn associated(&mut self, item: &'a Value, above: &str, of: &'a Value, of_trait: bool) {
        let (kind, body) = inner(item);
        let path = format!("{above}::{}", name(item));
        let line = match kind {
            "function" if of_trait && body["has_body"] == true => {
                format!("{} (provided)", self.render.signature(&path, body))
            }
            "function" => self.render.signature(&path, body),
            "assoc_type" => self
                .render
                .bounded(&format!("type {path}"), &body["bounds"]),
            "assoc_const" => format!("const {path}: {}", self.render.ty(&body["type"])),
            _ => format!("{kind} {path}"),
        };
        self.add(path, line, vec![docs(item), docs(of)]);
    }
}

/// Whether a user can write the struct down.
fn shape(body: &Value) -> &'static str {
    let kind = &body["kind"];
    let hides =
        kind["plain"]["has_stripped_fields"] == true || each(&kind["tuple"]).any(Value::is_null);
    if hides { " (private fields)" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::super::{examples, rustdoc};
    use super::*;

    const SOURCE: &str = "
//! Probe.
use std::fmt;
mod hidden {
    /// Plain.
    #[derive(Clone)]
    pub struct Plain { /// Field.
        pub field: Option<Vec<u8>>, secret: u8 }
    impl Plain {
        /// Method.
        pub fn with<'a, T: Into<String>>(&mut self, f: impl Fn(&str) -> bool + 'static, t: &'a T) -> &'a T where T: Send { let _ = f; t }
    }
}
pub use hidden::Plain as Renamed;
/// Kinds.
///
/// ```
/// assert!(true);
/// ```
#[non_exhaustive]
pub enum Kind { /// One.
    One, /// Two.
    Two(u8, [u16; 2]), /// Three.
    Three { /// Inside.
        inside: Box<dyn fmt::Debug + Send> } }
/// Trait.
pub trait Does<T>: Send + Sync { /// Type.
    type Out: Clone; /// Needed.
    fn needed(&self) -> impl Future<Output = Self::Out> + Send; /// Given.
    fn given(self: std::sync::Arc<Self>) {} }
/// Constant.
pub const LIMIT: u32 = 7;
/// Alias.
pub type Answer<T, E = String> = Result<T, E>;
#[doc(hidden)]
pub fn unseen() {}
";

    /// `None` where the toolchain's format is not known.
    fn probe(name: &str, source: &str) -> Option<Crate> {
        let folder = std::env::temp_dir().join(format!("api-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let krate = rustdoc::document_source(source, &folder).ok();
        std::fs::remove_dir_all(&folder).unwrap();
        krate.filter(|krate| rustdoc::is_known(&krate.format()))
    }

    #[test]
    fn each_item_has_a_line() {
        let Some(krate) = probe("lines", SOURCE) else {
            return;
        };
        let lines = lines(&krate).unwrap();
        let expected = [
            "type Answer<T, E = String> = Result<T, E>",
            "trait Does<T>: Send + Sync",
            "type Does::Out: Clone",
            "fn Does::given(self: Arc<Self>) (provided)",
            "fn Does::needed(&self) -> impl Future<Output = Self::Out> + Send",
            "enum Kind (non-exhaustive)",
            "impl Send for Kind",
            "impl !Sync for Kind",
            "variant Kind::One",
            "variant Kind::Three",
            "field Kind::Three::inside: Box<dyn Debug + Send>",
            "variant Kind::Two",
            "field Kind::Two::0: u8",
            "field Kind::Two::1: [u16; 2]",
            "const LIMIT: u32 = 7u32",
            "struct Renamed (private fields)",
            "impl Clone for Plain",
            "impl Send for Plain",
            "impl Sync for Plain",
            "field Renamed::field: Option<Vec<u8>>",
            "fn Renamed::with<'a, T>(&mut self, f: impl Fn(&str) -> bool + 'static, t: &'a T) -> &'a T where T: Send + Into<String>",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_has_no_example_is_named() {
        let Some(krate) = probe("examples", SOURCE) else {
            return;
        };
        let missing = examples::missing(&krate).unwrap();
        assert!(
            missing.contains(&"struct Renamed (private fields)".to_owned()),
            "{missing:?}"
        );
        assert!(
            !missing.iter().any(|line| line.contains("Kind")),
            "{missing:?}"
        );
    }
}
