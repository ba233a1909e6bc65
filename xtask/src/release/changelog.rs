//! Checks a changelog's entry for a version: `## 1.2.3 (2026-01-31)` and a description.

use semver::Version;

/// Returns what is wrong with the changelog entry for `version`, if anything. `last_day` is the
/// latest current date in any time zone.
pub(crate) fn problem(text: &str, version: &Version, last_day: &str) -> Option<String> {
    let mut entries = text.split("\n## ").skip(1);
    let entry = entries.find_map(|entry| {
        let (heading, body) = entry.split_once('\n').unwrap_or((entry, ""));
        let (first, rest) = heading.split_once(' ').unwrap_or((heading, ""));
        (first.trim_matches(['[', ']']) == version.to_string()).then_some((rest, body))
    });
    let Some((rest, body)) = entry else {
        return Some(format!("has no entry `## {version} (YYYY-MM-DD)`"));
    };
    let Some(date) = date(rest) else {
        return Some(format!(
            "does not date its entry: `## {version} {rest}` should be `## {version} (YYYY-MM-DD)`"
        ));
    };
    if date > last_day {
        return Some(format!(
            "dates its entry for {version} in the future: {date}"
        ));
    }
    let is_empty = body
        .lines()
        .all(|line| line.trim().is_empty() || line.starts_with('#'));
    is_empty.then(|| format!("says nothing under {version}: write what changed for users"))
}

fn date(text: &str) -> Option<&str> {
    let mut words = text.split(|c: char| !c.is_ascii_digit() && c != '-');
    words.find(|word| {
        let parts: Vec<&str> = word.split('-').collect();
        let [year, month, day] = parts[..] else {
            return false;
        };
        year.len() == 4
            && ("01"..="12").contains(&month)
            && ("01"..="31").contains(&day)
            && month.len() + day.len() == 4
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_of(heading: &str, body: &str) -> Option<String> {
        let text = format!("# Changelog\n\n## {heading}\n{body}\n## 0.1.0 (2025-01-01)\n\n- A.\n");
        problem(&text, &Version::new(0, 2, 0), "2026-02-01")
    }

    #[test]
    fn accepts_dated_entries() {
        for heading in [
            "0.2.0 (2026-01-31)",
            "[0.2.0] - 2026-01-31",
            "0.2.0 (2026-02-01)",
        ] {
            assert_eq!(problem_of(heading, "\n- It is.\n"), None);
        }
    }

    #[test]
    fn rejects_undated_missing_or_empty_entries() {
        for (heading, body, says) in [
            ("0.2.0 (unreleased)", "- It is.", "does not date"),
            ("0.2.0", "- It is.", "does not date"),
            ("0.2.0 (soon-to-be)", "- It is.", "does not date"),
            ("0.2.0 (2026-13-01)", "- It is.", "does not date"),
            ("0.2.0 (2026-02-02)", "- It is.", "in the future"),
            ("0.2.0 (2026-01-31)", "\n### Fixed\n", "says nothing"),
            ("0.2.1 (2026-01-31)", "- It is.", "has no entry"),
        ] {
            let said = problem_of(heading, body).unwrap();
            assert!(said.contains(says), "{heading}: {said}");
        }
    }
}
