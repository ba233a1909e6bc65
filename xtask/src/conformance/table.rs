//! Rules × backends, with times.

use std::fmt::Write as _;

use cache_conformance::{Report, RuleReport, Verdict};

/// A line a rule, a column a backend; then what failed, in full, and the sums.
pub(crate) fn of(reports: &[Report]) -> String {
    let ids: Vec<&str> = reports
        .first()
        .map(|report| report.rules.iter().map(|rule| rule.id.as_str()).collect())
        .unwrap_or_default();
    let width = ids.iter().map(|id| id.len()).max().unwrap_or_default();

    let mut text = format!("{:width$}", "");
    for report in reports {
        let _ = write!(text, " {:>14}", report.name);
    }
    text.push('\n');
    for id in &ids {
        let _ = write!(text, "{id:width$}");
        for report in reports {
            let rule = report.rules.iter().find(|rule| rule.id == *id);
            let _ = write!(text, " {:>14}", rule.map(cell).unwrap_or_default());
        }
        text.push('\n');
    }
    for report in reports {
        for rule in &report.rules {
            if let Verdict::Failed(detail) | Verdict::StaleWaiver(detail) = &rule.verdict {
                let _ = writeln!(text, "\n{}: {}\n{detail}", report.name, rule.id);
            }
        }
    }
    text.push('\n');
    for report in reports {
        let failures = report.rules.iter().filter(|rule| rule.verdict.is_failure());
        let _ = writeln!(
            text,
            "{:<14} {:>3} rules kept, {} broken, in {:.1} s (seed {})",
            report.name,
            report.passed(),
            failures.count(),
            report.seconds,
            report.seed
        );
    }
    text
}

fn cell(rule: &RuleReport) -> String {
    match &rule.verdict {
        Verdict::Passed => format!("{:.3} s", rule.seconds),
        Verdict::Failed(_) => "FAILED".to_owned(),
        Verdict::StaleWaiver(_) => "STALE WAIVER".to_owned(),
        Verdict::Waived(_) => "waived".to_owned(),
        _ => "–".to_owned(),
    }
}
