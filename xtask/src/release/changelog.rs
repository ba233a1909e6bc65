//! A changelog's entry for a version: `## 1.2.3 (2026-01-31)`.

use semver::Version;

/// Why the changelog does not do for `version`, if so.
pub(crate) fn problem(text: &str, version: &Version) -> Option<String> {
    let heading = text.lines().find_map(|line| {
        let rest = line.strip_prefix("## ")?;
        let (first, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        (first.trim_matches(['[', ']']) == version.to_string()).then_some(rest)
    });
    match heading {
        None => Some(format!("has no entry `## {version} (YYYY-MM-DD)`")),
        Some(rest) if !has_date(rest) => Some(format!(
            "does not date its entry: `## {version} {rest}` should be `## {version} (YYYY-MM-DD)`"
        )),
        Some(_) => None,
    }
}

fn has_date(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit() && c != '-')
        .any(|word| {
            let parts: Vec<&str> = word.split('-').collect();
            let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
            lengths == [4, 2, 2]
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_of(heading: &str) -> Option<String> {
        let text = format!("# Changelog\n\n## {heading}\n\n- It is.\n\n## 0.1.0 (2025-01-01)\n");
        problem(&text, &Version::new(0, 2, 0))
    }

    #[test]
    fn a_dated_entry_will_do() {
        assert_eq!(problem_of("0.2.0 (2026-01-31)"), None);
        assert_eq!(problem_of("[0.2.0] - 2026-01-31"), None);
    }

    #[test]
    fn no_date_or_no_entry_will_not() {
        for heading in ["0.2.0 (unreleased)", "0.2.0", "0.2.0 (soon-to-be)"] {
            let said = problem_of(heading).unwrap();
            assert!(said.contains("does not date"), "{said}");
        }
        let said = problem_of("0.2.1 (2026-01-31)").unwrap();
        assert!(said.contains("has no entry"), "{said}");
    }
}
