//! The page that says what passes, what cannot and why, and what a Python service would gain.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::gain::Gain;
use super::suites::{BACKENDS, EXCEPTIONS, Exception, Verdict};

/// The page. What stands between two markers is written by the program.
pub(super) struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    pub(super) fn read() -> Result<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("OSLO.md");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let page = Self { path, text };
        for name in ["suites", "gain"] {
            page.between(name)
                .with_context(|| format!("the page has no section `{name}`"))?;
        }
        Ok(page)
    }

    pub(super) fn write(&self) -> Result<()> {
        Ok(fs::write(&self.path, &self.text)?)
    }

    pub(super) fn set_suites(&mut self, verdict: &Verdict) {
        let mut text = String::from("\n| suite |");
        for (crate_name, _) in BACKENDS {
            let _ = write!(text, " `{crate_name}` |");
        }
        text.push_str("\n|---|---|---|---|\n");
        for (suite, counts) in verdict.counts() {
            let _ = write!(text, "| {suite} |");
            for count in counts {
                let _ = match count {
                    Some(count) => write!(text, " {} of {} |", count.passed, count.total),
                    None => write!(text, " |"),
                };
            }
            text.push('\n');
        }
        text.push_str("\nWhat does not pass:\n\n| test | why |\n|---|---|\n");
        for Exception { tests, reason, .. } in EXCEPTIONS {
            let _ = writeln!(text, "| `{}` | {reason} |", tests.join("`, `"));
        }
        text.push('\n');
        println!("{text}");
        self.replace("suites", &text);
    }

    pub(super) fn set_gains(&mut self, gains: &[Gain]) {
        let mut text = String::from(
            "\n| | call | threads | beside | ours, calls/s | theirs | ratio |\n\
             |---|---|---|---|---|---|---|\n",
        );
        for gain in gains {
            let Gain {
                crate_name,
                call,
                threads,
                beside,
                ours,
                theirs,
            } = gain;
            let _ = writeln!(
                text,
                "| `{crate_name}` | {call} | {threads} | {beside} | {ours:.0} | {theirs:.0} | {:.1}× |",
                ours / theirs
            );
        }
        text.push('\n');
        self.replace("gain", &text);
    }

    /// Where the section begins and ends.
    fn between(&self, name: &str) -> Option<(usize, usize)> {
        let begin = format!("<!-- {name}: written by the program -->\n");
        let start = self.text.find(&begin)? + begin.len();
        let end = self
            .text
            .get(start..)?
            .find(&format!("<!-- end of {name} -->"))?;
        Some((start, start + end))
    }

    fn replace(&mut self, name: &str, text: &str) {
        if let Some((start, end)) = self.between(name) {
            self.text.replace_range(start..end, text);
        }
    }
}
