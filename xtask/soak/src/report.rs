//! What a run found: the line that tells how it goes, the table at the end, the JSON.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::book::{Tally, Violation};
use crate::faults::{Fault, FaultLog, seconds};

#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) backend: &'static str,
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    pub(crate) rate: f64,
    /// What was judged, and what was not.
    pub(crate) promises: &'static [&'static str],
    pub(crate) settle_seconds: f64,
    pub(crate) bound_seconds: f64,
    /// After a third of the run, and at its end.
    pub(crate) memory_mib: [u64; 2],
    /// The time within which half of the calls and 99 % of them ended, without faults.
    pub(crate) latencies: [Duration; 2],
    pub(crate) tally: Tally,
    pub(crate) violations: Vec<Violation>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) figures: Vec<(String, String)>,
}

/// `get 3, set 2`.
fn listed<K: Display, V: Display>(counts: &BTreeMap<K, V>) -> String {
    let counts = counts.iter().map(|(what, count)| format!("{what} {count}"));
    counts.collect::<Vec<_>>().join(", ")
}

impl Outcome {
    /// What is wrong, with the command that repeats the run.
    pub(crate) fn verdict(&self) -> Option<String> {
        let rules = &self.tally.violations;
        (!rules.is_empty()).then(|| {
            format!(
                "violations: {}; to repeat: cargo xtask soak {} --minutes {} --seed {}",
                listed(rules),
                self.backend,
                self.seconds / 60.0,
                self.seed
            )
        })
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{}.json", self.backend));
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Time left, calls, misses, errors by kind, faults so far.
pub(crate) fn live(tally: &Tally, faults: &FaultLog, left: Duration) -> String {
    let faults = faults.all();
    let planned = faults.iter().filter(|fault| fault.planned).count();
    let mut text = format!(
        "{:>3}:{:02} left  {:>8} calls  {:>8} hits  {:>8} misses  {planned:>3} faults",
        left.as_secs() / 60,
        left.as_secs() % 60,
        tally.calls.values().sum::<u64>(),
        tally.hits,
        tally.misses,
    );
    if let Some(fault) = faults.iter().find(|fault| fault.end == u64::MAX) {
        let _ = write!(text, " (now: {} {})", fault.kind, fault.on);
    }
    for (what, counts) in [
        ("errors", listed(&tally.errors)),
        ("VIOLATIONS", listed(&tally.violations)),
    ] {
        if !counts.is_empty() {
            let _ = write!(text, "  {what}: {counts}");
        }
    }
    text
}

pub(crate) fn table(outcome: &Outcome) -> String {
    let Outcome {
        tally,
        memory_mib,
        latencies,
        ..
    } = outcome;
    let mut text = format!("\n{}\n", outcome.backend);
    let mut row = |name: &str, what: String| {
        let _ = writeln!(text, "  {name:<22}{what}");
    };
    let (minutes, seed, rate) = (outcome.seconds / 60.0, outcome.seed, outcome.rate);
    row(
        "run",
        format!("{minutes:.1} min, seed {seed}, {rate:.0} calls a second"),
    );
    row("calls", listed(&tally.calls));
    row(
        "keys read",
        format!("{} hits, {} misses", tally.hits, tally.misses),
    );
    row("dropped futures", tally.dropped.to_string());
    row("errors during faults", listed(&tally.errors));
    let [half, most] = latencies;
    row(
        "time of a call",
        format!("half within {half:?}, 99 % within {most:?} (without faults)"),
    );
    let bound = outcome.bound_seconds;
    row(
        "slowest call",
        format!("{:.3?} of {bound:.0} s allowed", tally.slowest),
    );
    row("slow without a fault", tally.slow.to_string());
    row("judged", format!("{} events", tally.events_judged));
    row(
        "memory",
        format!(
            "{} MiB after a third, {} MiB at the end",
            memory_mib[0], memory_mib[1]
        ),
    );
    for (name, figure) in &outcome.figures {
        row(name, figure.clone());
    }
    let mut kinds: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    for fault in &outcome.faults {
        let (count, slowest) = kinds.entry(&fault.kind).or_default();
        *count += 1;
        *slowest = (*slowest).max(fault.recovery);
    }
    for (kind, (count, slowest)) in kinds {
        let (slowest, settle) = (seconds(slowest), outcome.settle_seconds);
        row(
            "fault",
            format!(
                "{count} × {kind}; last error {slowest:.1} s after its end, {settle:.0} s allowed"
            ),
        );
    }
    for why in outcome.promises {
        row("promise", (*why).to_owned());
    }
    row(
        "violations",
        outcome.verdict().unwrap_or_else(|| "none".to_owned()),
    );
    text
}
