//! Which public items lack an example.

use anyhow::Result;

use super::list;
use super::rustdoc::Crate;

/// Items of which neither the documentation nor that of what they stand in has a code block.
pub(super) fn missing(krate: &Crate) -> Result<Vec<String>> {
    let items = list::items(krate)?.into_iter();
    // What only names something needs none: modules, aliases, implementations.
    let needs_one = |line: &str| {
        let is_name = ["mod ", "type ", "use "]
            .iter()
            .any(|kind| line.starts_with(kind));
        !is_name
    };
    Ok(items
        .filter(|item| !item.docs.is_empty() && needs_one(&item.line))
        .filter(|item| !item.docs.iter().any(|docs| docs.contains("```")))
        .map(|item| item.line)
        .collect())
}
