//! What a run found: the live line, the table at the end, the JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::collector::{Tally, Violation};
use super::faults::{Fault, FaultLog};

/// How a line begins that is to be shown only until the next one.
pub(crate) const LIVE: &str = "\u{1}";

/// How the line begins that sums a run up for who runs several.
pub(crate) const SUM: &str = "\u{2}";

#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) backend: String,
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    pub(crate) rate: f64,
    pub(crate) processes: u32,
    /// What was judged, and what was not.
    pub(crate) promises: Vec<String>,
    pub(crate) settle_seconds: f64,
    pub(crate) bound_seconds: f64,
    /// After a third of the run, and at its end.
    pub(crate) memory_mib: [u64; 2],
    pub(crate) tally: Tally,
    pub(crate) violations: Vec<Violation>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) figures: Vec<(String, String)>,
}

impl Outcome {
    pub(crate) fn is_good(&self) -> bool {
        self.tally.total_violations() == 0
    }

    /// One sentence, with the command that repeats the run.
    pub(crate) fn verdict(&self) -> String {
        let count = self.tally.total_violations();
        let rules: Vec<String> = self
            .tally
            .violations
            .iter()
            .map(|(rule, count)| format!("{rule} {count}×"))
            .collect();
        let minutes = self.seconds / 60.0;
        format!(
            "{count} violations ({}); to repeat: cargo xtask soak {} --minutes {minutes} --seed {}",
            rules.join(", "),
            self.backend,
            self.seed
        )
    }

    /// A few words for a line that is shared with others.
    pub(crate) fn sum(&self) -> String {
        let planned = self.faults.iter().filter(|fault| fault.planned).count();
        let calls = self.tally.total_calls();
        format!("{} {calls} calls and {planned} faults", self.backend)
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{}.json", self.backend));
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Time left, calls, misses, errors by kind, faults so far.
pub(crate) fn live(tally: &Tally, faults: &FaultLog, left: Duration) -> String {
    let all = faults.all();
    let planned = all.iter().filter(|fault| fault.planned);
    let now = all.iter().rfind(|fault| fault.end.is_none());
    let errors: Vec<String> = tally
        .errors
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    let mut text = format!(
        "{:>3}:{:02} left  {:>9} calls  {:>9} hits  {:>9} misses  {:>3} faults",
        left.as_secs() / 60,
        left.as_secs() % 60,
        tally.total_calls(),
        tally.hits,
        tally.misses,
        planned.count(),
    );
    if let Some(fault) = now {
        let _ = write!(text, " (now: {} {})", fault.kind, fault.on);
    }
    if !errors.is_empty() {
        let _ = write!(text, "  errors: {}", errors.join(", "));
    }
    if tally.total_violations() > 0 {
        let _ = write!(text, "  VIOLATIONS: {}", tally.total_violations());
    }
    text
}

pub(crate) fn table(outcome: &Outcome) -> String {
    let Outcome { tally, .. } = outcome;
    let mut text = String::new();
    let mut row = |name: &str, what: String| {
        let _ = writeln!(text, "  {name:<22}{what}");
    };
    let calls: Vec<String> = tally
        .calls
        .iter()
        .map(|(operation, count)| format!("{operation} {count}"))
        .collect();
    row(
        "run",
        format!(
            "{:.1} min, seed {}, {:.0} calls a second, {} process(es)",
            outcome.seconds / 60.0,
            outcome.seed,
            outcome.rate,
            outcome.processes
        ),
    );
    row(
        "calls",
        format!("{} ({})", tally.total_calls(), calls.join(", ")),
    );
    row(
        "keys read",
        format!("{} hits, {} misses", tally.hits, tally.misses),
    );
    row("written", format!("{} MiB", tally.written >> 20));
    row("dropped futures", tally.dropped.to_string());
    row(
        "errors during faults",
        if tally.errors.is_empty() {
            "none".to_owned()
        } else {
            let errors = tally
                .errors
                .iter()
                .map(|(kind, count)| format!("{kind} {count}"));
            errors.collect::<Vec<_>>().join(", ")
        },
    );
    row(
        "time of a call",
        format!(
            "half below {:?}, 99 % below {:?} (without faults); slowest {:.3?} of {:.0} s allowed",
            tally.latency(0.5),
            tally.latency(0.99),
            tally.slowest,
            outcome.bound_seconds
        ),
    );
    row("slow without a fault", tally.slow.to_string());
    row(
        "judged",
        format!(
            "{} events of {} keys",
            tally.events_judged, tally.keys_judged
        ),
    );
    row(
        "memory",
        format!(
            "{} MiB after a third, {} MiB at the end",
            outcome.memory_mib[0], outcome.memory_mib[1]
        ),
    );
    for (name, figure) in &outcome.figures {
        row(name, figure.clone());
    }
    let mut kinds: BTreeMap<&str, (u32, Duration)> = BTreeMap::new();
    for fault in &outcome.faults {
        let (count, slowest) = kinds.entry(&fault.kind).or_default();
        *count += 1;
        *slowest = (*slowest).max(Duration::from_nanos(fault.recovery.unwrap_or(0)));
    }
    for (kind, (count, slowest)) in kinds {
        row(
            "fault",
            format!(
                "{count:>3} × {kind}; last error {:.1} s after its end, {:.0} s allowed",
                slowest.as_secs_f64(),
                outcome.settle_seconds
            ),
        );
    }
    for why in &outcome.promises {
        row("promise", why.clone());
    }
    row(
        "violations",
        if outcome.is_good() {
            "none".to_owned()
        } else {
            outcome.verdict()
        },
    );
    format!("\n{}\n{text}", outcome.backend)
}
