//! Generated parts of READMEs, delimited by two comments.

use anyhow::{Context, Result, ensure};

/// Replaces the part of `readme` about `topic`, which `cargo xtask COMMAND` generates.
pub(crate) fn replace(readme: &str, topic: &str, command: &str, part: &str) -> Result<String> {
    let begin = format!("<!-- {topic}: `cargo xtask {command}` writes what follows -->\n");
    let end = format!("<!-- end of {topic} -->");
    let (before, rest) = readme
        .split_once(&begin)
        .with_context(|| format!("missing line {}", begin.trim_end()))?;
    let (_, after) = rest
        .split_once(&end)
        .with_context(|| format!("missing line {end}"))?;
    ensure!(!after.contains(&begin), "there are two parts about {topic}");
    Ok(format!("{before}{begin}\n{part}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_only_the_part() {
        const BEGIN: &str = "<!-- speed: `cargo xtask bench publish` writes what follows -->\n";
        const END: &str = "<!-- end of speed -->";
        let with_part = |readme: &str, part| replace(readme, "speed", "bench publish", part);
        let readme = format!("before\n{BEGIN}old\n{END}\nafter\n");
        let new = with_part(&readme, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\nnew\n\n{END}\nafter\n"));
        assert_eq!(with_part(&new, "new\n").unwrap(), new);
        let error = with_part("nothing", "new\n").unwrap_err().to_string();
        assert!(error.contains("<!-- speed"), "{error}");
    }
}
