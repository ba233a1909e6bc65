//! How one list of servers becomes another.

use std::collections::HashMap;

/// What happens to each server when the list changes. A server is the same if its name is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// For each position of the new list, where the server was in the old one.
    pub(crate) kept: Vec<Option<usize>>,
    /// Positions of the old list that are not in the new one.
    pub(crate) gone: Vec<usize>,
}

impl Change {
    pub(crate) fn between<'a>(
        old: impl IntoIterator<Item = &'a str>,
        new: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut left: HashMap<&str, Vec<usize>> = HashMap::new();
        for (position, name) in old.into_iter().enumerate() {
            left.entry(name).or_default().push(position);
        }
        // A name that is listed twice keeps the order of its entries.
        for positions in left.values_mut() {
            positions.reverse();
        }
        let kept = new
            .into_iter()
            .map(|name| left.get_mut(name).and_then(Vec::pop))
            .collect();
        let mut gone: Vec<usize> = left.into_values().flatten().collect();
        gone.sort_unstable();
        Self { kept, gone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_kept_by_its_name() {
        let change = Change::between(["a:1", "b:2", "c:3"], ["c:3", "d:4", "a:1"]);
        assert_eq!(change.kept, [Some(2), None, Some(0)]);
        assert_eq!(change.gone, [1]);
    }

    #[test]
    fn each_entry_of_a_server_that_is_listed_twice_is_kept_once() {
        let change = Change::between(["a:1", "b:2", "a:1"], ["a:1", "a:1", "a:1"]);
        assert_eq!(change.kept, [Some(0), Some(2), None]);
        assert_eq!(change.gone, [1]);
        let change = Change::between(["a:1", "a:1"], ["a:1"]);
        assert_eq!((change.kept, change.gone), (vec![Some(0)], vec![1]));
    }

    #[test]
    fn lists_may_be_empty() {
        let change = Change::between(["a:1"], []);
        assert_eq!((change.kept, change.gone), (vec![], vec![0]));
        let change = Change::between([], ["a:1"]);
        assert_eq!((change.kept, change.gone), (vec![None], vec![]));
    }
}
