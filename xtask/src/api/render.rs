//! Types, generics and signatures as they are written in Rust.

use serde_json::Value;

use super::rustdoc::Crate;

/// The items of an array, none where there is none.
pub(super) fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn joined<'a>(values: &'a Value, separator: &str, render: impl Fn(&'a Value) -> String) -> String {
    each(values).map(render).collect::<Vec<_>>().join(separator)
}

/// Writes what it is given as Rust.
pub(super) struct Render<'a>(pub(super) &'a Crate);

impl Render<'_> {
    /// Arguments and result of a function, with its generics.
    pub(super) fn signature(&self, name: &str, function: &Value) -> String {
        let sig = &function["sig"];
        let inputs = joined(&sig["inputs"], ", ", |input| {
            let (name, ty) = (text(&input[0]), &input[1]);
            if name == "self" {
                self.receiver(ty)
            } else {
                format!("{name}: {}", self.ty(ty))
            }
        });
        let output = match &sig["output"] {
            Value::Null => String::new(),
            output => format!(" -> {}", self.ty(output)),
        };
        let generics = &function["generics"];
        let header = &function["header"];
        let keyword = |name: &str, word: &str| {
            if header[name] == true {
                word.to_owned()
            } else {
                String::new()
            }
        };
        format!(
            "{}{}{}fn {name}{}({inputs}){output}{}",
            keyword("is_const", "const "),
            keyword("is_unsafe", "unsafe "),
            keyword("is_async", "async "),
            self.parameters(generics),
            self.conditions(generics)
        )
    }

    fn receiver(&self, ty: &Value) -> String {
        let is_self = |ty: &Value| ty["generic"] == "Self";
        let reference = &ty["borrowed_ref"];
        if is_self(ty) {
            "self".to_owned()
        } else if is_self(&reference["type"]) && reference["is_mutable"] == true {
            "&mut self".to_owned()
        } else if is_self(&reference["type"]) {
            "&self".to_owned()
        } else {
            format!("self: {}", self.ty(ty))
        }
    }

    /// `<'a, T: Clone>`, without what stands for an `impl Trait`.
    pub(super) fn parameters(&self, generics: &Value) -> String {
        let parameters: Vec<String> = each(&generics["params"])
            .filter(|parameter| parameter["kind"]["type"]["is_synthetic"] != true)
            .map(|parameter| self.parameter(parameter))
            .collect();
        if parameters.is_empty() {
            String::new()
        } else {
            format!("<{}>", parameters.join(", "))
        }
    }

    fn parameter(&self, parameter: &Value) -> String {
        let name = text(&parameter["name"]);
        let kind = &parameter["kind"];
        if let Some(kind) = kind.get("const") {
            return format!("const {name}: {}", self.ty(&kind["type"]));
        }
        let bounds = self.bounded(name, &kind["type"]["bounds"]);
        match &kind["type"]["default"] {
            Value::Null => bounds,
            default => format!("{bounds} = {}", self.ty(default)),
        }
    }

    /// ` where T: Clone`, or nothing.
    pub(super) fn conditions(&self, generics: &Value) -> String {
        let conditions = joined(&generics["where_predicates"], ", ", |predicate| {
            if let Some(bound) = predicate.get("bound_predicate") {
                self.bounded(&self.ty(&bound["type"]), &bound["bounds"])
            } else if let Some(lifetime) = predicate.get("lifetime_predicate") {
                format!(
                    "{}: {}",
                    text(&lifetime["lifetime"]),
                    joined(&lifetime["outlives"], " + ", |l| text(l).to_owned())
                )
            } else {
                predicate.to_string()
            }
        });
        if conditions.is_empty() {
            conditions
        } else {
            format!(" where {conditions}")
        }
    }

    /// `name: A + B`, or the name alone.
    pub(super) fn bounded(&self, name: &str, bounds: &Value) -> String {
        let bounds = self.bounds(bounds);
        if bounds.is_empty() {
            name.to_owned()
        } else {
            format!("{name}: {bounds}")
        }
    }

    fn bounds(&self, bounds: &Value) -> String {
        joined(bounds, " + ", |bound| {
            if let Some(lifetime) = bound.get("outlives") {
                return text(lifetime).to_owned();
            }
            let Some(bound) = bound.get("trait_bound") else {
                return bound.to_string();
            };
            let maybe = if bound["modifier"] == "maybe" {
                "?"
            } else {
                ""
            };
            format!("{maybe}{}{}", for_all(bound), self.path(&bound["trait"]))
        })
    }

    /// `Vec<u8>`; what another crate than std has brought stands under its name.
    pub(super) fn path(&self, path: &Value) -> String {
        let written = text(&path["path"]);
        let (module, name) = written.rsplit_once("::").unwrap_or(("", written));
        let origin = match self.0.origin(&path["id"]) {
            // `io::Result` is another one than `Result`.
            Some("core" | "alloc" | "std") if matches!(name, "Result" | "Error") => module,
            None | Some("core" | "alloc" | "std") => "",
            Some(name) => name,
        };
        let origin = match origin {
            "" => String::new(),
            origin => format!("{origin}::"),
        };
        format!("{origin}{name}{}", self.arguments(&path["args"]))
    }

    fn arguments(&self, arguments: &Value) -> String {
        if let Some(call) = arguments.get("parenthesized") {
            let inputs = joined(&call["inputs"], ", ", |ty| self.ty(ty));
            let output = match &call["output"] {
                Value::Null => String::new(),
                output => format!(" -> {}", self.ty(output)),
            };
            return format!("({inputs}){output}");
        }
        let Some(arguments) = arguments.get("angle_bracketed") else {
            return String::new();
        };
        let values = each(&arguments["args"]).map(|argument| {
            if let Some(ty) = argument.get("type") {
                self.ty(ty)
            } else if let Some(lifetime) = argument.get("lifetime") {
                text(lifetime).to_owned()
            } else {
                text(&argument["const"]["expr"]).to_owned()
            }
        });
        let constraints = each(&arguments["constraints"]).map(|constraint| {
            let name = text(&constraint["name"]);
            let binding = &constraint["binding"];
            match binding.get("equality") {
                Some(term) => format!("{name} = {}", self.ty(term.get("type").unwrap_or(term))),
                None => self.bounded(name, &binding["constraint"]),
            }
        });
        let all: Vec<String> = values.chain(constraints).collect();
        if all.is_empty() {
            String::new()
        } else {
            format!("<{}>", all.join(", "))
        }
    }

    /// A type. One of a kind that is not known here is shown as rustdoc wrote it.
    pub(super) fn ty(&self, ty: &Value) -> String {
        let Some((kind, inner)) = ty.as_object().and_then(|object| object.iter().next()) else {
            return ty.to_string();
        };
        match kind.as_str() {
            "resolved_path" => self.path(inner),
            "generic" | "primitive" => match text(inner) {
                "never" => "!".to_owned(),
                name => name.to_owned(),
            },
            "tuple" => format!("({})", joined(inner, ", ", |ty| self.ty(ty))),
            "slice" => format!("[{}]", self.ty(inner)),
            "array" => format!("[{}; {}]", self.ty(&inner["type"]), text(&inner["len"])),
            "impl_trait" => format!("impl {}", self.bounds(inner)),
            "borrowed_ref" => {
                let lifetime = inner["lifetime"]
                    .as_str()
                    .map(|l| format!("{l} "))
                    .unwrap_or_default();
                let mutable = if inner["is_mutable"] == true {
                    "mut "
                } else {
                    ""
                };
                format!("&{lifetime}{mutable}{}", self.ty(&inner["type"]))
            }
            "dyn_trait" => {
                let traits = joined(&inner["traits"], " + ", |bound| {
                    format!("{}{}", for_all(bound), self.path(&bound["trait"]))
                });
                match inner["lifetime"].as_str() {
                    None => format!("dyn {traits}"),
                    Some(lifetime) => format!("dyn {traits} + {lifetime}"),
                }
            }
            "qualified_path" => {
                let of = self.ty(&inner["self_type"]);
                format!(
                    "{of}::{}{}",
                    text(&inner["name"]),
                    self.arguments(&inner["args"])
                )
            }
            "function_pointer" => self.signature("", inner).replace("fn (", "fn("),
            _ => ty.to_string(),
        }
    }
}

/// `for<'a> `, or nothing.
fn for_all(bound: &Value) -> String {
    let lifetimes = joined(&bound["generic_params"], ", ", |l| {
        text(&l["name"]).to_owned()
    });
    if lifetimes.is_empty() {
        lifetimes
    } else {
        format!("for<{lifetimes}> ")
    }
}
