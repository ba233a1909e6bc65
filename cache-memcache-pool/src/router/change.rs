//! Comparison of an old and a new list of servers.

use std::collections::HashMap;

/// For each position of the new list, the position of the same server in the old one. Servers are
/// identified by name; one that is listed several times keeps the order of its entries.
pub(crate) fn kept<'a>(
    old: impl IntoIterator<Item = &'a str>,
    new: &[String],
) -> Vec<Option<usize>> {
    let mut left: HashMap<&str, Vec<usize>> = HashMap::new();
    for (position, name) in old.into_iter().enumerate() {
        left.entry(name).or_default().push(position);
    }
    for positions in left.values_mut() {
        positions.reverse();
    }
    let mut position = |name: &String| left.get_mut(name.as_str()).and_then(Vec::pop);
    new.iter().map(&mut position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_identified_by_its_name() {
        let new = ["c:3", "d:4", "a:1"].map(str::to_owned);
        assert_eq!(kept(["a:1", "b:2", "c:3"], &new), [Some(2), None, Some(0)]);
    }

    #[test]
    fn each_entry_of_a_repeated_server_is_kept_once() {
        let new = ["a:1", "a:1", "a:1"].map(str::to_owned);
        assert_eq!(kept(["a:1", "b:2", "a:1"], &new), [Some(0), Some(2), None]);
    }

    #[test]
    fn lists_may_be_empty() {
        assert_eq!(kept(["a:1"], &[]), []);
        assert_eq!(kept([], &["a:1".to_owned()]), [None]);
    }
}
