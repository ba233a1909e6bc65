//! The text shared by charts and READMEs.

use super::digits::times;
use super::report::{Line, Report, Role};

/// Formats `2.43× the best peer · 0.95× the bare client`, leaving out missing contestants.
pub(crate) fn verdict(line: &Line) -> String {
    let parts = [(Role::Peer, "best peer"), (Role::Limit, "bare client")].map(|(role, whom)| {
        let row = line.best(role)?;
        Some(format!("{} the {whom}", times(line.times(row))))
    });
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// All verdicts in one sentence, as the chart's text alternative.
pub(crate) fn summary(report: &Report) -> String {
    let lines = report.shown();
    let lines: Vec<String> = lines
        .map(|line| format!("{}: {}", line.work, verdict(line)))
        .collect();
    format!("{} beside its peers. {}", report.ours(), lines.join("; "))
}

/// The conditions of the run: rounds, machine and versions.
pub(crate) fn conditions(report: &Report) -> String {
    let versions = report.versions.iter();
    let versions: Vec<String> = versions.map(|(k, v)| format!("{k} {v}")).collect();
    format!(
        "Medians of {} interleaved rounds. {}. {}.",
        report
            .lines
            .iter()
            .map(|line| line.rounds)
            .max()
            .unwrap_or_default(),
        report.machine,
        versions.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn summary_has_every_verdict() {
        assert_eq!(
            summary(&example()),
            "cache-dict beside its peers. \
             get_multi <hot>: 2.00× the best peer · 0.50× the bare client"
        );
    }
}
